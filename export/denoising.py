"""Training of a denoiser as a task.

Every term of the loss grows nearly as the logarithm of what it measures: a squared error, or rate
plus weighted error. So faint and strong noise, low and high levels count nearly alike. Of errors it
is the fourth root: what a crop has of an image's error, and so of its PSNR, is the more the busier
the crop is, which logarithms of single crops would leave out.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.degrade import Degradations, in_8_bits
from export.denoiser import Denoiser
from export.jpeg import jpeg
from export.log import save_plot
from export.objective import rate_distortion
from export.task import Batch, Network
from vaecodec.bundle import ANCHORS, PATCH

CODED_SHARE = 1 / 3
"""Share of a batch that goes through rounding and prior; the rest trains what needs no file."""
GREY_SHARE = 0.06
"""Share of a batch that is grey, its noise the same in all channels."""
ERROR_FLOOR = 1.0
"""Squared error, in 8-bit units, under which an image is as good as clean."""
ERROR_MOST = 2000.0
"""Squared error beyond which an image is lost, and counts by its logarithm: no such one may sway
the others."""
ERROR_POWER = 0.25
CODED_FLOOR = 5.0
"""The same of what is coded: flat crops, which cost nearly nothing, would outweigh all others."""
ERROR_LEAST = 1e-3
"""What no error is told to be less than: an image that is exact has no PSNR."""
OUTPUTS = ("estimate", "decoded", "restored")
VALIDATION_SIGMAS = (0.0, 15.0, 25.0, 50.0)
VALIDATION_JPEG = 20.0
VALIDATION_SHIFT = (5, 3)
"""Rows and columns that are cut off a JPEG image, once more: blocks begin elsewhere then."""
VALIDATION_SEED = 1
VALIDATION_BATCH = 4


class Denoising:
    """See `export.task.Task`."""

    validation_fields: tuple[str, ...] = ("damage", *(f"{name}_db" for name in OUTPUTS))

    def __init__(self, model: Denoiser, held_out: Tensor) -> None:
        self.arch = model.arch
        self.degradations = Degradations()
        self.held_out = held_out

    def prepare(self, x: Tensor, generator: torch.Generator) -> Batch:
        """Return images, some of them grey, and what became of them."""
        is_grey = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < GREY_SHARE
        x = torch.where(is_grey, x.mean(1, keepdim=True), x)
        noisy = self.degradations(x, generator, is_grey)
        coded = _coded(len(x))
        noisy[:coded] = in_8_bits(noisy[:coded])  # as all images are that come to be coded
        return {"x": x, "noisy": noisy.contiguous(memory_format=torch.channels_last)}

    def objective(self, network: Network, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the losses of what the networks on pixels, decoder and files give."""
        x, anchor = batch["x"], batch["anchor"]
        coded = _coded(len(x))
        out = network(batch["noisy"], anchor, coded)
        errors = {name: squared_error(out[name], x[-len(out[name]) :]) for name in OUTPUTS}
        measured = rate_distortion(out, x[:coded], hard=False)
        cost = measured.bpp + self.arch.lmbda(anchor[:coded]) * (measured.mse + CODED_FLOOR)
        total = sum((_weighed(error).mean() for error in errors.values()), torch.log(cost).mean())
        means = {f"{name}_db": _psnr_db(error.detach()) for name, error in errors.items()}
        return total, means | {"bpp": measured.bpp.detach().mean()}

    def validate(self, model: nn.Module) -> list[list[float | str]]:
        """Measure held-out images without noise, with noise of some deviations, and as JPEG."""
        if not isinstance(model, Denoiser):
            raise TypeError(f"a {type(model).__name__} is no denoiser")
        means = measure_parts(model, self.held_out.split(VALIDATION_BATCH))
        return [[damage, *(parts[name] for name in OUTPUTS)] for damage, parts in means.items()]

    def plot(self, validation: Path, target: Path) -> None:
        """Draw what became of each damage over the steps."""
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        with validation.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                curves[row["damage"]].append((float(row["step"]), float(row["restored_db"])))
        save_plot(curves, target, x="step", y="PSNR (dB), restored")


def _weighed(error: Tensor) -> Tensor:
    """Return what squared errors count, in the loss: a power, and smoothly on as a logarithm."""
    usual = (error + ERROR_FLOOR).clamp_max(ERROR_MOST)
    lost = torch.log((error + ERROR_FLOOR) / ERROR_MOST).clamp_min(0)
    return usual**ERROR_POWER / ERROR_POWER + ERROR_MOST**ERROR_POWER * lost


def _coded(count: int) -> int:
    """Return how many images of a batch, the first ones, are coded."""
    return max(1, round(CODED_SHARE * count))


def squared_error(image: Tensor, clean: Tensor) -> Tensor:
    """Return the mean squared error of each image, ``(n,)``, in 8-bit units."""
    return (image - clean).square().mean((1, 2, 3)) * 255**2


def _psnr_db(error: Tensor) -> Tensor:
    return (10 * torch.log10(255**2 / error.clamp_min(ERROR_LEAST))).mean()


@torch.no_grad()
def measure_parts(
    model: Denoiser, batches: Iterable[Tensor], *, ceiling: bool = False
) -> dict[str, dict[str, float]]:
    """Return by damage the PSNR (dB), a mean over images, of what each part of a denoiser gives.

    Args:
        model: on whose device this runs.
        batches: uint8 images ``(n, 3, h, w)``, repeated at the edges to multiples of 16.
        ceiling: whether to add, as "ceiling", what the autoencoder makes of the clean image.
    """
    errors: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    device = next(model.parameters()).device
    for index, batch in enumerate(batches):
        height, width = batch.shape[2:]
        edges = (0, -width % PATCH, 0, -height % PATCH)
        clean = functional.pad(batch.float().div(255), edges, mode="replicate")
        top = torch.full((len(batch),), ANCHORS - 1.0, device=device)
        for damage, damaged in _damaged(clean, VALIDATION_SEED + index):
            noisy = damaged.to(device).contiguous(memory_format=torch.channels_last)
            out = model(noisy, top, 0)
            if ceiling:
                out["ceiling"] = model.decode(model.vae.g_a(clean.to(device), top), top)
            for name, image in out.items():
                pair = (image.clamp(0, 1).cpu(), clean)
                error = squared_error(*(t[:, :, :height, :width] for t in pair))
                errors[damage][name].append(error)
    return {
        damage: {name: round(float(_psnr_db(torch.cat(parts))), 4) for name, parts in named.items()}
        for damage, named in errors.items()
    }


def _damaged(clean: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield what becomes of images that a denoiser is judged on, always the same."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    for sigma in VALIDATION_SIGMAS:
        yield f"noise {sigma:.0f}", clean + sigma / 255 * noise
    quality = torch.full((len(clean),), VALIDATION_JPEG)
    subsampled = torch.ones(len(clean), dtype=torch.bool)
    yield f"JPEG {VALIDATION_JPEG:.0f}", jpeg(clean, quality, subsampled)
    top, left = VALIDATION_SHIFT
    placed = functional.pad(clean, (left, 0, top, 0), mode="replicate")
    cut = jpeg(placed, quality, subsampled)[:, :, top:, left:]
    yield f"JPEG {VALIDATION_JPEG:.0f} cut", cut
