"""Starting a model from another one: the same function at first, in a larger network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architecture import EXPONENT_MAX, SCALE_LOG_STEP
from export.model import BASE_SCALE_MIN, Model
from export.networks import Block, Depthwise, ExactBlock, Modulation, at_level, nearest_anchor
from vaecodec.bundle import ANCHORS, PASSES
from vaecodec.tables import SCALE_COUNT

LATENT_TABLES = ("log_gain", "log_inverse_gain", "g_s.linear")
"""Parameters whose columns are latents: what `source` has not keeps the value it started with."""


@torch.no_grad()
def inherit(model: Model, source: Model) -> None:
    """Give `model` the weights of `source`.

    `model` may have wider networks (further channels start at random, and what they lead to
    ignores them), larger depthwise kernels (zero around what they inherit), more blocks (they start
    as the identity), other knots, and another range of lmbda (tables are read off at the same
    lmbda, and beyond the source's range in a straight line).
    Further latents belong to the linear path alone at first, so `model` needs a linear start
    before; they add to what is coded, and the networks ignore them.

    Raises:
        ValueError: `model` is smaller, or has another number of hyper-latents.
    """
    if model.arch.hyper != source.arch.hyper:
        raise ValueError("the model to start from has another number of hyper-latents")
    latents = source.arch.latent
    inherited = dict(source.named_parameters())
    # In float64, so that levels which mean the same fall on themselves.
    lmbda = model.arch.lmbda(torch.arange(ANCHORS, dtype=torch.float64))
    anchor = source.arch.anchor(lmbda).float()
    for name, module in model.named_modules():
        is_table = module is model or isinstance(module, Modulation)
        for leaf, parameter in module.named_parameters(prefix=name, recurse=False):
            if leaf not in inherited:
                continue
            value = inherited[leaf]
            if isinstance(module, Depthwise) and leaf.endswith("weight"):
                value = _widened(value, module.kernel)
            if is_table:
                value = _rows(value, anchor[:: model.arch.knot_spacing])
            for target, part in _parts(leaf, parameter, value, (model.arch.latent, latents)):
                _place(target, part, leaf)
        first = next(module.named_parameters(prefix=name), ("", None))[0]
        if isinstance(module, Block | ExactBlock) and first not in inherited:
            _silence(module)
    surplus = set(inherited) - {name for name, _ in model.named_parameters()}
    if surplus:
        raise ValueError(f"the model to start from is larger: it has {min(surplus)}")
    nearest = nearest_anchor(anchor).clamp(0, ANCHORS - 1)
    growth = _rows(source.log_gain, anchor) - _rows(source.log_gain, nearest)
    rows = nearest.long()
    base = source.base_scale[rows] + torch.round(growth / SCALE_LOG_STEP)
    model.base_scale[:, :latents] = base.clamp(BASE_SCALE_MIN, SCALE_COUNT - 1)
    exponent = source.exponent[rows] + torch.round(growth / math.log(2))
    model.exponent[:, :latents] = exponent.clamp(0, EXPONENT_MAX)
    model.g_s.latent_unit[:latents] = source.g_s.latent_unit
    # Further latents are those of what the inherited ones leave.
    further = model.g_a.linear[latents:]
    further -= further @ source.g_s.linear @ source.g_a.linear


def _rows(table: Tensor, anchor: Tensor) -> Tensor:
    return at_level(table, anchor).flatten(1)


def _widened(kernels: Tensor, side: int) -> Tensor:
    """Return depthwise kernels ``(c, k * k)`` in the middle of larger ones ``(c, side * side)``."""
    smaller = math.isqrt(kernels.shape[1])
    if side < smaller:
        raise ValueError(f"the model to start from is larger: it has kernels of {smaller}")
    border = (side - smaller) // 2
    return functional.pad(kernels.view(-1, smaller, smaller), (border,) * 4).flatten(1)


def _parts(
    name: str, parameter: Tensor, value: Tensor, latents: tuple[int, int]
) -> list[tuple[Tensor, Tensor]]:
    """Pair views of a parameter with what each inherits, so that every view grows at its end.

    `latents` are those of the model and of its source.
    """
    layer = name.split(".")[-2:]
    if layer[0] == "gate":  # the channels of the opening, then those of the signal
        return list(zip(parameter.chunk(2), value.chunk(2), strict=True))
    if layer[0] in ("mean", "scale"):  # the channels coded at each of the four places
        return list(zip(parameter.chunk(PASSES), value.chunk(PASSES), strict=True))
    if name in LATENT_TABLES:
        return [(parameter[:, : value.shape[1]], value)]
    if (
        layer == ["reduce", "weight"]
        and name.startswith("context.")
        and value.shape[1] > latents[1]
    ):
        # The channels of the features, then those of the latents.
        columns = (
            t.tensor_split([t.shape[1] - count], dim=1)
            for t, count in zip((parameter, value), latents, strict=True)
        )
        return list(zip(*columns, strict=True))
    return [(parameter, value)]


def _place(target: Tensor, value: Tensor, name: str) -> None:
    """Copy to the beginning of a larger parameter; what its rows do not inherit is zero.

    Rows that it does not inherit stay as they are.
    """
    if any(new < old for new, old in zip(target.shape, value.shape, strict=True)):
        raise ValueError(f"the model to start from is larger: it has more of {name}")
    rows = target[: len(value)]
    rows.zero_()
    rows[tuple(slice(size) for size in value.shape)] = value


def _silence(block: Block | ExactBlock) -> None:
    """Make a residual block the identity, while its gradients still pass."""
    last = (block.project, block.merge) if isinstance(block, Block) else (block.project,)
    for module in last:
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
