"""Rate and fidelity of a model as its files would have them, estimated without an export.

The rate counts latents outside of the image, which files do not code: where sides are no multiples
of 64, it is an upper bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from export.data import read_images
from export.model import Model
from export.objective import rate_distortion
from vaecodec.bundle import HYPER_STRIDE, PATCH
from vaecodec.metrics import Point

HYPER_PATCH = PATCH * HYPER_STRIDE
"""Pixels a side of a hyper-latent: `Model.forward` takes multiples of it."""


@torch.no_grad()
def measure(model: Model, batches: Iterable[Tensor], level: float) -> Point:
    """Return bits per pixel and PSNR (dB), each the mean over images.

    Args:
        model: on whose device this runs.
        batches: uint8 images ``(n, 3, h, w)``, repeated at the edges to multiples of 64.
        level: in anchors.
    """
    rates: list[Tensor] = []
    psnrs: list[Tensor] = []
    device = model.log_gain.device
    for batch in batches:
        height, width = batch.shape[2:]
        edges = (0, -width % HYPER_PATCH, 0, -height % HYPER_PATCH)
        x = functional.pad(batch.to(device).float().div(255), edges, mode="replicate")
        x = x.contiguous(memory_format=torch.channels_last)
        anchor = torch.full((len(x),), level, device=device)
        out = model(x, anchor)
        bpp = rate_distortion(out, x, hard=True).bpp
        rates.append(bpp * (x.shape[2] * x.shape[3] / (height * width)))
        error = (out["x_hat"].clamp(0, 1) - x)[:, :, :height, :width].square().mean((1, 2, 3))
        psnrs.append(-10 * torch.log10(error))
    return float(torch.cat(rates).mean()), float(torch.cat(psnrs).mean())


def photographs(sources: Iterable[Path], every: int) -> Iterator[Tensor]:
    """Yield every n-th image of folders or packs, ``(1, 3, h, w)`` uint8."""
    for pixels in itertools.islice(read_images(sources, 1), 0, None, every):
        yield torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
