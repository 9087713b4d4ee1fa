"""Rate and fidelity of a model as its files would have them, estimated without an export.

The rate counts latents outside of the image, which files do not code: where sides are no multiples
of 64, it is an upper bound.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from export.data import read_images
from export.model import Model
from export.objective import rate_distortion
from export.ssimulacra2 import LEAST_SIDE, distance, score
from vaecodec.bench.gains import SCORES
from vaecodec.bench.means import ms_ssim_db
from vaecodec.bench.perceptual import MS_SSIM_SIDE, ms_ssim
from vaecodec.bundle import HYPER_STRIDE, PATCH
from vaecodec.metrics import Point, bd_rate, rate_at

HYPER_PATCH = PATCH * HYPER_STRIDE
"""Pixels a side of a hyper-latent: `Model.forward` takes multiples of it."""


class Measured(NamedTuple):
    """Means over images.

    Attributes:
        bpp: bits per pixel.
        psnr_db: of RGB.
        ssimulacra2: not a number where an image is too small for it.
        ms_ssim_db: as -10 log10(1 - MS-SSIM); not a number where it was not asked for, or an image
            is too small for it.
    """

    bpp: float
    psnr_db: float
    ssimulacra2: float
    ms_ssim_db: float = math.nan


@torch.no_grad()
def measure(
    model: Model, batches: Iterable[Tensor], level: float, *, with_ms_ssim: bool = False
) -> Measured:
    """Return rate and fidelities, each the mean over images.

    Args:
        model: on whose device this runs.
        batches: uint8 images ``(n, 3, h, w)``, repeated at the edges to multiples of 64.
        level: in anchors.
        with_ms_ssim: whether to take the time for MS-SSIM.
    """
    rates: list[Tensor] = []
    psnrs: list[Tensor] = []
    scores: list[Tensor] = []
    similarities: list[float] = []
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
        x, x_hat = (t[:, :, :height, :width] for t in (x, out["x_hat"].clamp(0, 1)))
        decoded = (x_hat * 255).round()
        psnrs.append(-10 * torch.log10((x_hat - x).square().mean((1, 2, 3))))
        seen = min(height, width) >= LEAST_SIDE
        scores.append(score(distance(x, decoded / 255)) if seen else psnrs[-1] * math.nan)
        if with_ms_ssim and min(height, width) >= MS_SSIM_SIDE:
            pairs = zip(batch, decoded.to("cpu", torch.uint8), strict=True)
            similarities += [
                ms_ssim_db(ms_ssim(*(t.permute(1, 2, 0).numpy() for t in pair))) for pair in pairs
            ]
    bpp, psnr, visual = (float(torch.cat(t).mean()) for t in (rates, psnrs, scores))
    whole = len(similarities) == len(torch.cat(rates))
    return Measured(bpp, psnr, visual, fmean(similarities) if whole else math.nan)


def photographs(sources: Iterable[Path], every: int) -> Iterator[Tensor]:
    """Yield every n-th image of folders or packs, ``(1, 3, h, w)`` uint8."""
    for pixels in itertools.islice(read_images(sources, 1), 0, None, every):
        yield torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)


def write_measured(path: Path, points: list[Measured]) -> None:
    """Write a curve for `read_measured`."""
    path.write_text(json.dumps([point._asdict() for point in points], indent=1) + "\n", "utf-8")


def read_measured(path: Path) -> list[Measured]:
    """Return the curve of another run.

    Raises:
        ValueError: it is none.
    """
    try:
        return [Measured(**point) for point in json.loads(path.read_text("utf-8"))]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no curve that --json wrote") from error


def compare_measured(earlier: list[Measured], found: list[Measured]) -> Iterator[str]:
    """Yield BD-rates against an earlier curve, and the bits at some scores, as lines."""
    for name, unit in (("psnr_db", "dB"), ("ms_ssim_db", "dB"), ("ssimulacra2", "")):
        one, other = ([(p.bpp, getattr(p, name)) for p in points] for points in (earlier, found))
        yield f"BD-rate at equal {name}: {_percent(partial(_bd_percent, one, other, unit))}"
    one, other = ([(p.bpp, p.ssimulacra2) for p in points] for points in (earlier, found))
    for wanted in SCORES:
        figure = _percent(partial(_percent_at, one, other, wanted))
        yield f"bits at SSIMULACRA 2 of {wanted:g}: {figure}"


def _bd_percent(one: list[Point], other: list[Point], unit: str) -> float:
    return bd_rate(one, other, unit).percent


def _percent_at(one: list[Point], other: list[Point], fidelity: float) -> float:
    return 100 * (rate_at(other, fidelity) / rate_at(one, fidelity) - 1)


def _percent(compare: Callable[[], float]) -> str:
    """Return what a comparison comes to, or why it cannot be made."""
    try:
        return f"{compare():+.1f}%"
    except ValueError as error:
        return str(error)
