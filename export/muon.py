"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024).

torch.optim.Muon iterates in bfloat16, which CPUs without AVX-512 emulate: a step of this project's
network then takes 2.8 s instead of 0.1. This one iterates in float32 on a CPU, takes matrices of
one shape together, and divides them among the processes of a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: the steepest at zero that keeps singular values near 1."""
ITERATIONS = 5
ADAM_RMS = 0.2
"""Root mean square of a typical AdamW update, in units of its rate (Liu et al. 2025, 2.2)."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each of ``(n, rows, columns)`` matrices near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for 2-D parameters, its updates scaled to AdamW's root mean square."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(params), defaults)
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            moving: list[nn.Parameter] = []
            directions: list[Tensor] = []
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                held = self.state[parameter]
                if not held:
                    held["momentum"] = torch.zeros_like(parameter)
                held["momentum"].lerp_(gradient, 1 - group["momentum"])
                moving.append(parameter)
                directions.append(gradient.lerp(held["momentum"], group["momentum"]))
            for parameter, direction in zip(moving, self._orthogonal(directions), strict=True):
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                # The rate may be a tensor on the device: a recorded step then sees it change.
                scale = ADAM_RMS * max(parameter.shape) ** 0.5
                parameter.sub_(direction * (group["lr"] * scale))

    def _orthogonal(self, directions: list[Tensor]) -> list[Tensor]:
        """Orthogonalise matrices; processes divide them among themselves, and hand on the results.

        All processes have the same matrices, whose gradients they share.
        """
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        rank = distributed.get_rank() if processes > 1 else 0
        found = [torch.zeros_like(direction) for direction in directions]
        by_shape: dict[torch.Size, list[int]] = defaultdict(list)
        for index, owner in enumerate(_owners([d.shape for d in directions], processes)):
            if owner == rank:
                by_shape[directions[index].shape].append(index)
        for indices in by_shape.values():
            stacked = torch.stack([directions[index] for index in indices])
            results = orthogonalise(stacked.to(self.precision))
            for index, result in zip(indices, results, strict=True):
                found[index].copy_(result)
        if processes > 1:
            flat = torch.cat([matrix.flatten() for matrix in found])
            distributed.all_reduce(flat)  # zeros but for the owner's, so the sum is exact
            parts = flat.split([matrix.numel() for matrix in found])
            found = [part.view_as(m) for part, m in zip(parts, found, strict=True)]
        return found


def _owners(shapes: list[torch.Size], processes: int) -> list[int]:
    """Return which process takes each matrix, so that all have about the same work."""
    costs = [min(shape) ** 2 * max(shape) for shape in shapes]
    loads = [0] * processes
    owners = [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=costs.__getitem__, reverse=True):
        owners[index] = loads.index(min(loads))
        loads[owners[index]] += costs[index]
    return owners
