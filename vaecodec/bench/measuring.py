"""Encode and decode every image of a folder, with our codec and with others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaecodec.bench.bundle_peers import DEFAULT_QUALITIES
from vaecodec.bench.folder import check_plain
from vaecodec.bench.peers import Peer
from vaecodec.bench.perceptual import MS_SSIM_SIDE, SSIMULACRA2_SIDE, ms_ssim, ssimulacra2
from vaecodec.bench.results import MS_SSIM, PSNR, SSIMULACRA2, ImageRow, PeerRow, Skipped
from vaecodec.codec import Codec
from vaecodec.errors import ImageError, InsufficientMemoryError, LimitError, VaecodecError
from vaecodec.fileio import read_bytes
from vaecodec.image import read_image
from vaecodec.metadata import KINDS
from vaecodec.metrics import bpp, fidelity_db
from vaecodec.raster import Raster, from_array
from vaecodec.runtime import memory_errors
from vaecodec.trace import Trace

Progress = Callable[[int, int, Sequence[ImageRow | PeerRow]], None]
"""Called with the images done, the images in all, and the rows of the last."""
Notice = Callable[[Skipped], None]
"""Called with every image that is left out."""

_LEAST_SIDES = {MS_SSIM.name: MS_SSIM_SIDE, SSIMULACRA2.name: SSIMULACRA2_SIDE}


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a folder.

    Attributes:
        paths: The images that all codecs were measured on.
        images: Our rows, images in the order of `paths`.
        peers: The other codecs' rows: image by image, codec by codec.
        skipped: The images that were left out.
    """

    paths: tuple[Path, ...]
    images: tuple[ImageRow, ...]
    peers: tuple[PeerRow, ...]
    skipped: tuple[Skipped, ...]


def measure(
    codec: Codec,
    paths: Sequence[Path],
    qualities: Iterable[float] = DEFAULT_QUALITIES,
    progress: Progress | None = None,
) -> list[ImageRow]:
    """Return our rows alone; see `measure_folder`."""
    return list(measure_folder(codec, paths, qualities, progress=progress).images)


