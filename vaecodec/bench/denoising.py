"""A folder of images, damaged in a known way, and what our denoiser and others make of it.

As the literature measures: normal noise of one deviation is added to images of 8 bits, and neither
clipped nor rounded; what comes out is clipped. Files are made of images, so the noisy one is
clipped and rounded for these, and restored once more from that, as what they can be compared with.
Or the images go through JPEG, as Pillow writes it by default.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.bench.denoising_peers import Colours, Method
from vaecodec.bench.denoising_report import DenoisedRow, DenoisingReport, FileRow
from vaecodec.bench.folder import check_plain, load_image
from vaecodec.bench.perceptual import SSIM_SIDE, ssim
from vaecodec.bench.results import Skipped
from vaecodec.bench.sheet import Panel
from vaecodec.bench.views import CROP_HEIGHT, CROP_WIDTH
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InsufficientMemoryError, LimitError
from vaecodec.image import read_image
from vaecodec.metrics import bpp
from vaecodec.raster import Raster
from vaecodec.runtime import memory_errors

OURS, UNREFINED, DAMAGED = "vaecodec", "vaecodec, without refinement", "damaged"
OURS_OF_8_BITS = "vaecodec, of 8 bits"
SEED = 0
_CROP = CROP_HEIGHT, CROP_WIDTH
_WARM = 64
"""Pixels a side of what every method denoises once before it is timed."""

Progress = Callable[[int, int, str, Sequence[DenoisedRow | FileRow]], None]
"""Called with the images done, the images in all, the name of the last and what it measures."""
Notice = Callable[[Skipped], None]
Row = TypeVar("Row")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to an image.

    Attributes:
        sigma: Standard deviation of noise, of 255.
        jpeg: Quality of a JPEG file that it becomes instead.
    """

    sigma: float = 0.0
    jpeg: int | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"noise {self.sigma:g}" if self.jpeg is None else f"JPEG {self.jpeg}"

    def __call__(self, clean: Colours, noise: Colours) -> Colours:
        """Return what becomes of an image; the noise has a deviation of 1."""
        if self.jpeg is None:
            return np.add(clean, np.float32(self.sigma / 255) * noise, dtype=np.float32)
        file = io.BytesIO()
        Image.fromarray(_in_8_bits(clean)).save(file, "JPEG", quality=self.jpeg)
        return _colours(read_image(file.getvalue()))


DEFAULT_DAMAGES = tuple(Damage(sigma) for sigma in (15.0, 25.0, 50.0))


