"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024).

torch.optim.Muon iterates in bfloat16, which CPUs without AVX-512 emulate: a step of this project's
network then takes 2.8 s instead of 0.1. This one iterates in float32 on a CPU, and takes matrices
of one shape together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

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
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                held = self.state[parameter]
                if not held:
                    held["momentum"] = torch.zeros_like(parameter)
                held["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(held["momentum"], group["momentum"])
                by_shape[parameter.shape].append((parameter, nesterov))
            for shape, members in by_shape.items():
                stacked = torch.stack([direction for _, direction in members])
                directions = orthogonalise(stacked.to(self.precision))
                # The rate may be a tensor on the device: a recorded step then sees it change.
                updates = directions.float() * (group["lr"] * ADAM_RMS * max(shape) ** 0.5)
                for (parameter, _), update in zip(members, updates, strict=True):
                    if group["weight_decay"]:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update)
