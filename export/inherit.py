"""Starting a model from another one: the same function at first, in a larger network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from export.architecture import EXPONENT_MAX, SCALE_LOG_STEP
from export.model import BASE_SCALE_MIN, Model
from export.networks import Block, ExactBlock, Modulation, at_level, nearest_anchor
from vaecodec.bundle import ANCHORS
from vaecodec.tables import SCALE_COUNT


@torch.no_grad()
def inherit(model: Model, source: Model) -> None:
    """Give `model` the weights of `source`.

    `model` may have more blocks (they start as the identity), other knots, and another range of
    lmbda (tables are read off at the same lmbda, and beyond the source's range in a straight line).

    Raises:
        ValueError: `model` differs in anything else, channels for instance.
    """
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
            if is_table:
                value = _rows(value, anchor[:: model.arch.knot_spacing])
            if value.shape != parameter.shape:
                raise ValueError(f"the model to start from has another shape of {leaf}")
            parameter.copy_(value)
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
    model.base_scale.copy_(base.clamp(BASE_SCALE_MIN, SCALE_COUNT - 1))
    exponent = source.exponent[rows] + torch.round(growth / math.log(2))
    model.exponent.copy_(exponent.clamp(0, EXPONENT_MAX))
    model.g_s.latent_unit.copy_(source.g_s.latent_unit)


def _rows(table: Tensor, anchor: Tensor) -> Tensor:
    return at_level(table, anchor).flatten(1)


def _silence(block: Block | ExactBlock) -> None:
    """Make a residual block the identity, while its gradients still pass."""
    last = (block.project, block.merge) if isinstance(block, Block) else (block.project,)
    for module in last:
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
