"""Noise of known strength on a folder of images, and what our denoiser and others leave of it.

As the literature measures: normal noise of one deviation is added to images of 8 bits, and neither
clipped nor rounded; what comes out is clipped. Files are made of images, so the noisy one is
rounded for these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean

import numpy as np

from vaecodec.bench.denoisers import Colours, Method
from vaecodec.bench.folder import check_plain, load_image
from vaecodec.bench.perceptual import SSIM_SIDE, ssim
from vaecodec.bench.results import PeerInfo, Skipped
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InsufficientMemoryError, LimitError
from vaecodec.metrics import bpp
from vaecodec.runtime import memory_errors

OURS, UNREFINED, NOISY = "vaecodec", "vaecodec, without refinement", "noisy"
DEFAULT_SIGMAS = (15.0, 25.0, 50.0)
SEED = 0
_WARM = 64
"""Pixels a side of what every method denoises once before it is timed."""

Progress = Callable[[int, int, str], None]
"""Called with the images done, the images in all, and the name of the last."""
Notice = Callable[[Skipped], None]


@dataclass(frozen=True, slots=True)
class DenoisedRow:
    """What one method made of one image, or of several in the mean.

    Attributes:
        image: Its name; empty for a mean.
        method: Its name; "noisy" is the image as it was given to all of them.
        sigma: Standard deviation of the noise, of 255.
        psnr_db: Over all samples of RGB.
        ssim: Of Wang et al. 2004, the mean over the channels of RGB.
        seconds_per_megapixel: What it took; None of the noisy image.
    """

    image: str
    method: str
    sigma: float
    psnr_db: float
    ssim: float
    seconds_per_megapixel: float | None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a noisy image, or the mean of several.

    Attributes:
        image: Its name; empty for a mean.
        denoised: Whether the file was made without the noise.
        sigma: Standard deviation of the noise, of 255.
        quality: 0 to 100.
        bpp: Bits of the file per pixel.
        psnr_db: Of the opened file to the image before it was noisy.
    """

    image: str
    denoised: bool
    sigma: float
    quality: float
    bpp: float
    psnr_db: float


@dataclass(frozen=True, slots=True)
class DenoisingReport:
    """What came of a folder.

    Attributes:
        bundle: Its name.
        model_id: Its id, in hexadecimal.
        seed: Of the noise.
        methods: The other denoisers.
        means: Over the images, by deviation and method.
        files: Over the images, by deviation, kind and quality.
        images: Every image by itself.
        image_files: Every file by itself.
        skipped: The images that were left out.
        machine: What the times depend on.
    """

    bundle: str
    model_id: str
    seed: int
    methods: tuple[PeerInfo, ...]
    means: tuple[DenoisedRow, ...]
    files: tuple[FileRow, ...]
    images: tuple[DenoisedRow, ...]
    image_files: tuple[FileRow, ...]
    skipped: tuple[Skipped, ...]
    machine: str

    @property
    def image_count(self) -> int:
        """How many images were measured."""
        return len({row.image for row in self.images})


