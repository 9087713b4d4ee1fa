"""How much a whole machine codes: several processes at a time, in memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

from vaecodec.batch import cores
from vaecodec.bench.mosaic import mosaic
from vaecodec.bench.results import Throughput
from vaecodec.bundle import Bundle
from vaecodec.codec import Codec
from vaecodec.raster import Samples, from_array
from vaecodec.rate import DEFAULT_QUALITY

SIZE = 1920, 1080
_SECONDS = 5.0
"""For which each direction runs, at least."""
_START_S = 300.0
"""How long all processes together may take to be ready."""


def throughput(
    bundle: Bundle,
    device: str,
    paths: Sequence[Path],
    quality: float = DEFAULT_QUALITY,
    *,
    size: tuple[int, int] = SIZE,
    processes: int | None = None,
    seconds: float = _SECONDS,
) -> Throughput:
    """Count what several processes encode and decode at a time.

    As `vaecodec compress FOLDER` works: each process has a codec of its own, so that one's entropy
    coding runs beside another's networks; here without files. All begin together.

    Args:
        bundle: What to measure.
        device: "cpu" or "cuda".
        paths: Images to tile.
        quality: 0 to 100.
        size: Width and height of the images.
        processes: As many as there are cores, if not given.
        seconds: For which each direction runs, at least.

    Raises:
        VaecodecError: If an image cannot be used, or the device.
    """
    count = processes or cores()
    threads = max(1, cores() // count)
    samples = mosaic(paths, *size).read()
    work = _Work(bundle.path, device, threads, samples, quality, seconds)
    context = multiprocessing.get_context("spawn")
    rates: list[float] = []
    with context.Manager() as manager, ProcessPoolExecutor(count, mp_context=context) as pool:
        for run in (_encode, _decode):
            start = manager.Barrier(count)
            runs = [pool.submit(run, work, start) for _ in range(count)]
            done = [run.result() for run in runs]
            elapsed_s = max(end for _, _, end in done) - min(begin for _, begin, _ in done)
            rates.append(sum(images for images, _, _ in done) / elapsed_s)
    megapixels = size[0] * size[1] / 1e6
    encoded, decoded = (megapixels * rate for rate in rates)
    return Throughput(*size, count, threads, encoded, decoded)


@dataclass(frozen=True, slots=True)
class _Work:
    """What each process is to do."""

    bundle: Path
    device: str
    threads: int
    samples: Samples
    quality: float
    seconds: float

    def encode(self, codec: Codec) -> bytes:
        return codec.encode(from_array(self.samples), quality=self.quality)

    def codec(self) -> Codec:
        return Codec(self.bundle, self.device, threads=self.threads)


_Done = tuple[int, float, float]
"""Images, and when the first began and the last ended."""


def _encode(work: _Work, start: Barrier) -> _Done:
    codec = work.codec()
    return _repeat(lambda: work.encode(codec), work.seconds, start)


def _decode(work: _Work, start: Barrier) -> _Done:
    codec = work.codec()
    data = work.encode(codec)
    return _repeat(lambda: codec.decode_raster(data).read(), work.seconds, start)


def _repeat(code: Callable[[], object], seconds: float, start: Barrier) -> _Done:
    """Work for so long, after a first time for nothing and when all others are ready, too."""
    try:
        code()
    except BaseException:
        start.abort()
        raise
    start.wait(_START_S)
    begin = end = time.monotonic()
    images = 0
    while end - begin < seconds:
        code()
        images += 1
        end = time.monotonic()
    return images, begin, end