def measure_folder(
    codec: Codec,
    paths: Sequence[Path],
    qualities: Iterable[float] = DEFAULT_QUALITIES,
    *,
    peers: Sequence[Peer] = (),
    metrics: Sequence[str] = (PSNR.name,),
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Measured:
    """Encode and decode every image at every quality.

    An image that one codec or metric cannot take is left out for all of them: means are
    comparable only over the same images.

    Args:
        codec: What to measure.
        paths: Images.
        qualities: Each 0 to 100.
        peers: Other codecs, each through its whole ladder.
        metrics: Names of what to measure besides PSNR, which always is.
        progress: Told of every image done.
        notice: Told of every image left out.

    Raises:
        ImageError: If no image can be used.
        VaecodecError: If something other than an image is the matter.
    """
    qualities = sorted(set(qualities))
    used: list[Path] = []
    ours: list[ImageRow] = []
    others: list[PeerRow] = []
    skipped: list[Skipped] = []
    for index, path in enumerate(paths):
        try:
            with memory_errors():
                image = from_array(_open(path, peers, metrics).read())
                if not used:
                    _warm_up(codec, peers, image)
                of_ours = [_measure_ours(codec, path.name, image, q, metrics) for q in qualities]
                of_others = [
                    _measure_peer(peer, path.name, image, quality, metrics)
                    for peer in peers
                    for quality in peer.ladder
                ]
            _check_finite((*of_ours, *of_others))
        except (ImageError, LimitError, InsufficientMemoryError) as error:
            skipped.append(Skipped(path.name, str(error)))
            if notice:
                notice(skipped[-1])
            continue
        used.append(path)
        ours += of_ours
        others += of_others
        if progress:
            progress(index + 1, len(paths), (*of_ours, *of_others))
    if not used:
        first = f"the first is {skipped[0].image}: {skipped[0].reason}" if skipped else "none given"
        raise ImageError(f"no image of {len(paths)} can be used; {first}")
    return Measured(tuple(used), tuple(ours), tuple(others), tuple(skipped))


def unfit_images(
    paths: Sequence[Path], metrics: Sequence[str], peers: Sequence[Peer] = ()
) -> dict[str, Skipped]:
    """Return the first image that a metric cannot take, for each metric that has one.

    Images are judged by their headers. Those that cannot be measured in any case do not count.

    Args:
        paths: Images.
        metrics: Names of metrics.
        peers: Other codecs that are to be measured.
    """
    unfit: dict[str, Skipped] = {}
    for path in paths:
        try:
            with memory_errors():
                image = _open(path, peers, ())
        except (ImageError, InsufficientMemoryError):
            continue
        for metric in metrics:
            try:
                _check(image, (), (metric,))
            except ImageError as error:
                unfit.setdefault(metric, Skipped(path.name, str(error)))
    return unfit


def _warm_up(codec: Codec, peers: Sequence[Peer], image: Raster) -> None:
    """Have networks and libraries loaded before anything is timed."""
    codec.decode_raster(codec.encode(image))
    for peer in peers:
        peer.decode(peer.encode(image.read(), peer.ladder[0]), image.mode)


def _check_finite(rows: Iterable[ImageRow | PeerRow]) -> None:
    """Refuse an image that comes back as it was, as a mean of infinite fidelities says nothing.

    Raises:
        ImageError: If there is one.
    """
    for row in rows:
        if row.psnr_db == math.inf:
            raise ImageError(
                f"{row.codec} at quality {row.quality:g} gives it back exactly, which has no PSNR"
            )


def _open(path: Path, peers: Sequence[Peer], metrics: Sequence[str]) -> Raster:
    """Return an image that all codecs and metrics take, its samples yet to be decoded.

    Raises:
        ImageError: If it cannot be opened, or not all take it.
    """
    try:
        image = read_image(read_bytes(path))
    except VaecodecError as error:  # the package that reads it may be missing, too
        raise ImageError(str(error)) from error
    _check(image, peers, metrics)
    return image


def _check(image: Raster, peers: Sequence[Peer], metrics: Sequence[str]) -> None:
    """Refuse an image that not all codecs and metrics take.

    Raises:
        ImageError: If it is one.
    """
    if peers or any(name in _LEAST_SIDES for name in metrics):
        check_plain(image, max((_LEAST_SIDES.get(name, 1) for name in metrics), default=1))


def _measure_ours(
    codec: Codec, name: str, image: Raster, quality: float, metrics: Sequence[str]
) -> ImageRow:
    trace = Trace()
    data = codec.encode(image, quality=quality, strip=KINDS, trace=trace)
    start = time.perf_counter()
    decoded = codec.decode_raster(data)
    decode_s = time.perf_counter() - start
    error = 8 * len(data) / trace.estimated_bits - 1 if trace.estimated_bits else math.nan
    return ImageRow(
        image=name,
        quality=quality,
        width=image.width,
        height=image.height,
        file_bytes=len(data),
        bpp=bpp(len(data), image.width, image.height),
        psnr_db=fidelity_db(image, decoded),
        encode_s=sum(trace.seconds.values()),
        decode_s=decode_s,
        estimate_error_percent=100 * error,
        **_scores(image, decoded, metrics),
    )


def _measure_peer(
    peer: Peer, name: str, image: Raster, quality: float, metrics: Sequence[str]
) -> PeerRow:
    samples = image.read()
    start = time.perf_counter()
    data = peer.encode(samples, quality)
    middle = time.perf_counter()
    decoded = from_array(peer.decode(data, image.mode))
    end = time.perf_counter()
    return PeerRow(
        codec=peer.name,
        image=name,
        quality=quality,
        width=image.width,
        height=image.height,
        file_bytes=len(data),
        bpp=bpp(len(data), image.width, image.height),
        psnr_db=fidelity_db(image, decoded),
        encode_s=middle - start,
        decode_s=end - middle,
        **_scores(image, decoded, metrics),
    )


def _scores(image: Raster, decoded: Raster, metrics: Sequence[str]) -> dict[str, float]:
    """Return what was asked for besides PSNR, under the names of a row's fields."""
    scores: dict[str, float] = {}
    if MS_SSIM.name in metrics:
        scores["ms_ssim"] = ms_ssim(image.read(), decoded.read())
    if SSIMULACRA2.name in metrics:
        scores["ssimulacra2"] = ssimulacra2(image.read(), decoded.read())
    return scores