def measure_denoising(
    codec: Codec,
    paths: Sequence[Path],
    *,
    damages: Sequence[Damage] = DEFAULT_DAMAGES,
    methods: Sequence[Method] = (),
    qualities: Iterable[float] = (),
    seed: int = SEED,
    machine: str = "",
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> DenoisingReport:
    """Restore every image from every damage, by every method.

    Args:
        codec: What to measure.
        paths: Images.
        damages: What is done to every image.
        methods: Other denoisers, which are told the deviation of noise, and get no other damage.
        qualities: Of files that are made of every damaged image, as it is and denoised, and of the
            image as it was.
        seed: Of the noise, which is the same at every deviation but for its strength.
        machine: What the report is to say of it.
        progress: Told of every image done.
        notice: Told of every image left out.

    Raises:
        ImageError: If no image can be used.
        ModelError: If the bundle has no denoiser.
    """
    codec.bundle.require_denoiser()
    qualities = sorted(set(qualities))
    rows: list[DenoisedRow] = []
    files: list[FileRow] = []
    skipped: list[Skipped] = []
    for index, path in enumerate(paths):
        of_image: list[DenoisedRow] = []
        its_files: list[FileRow] = []
        try:
            with memory_errors():
                image = _load(path, codec)
                clean = _colours(image)
                if not rows:
                    _warm_up(codec, methods, clean)
                noise = _noise(image, seed, index)
                for damage in damages:
                    damaged = damage(clean, noise)
                    told = methods if damage.sigma else ()
                    of_image += _rows(codec, told, path.name, clean, damaged, damage)
                    its_files += _files(codec, path.name, clean, damaged, damage, qualities)
            rows += of_image
            files += its_files
        except (ImageError, LimitError, InsufficientMemoryError) as error:
            of_image, its_files = [], []
            skipped.append(Skipped(path.name, str(error)))
            if notice:
                notice(skipped[-1])
        if progress:
            progress(index + 1, len(paths), path.name, (*of_image, *its_files))
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


def side_by_side(
    codec: Codec,
    paths: Sequence[Path],
    shown: Iterable[Path],
    damage: Damage,
    methods: Sequence[Method] = (),
    *,
    seed: int = SEED,
) -> list[list[Panel]]:
    """Return crops from the middle of some images: damaged, by us, by others, and as they were.

    Args:
        codec: Ours.
        paths: All images that were given to `measure_denoising`, so that the noise is the same.
        shown: Those to show.
        damage: What is done to them; where it is nothing, the image as it was comes first.
        methods: Other denoisers.
        seed: Of the noise.
    """
    rows: list[list[Panel]] = []
    for path in shown:
        image = _load(path, codec)
        clean = _colours(image)
        damaged = damage(clean, _noise(image, seed, paths.index(path)))
        told = methods if damage.sigma else ()
        of_methods = {method.title: method(damaged, damage.sigma / 255) for method in told}
        is_damaged = not np.array_equal(damaged, clean)
        images = {damage.name: damaged} if is_damaged else {}
        images |= {OURS: codec.denoise(damaged), **of_methods}
        panels = [
            Panel(title, f"{_judge(image, clean)[0]:.2f} dB" if is_damaged else "", _middle(image))
            for title, image in images.items()
        ]
        if is_damaged:
            rows.append([*panels, Panel("original", path.name, _middle(clean))])
        else:
            rows.append([Panel("as it was", path.name, _middle(clean)), *panels])
    return rows


def _middle(image: Colours) -> NDArray[np.uint8]:
    top, left = (max(0, side - crop) // 2 for side, crop in zip(image.shape, _CROP, strict=False))
    return _in_8_bits(image[top : top + _CROP[0], left : left + _CROP[1]])


def _load(path: Path, codec: Codec) -> Raster:
    image = load_image(path, codec.limits)
    check_plain(image, SSIM_SIDE)
    return image


def _colours(image: Raster) -> Colours:
    return np.divide(image.rgb(), np.float32(255), dtype=np.float32)


def _noise(image: Raster, seed: int, index: int) -> Colours:
    """Return noise of a deviation of 1 for one image of several; of a grey one it is grey."""
    shape = (image.height, image.width, image.mode.colours)
    noise = np.random.default_rng([seed, index]).standard_normal(shape, np.float32)
    return np.broadcast_to(noise, (*shape[:2], 3))


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
    damaged: Colours,
    damage: Damage,
) -> list[DenoisedRow]:
    of_8_bits = np.divide(_in_8_bits(damaged), np.float32(255), dtype=np.float32)
    runs: dict[str, Callable[[], Colours]] = {
        OURS: lambda: codec.denoise(damaged),
        UNREFINED: lambda: codec.denoise(damaged, refine=False),
    }
    if not np.array_equal(of_8_bits, damaged):
        runs[OURS_OF_8_BITS] = lambda: codec.denoise(of_8_bits)
    runs |= {method.title: partial(method, damaged, damage.sigma / 255) for method in methods}
    rows = [DenoisedRow(name, damage.name, DAMAGED, *_judge(damaged, clean), None)]
    rows += [_timed_row(name, damage, method, run, clean) for method, run in runs.items()]
    return rows


def _timed_row(
    name: str, damage: Damage, method: str, run: Callable[[], Colours], clean: Colours
) -> DenoisedRow:
    began = time.perf_counter()
    restored = run()
    seconds = (time.perf_counter() - began) / (clean.shape[0] * clean.shape[1] / 1e6)
    return DenoisedRow(name, damage.name, method, *_judge(restored, clean), seconds)


def _files(
    codec: Codec,
    name: str,
    clean: Colours,
    damaged: Colours,
    damage: Damage,
    qualities: Iterable[float],
) -> list[FileRow]:
    pixels = _in_8_bits(damaged)
    kinds = {"plain": pixels, "denoised": pixels, "original": _in_8_bits(clean)}
    rows: list[FileRow] = []
    for quality in qualities:
        for kind, image in kinds.items():
            data = codec.encode(image, quality=quality, denoise=kind == "denoised")
            opened = _colours(codec.decode_raster(data))
            rate = bpp(len(data), pixels.shape[1], pixels.shape[0])
            psnr = _psnr_db(opened, clean)
            rows.append(FileRow(name, damage.name, kind, quality, rate, psnr))
    return rows


def _in_8_bits(image: Colours) -> NDArray[np.uint8]:
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def _judge(image: Colours, clean: Colours) -> tuple[float, float]:
    """Return PSNR and SSIM, of what is clipped to the range of pixels."""
    clipped = image.clip(0, 1)
    return _psnr_db(clipped, clean), ssim(clipped, clean)


def _psnr_db(image: Colours, clean: Colours) -> float:
    error = float(np.mean(np.square(image - clean), dtype=np.float64))
    return -10 * math.log10(error) if error else math.inf


def _means(rows: list[DenoisedRow]) -> Iterable[DenoisedRow]:
    for (damage, method), members in _grouped(rows, lambda row: (row.damage, row.method)):
        times = [
            row.seconds_per_megapixel for row in members if row.seconds_per_megapixel is not None
        ]
        yield DenoisedRow(
            "",
            damage,
            method,
            fmean(row.psnr_db for row in members),
            fmean(row.ssim for row in members),
            fmean(times) if times else None,
        )


def _file_means(rows: list[FileRow]) -> Iterable[FileRow]:
    groups = _grouped(rows, lambda row: (row.damage, row.kind, row.quality))
    for (damage, kind, quality), members in groups:
        rate, psnr = fmean(row.bpp for row in members), fmean(row.psnr_db for row in members)
        yield FileRow("", damage, kind, quality, rate, psnr)


def _grouped(rows: list[Row], key: Callable[[Row], Key]) -> Iterable[tuple[Key, list[Row]]]:
    """Return rows by what they have in common, in the order in which that first appears."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups.items()