def measure_denoising(
    codec: Codec,
    paths: Sequence[Path],
    *,
    sigmas: Iterable[float] = DEFAULT_SIGMAS,
    methods: Sequence[Method] = (),
    qualities: Iterable[float] = (),
    seed: int = SEED,
    machine: str = "",
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> DenoisingReport:
    """Denoise every image at every strength of noise, by every method.

    Args:
        codec: What to measure.
        paths: Images.
        sigmas: Standard deviations, of 255.
        methods: Other denoisers.
        qualities: Of files that are made of every noisy image, with its noise and without.
        seed: Of the noise, which is the same at every deviation but for its strength.
        machine: What the report is to say of it.
        progress: Told of every image done.
        notice: Told of every image left out.

    Raises:
        ImageError: If no image can be used.
        ModelError: If the bundle has no denoiser.
    """
    codec.bundle.denoiser()
    sigmas, qualities = sorted(set(sigmas)), sorted(set(qualities))
    rows: list[DenoisedRow] = []
    files: list[FileRow] = []
    skipped: list[Skipped] = []
    for index, path in enumerate(paths):
        try:
            with memory_errors():
                image = load_image(path, codec.limits)
                check_plain(image, SSIM_SIDE)
                clean = (image.rgb() / np.float32(255)).astype(np.float32)
                if not rows:
                    _warm_up(codec, methods, clean)
                rng = np.random.default_rng([seed, index])
                noise = rng.standard_normal(clean.shape, np.float32)
                for sigma in sigmas:
                    noisy = (clean + np.float32(sigma / 255) * noise).astype(np.float32)
                    rows += _rows(codec, methods, path.name, clean, noisy, sigma)
                    files += _files(codec, path.name, clean, noisy, sigma, qualities)
        except (ImageError, LimitError, InsufficientMemoryError) as error:
            skipped.append(Skipped(path.name, str(error)))
            if notice:
                notice(skipped[-1])
        if progress:
            progress(index + 1, len(paths), path.name)
    if not rows:
        raise ImageError("no image of the folder can be used")
    return DenoisingReport(
        bundle=codec.bundle.name,
        model_id=codec.bundle.model_id.hex(),
        seed=seed,
        methods=tuple(method.info() for method in methods),
        means=tuple(_means(rows)),
        files=tuple(_file_means(files)),
        images=tuple(rows),
        image_files=tuple(files),
        skipped=tuple(skipped),
        machine=machine,
    )


def _warm_up(codec: Codec, methods: Sequence[Method], clean: Colours) -> None:
    """Let everything be loaded and compiled before it is timed."""
    part = np.ascontiguousarray(clean[:_WARM, :_WARM])
    codec.denoise(part)
    for method in methods:
        method(part, 0.1)


def _rows(
    codec: Codec,
    methods: Sequence[Method],
    name: str,
    clean: Colours,
    noisy: Colours,
    sigma: float,
) -> list[DenoisedRow]:
    runs: dict[str, Callable[[], Colours]] = {
        OURS: lambda: codec.denoise(noisy),
        UNREFINED: lambda: codec.denoise(noisy, refine=False),
    }
    runs |= {method.title: partial(method, noisy, sigma / 255) for method in methods}
    rows = [DenoisedRow(name, NOISY, sigma, *_judge(noisy, clean), None)]
    megapixels = clean.shape[0] * clean.shape[1] / 1e6
    for method, run in runs.items():
        began = time.perf_counter()
        restored = run()
        seconds = time.perf_counter() - began
        rows.append(
            DenoisedRow(name, method, sigma, *_judge(restored, clean), seconds / megapixels)
        )
    return rows


def _files(
    codec: Codec,
    name: str,
    clean: Colours,
    noisy: Colours,
    sigma: float,
    qualities: Iterable[float],
) -> list[FileRow]:
    pixels = np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)
    rows: list[FileRow] = []
    for quality in qualities:
        for denoised in (False, True):
            data = codec.encode(pixels, quality=quality, denoise=denoised)
            opened = (codec.decode_raster(data).rgb() / np.float32(255)).astype(np.float32)
            rate = bpp(len(data), pixels.shape[1], pixels.shape[0])
            rows.append(FileRow(name, denoised, sigma, quality, rate, _psnr_db(opened, clean)))
    return rows


def _judge(image: Colours, clean: Colours) -> tuple[float, float]:
    """Return PSNR and SSIM, of what is clipped to the range of pixels."""
    clipped = image.clip(0, 1)
    return _psnr_db(clipped, clean), ssim(clipped, clean)


def _psnr_db(image: Colours, clean: Colours) -> float:
    difference = image - clean
    return float(-10 * np.log10(np.mean(np.square(difference), dtype=np.float64)))


def _means(rows: list[DenoisedRow]) -> Iterable[DenoisedRow]:
    order = list(dict.fromkeys(row.method for row in rows))

    def key(row: DenoisedRow) -> tuple[float, int]:
        return row.sigma, order.index(row.method)

    for (sigma, method), group in groupby(sorted(rows, key=key), key=key):
        members = list(group)
        times = [row.seconds_per_megapixel for row in members if row.seconds_per_megapixel]
        yield DenoisedRow(
            "",
            order[method],
            sigma,
            fmean(row.psnr_db for row in members),
            fmean(row.ssim for row in members),
            fmean(times) if times else None,
        )


def _file_means(rows: list[FileRow]) -> Iterable[FileRow]:
    def key(row: FileRow) -> tuple[float, bool, float]:
        return row.sigma, row.denoised, row.quality

    for (sigma, denoised, quality), group in groupby(sorted(rows, key=key), key=key):
        members = list(group)
        rate, psnr = fmean(row.bpp for row in members), fmean(row.psnr_db for row in members)
        yield FileRow("", denoised, sigma, quality, rate, psnr)


def denoising_table(report: DenoisingReport) -> str:
    """Return all means, a line for each."""
    width = max(len(row.method) for row in report.means)
    lines = [
        f"{report.bundle} ({report.model_id}), means over {report.image_count} images, noise of "
        f"seed {report.seed}",
        *(f"{info.title} ({info.library}): {info.settings}" for info in report.methods),
        f"{'sigma':>5} {'method':<{width}} {'psnr_db':>8} {'ssim':>7} {'s_per_MP':>9}",
    ]
    for row in report.means:
        seconds = row.seconds_per_megapixel
        lines.append(
            f"{row.sigma:5g} {row.method:<{width}} {row.psnr_db:8.3f} {row.ssim:7.4f} "
            f"{'-' if seconds is None else f'{seconds:.2f}':>9}"
        )
    if report.files:
        lines += ["", f"{'sigma':>5} {'file':<8} {'quality':>7} {'bpp':>8} {'psnr_db':>8}"]
        lines += [
            f"{row.sigma:5g} {'denoised' if row.denoised else 'plain':<8} {row.quality:7.1f} "
            f"{row.bpp:8.4f} {row.psnr_db:8.3f}"
            for row in report.files
        ]
    return "\n".join(lines)
