"""Encode and decode every image of a folder, with our codec and with others."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vaecodec.batch import cores
from vaecodec.bench.bundle_peers import DEFAULT_QUALITIES
from vaecodec.bench.folder import check_plain
from vaecodec.bench.peers import Peer, choose_peers
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
    processes: int = 1,
    device: str = "cpu",
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
        processes: How many images are measured at a time. With several, seconds are those of a
            busy machine.
        device: Where networks run in further processes.
        progress: Told of every image done.
        notice: Told of every image left out.

    Raises:
        ImageError: If no image can be used.
        VaecodecError: If something other than an image is the matter.
    """
    measurement = _Measurement(codec, peers, sorted(set(qualities)), metrics)
    used: list[Path] = []
    rows: list[_Rows] = []
    skipped: list[Skipped] = []
    with ExitStack() as stack:
        outcomes = map(measurement, paths)
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=context))
            outcomes = pool.map(measurement.apart(device, max(1, cores() // processes)), paths)
        for index, (path, outcome) in enumerate(zip(paths, outcomes, strict=True)):
            if isinstance(outcome, Skipped):
                skipped.append(outcome)
                if notice:
                    notice(outcome)
                continue
            used.append(path)
            rows.append(outcome)
            if progress:
                progress(index + 1, len(paths), (*outcome.ours, *outcome.peers))
    if not used:
        first = f"the first is {skipped[0].image}: {skipped[0].reason}" if skipped else "none given"
        raise ImageError(f"no image of {len(paths)} can be used; {first}")
    ours = (row for one in rows for row in one.ours)
    others = (row for one in rows for row in one.peers)
    return Measured(tuple(used), tuple(ours), tuple(others), tuple(skipped))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What came of one image."""

    ours: tuple[ImageRow, ...]
    peers: tuple[PeerRow, ...]


class _Measurement:
    """Measures one image after the other."""

    def __init__(
        self,
        codec: Codec,
        peers: Sequence[Peer],
        qualities: Sequence[float],
        metrics: Sequence[str],
    ) -> None:
        self._codec, self._peers = codec, peers
        self._qualities, self._metrics = qualities, metrics
        self._is_warm = False

    def apart(self, device: str, threads: int) -> Callable[[Path], _Rows | Skipped]:
        """Return the same for another process, which opens the codecs anew for each image."""
        names = [peer.name for peer in self._peers]
        folder = self._codec.bundle.path.absolute()
        return partial(
            _measure_apart, folder, device, threads, names, self._qualities, self._metrics
        )

    def __call__(self, path: Path) -> _Rows | Skipped:
        metrics = self._metrics
        try:
            with memory_errors():
                image = from_array(_open(path, self._peers, metrics).read())
                if not self._is_warm:
                    _warm_up(self._codec, self._peers, image)
                    self._is_warm = True
                ours = tuple(
                    _measure_ours(self._codec, path.name, image, quality, metrics)
                    for quality in self._qualities
                )
                others = tuple(
                    _measure_peer(peer, path.name, image, quality, metrics)
                    for peer in self._peers
                    for quality in peer.ladder
                )
            _check_finite((*ours, *others))
        except (ImageError, LimitError, InsufficientMemoryError) as error:
            return Skipped(path.name, str(error))
        return _Rows(ours, others)


def _measure_apart(
    bundle: Path,
    device: str,
    threads: int,
    names: Sequence[str],
    qualities: Sequence[float],
    metrics: Sequence[str],
    path: Path,
) -> _Rows | Skipped:
    codec = Codec(bundle, device, threads=threads)
    return _Measurement(codec, choose_peers(names, device), qualities, metrics)(path)


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
