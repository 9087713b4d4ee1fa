"""How long both directions take, stage by stage and size by size, and what the machine could do."""

from __future__ import annotations

import io
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vaecodec.bench.mosaic import mosaic, sides
from vaecodec.bench.results import TRANSFORMS, SizeRow, Speed, Timing
from vaecodec.bundle import Bundle
from vaecodec.codec import Codec
from vaecodec.image import read_image
from vaecodec.raster import Raster
from vaecodec.rate import DEFAULT_QUALITY
from vaecodec.runtime import Network
from vaecodec.trace import Trace

SIZES = (0.4, 1.0, 4.0, 24.0)
"""Megapixels: a page of the web, a screen, a telephone's photograph at half size, a camera's."""
_LEAST_REPEATS, _MOST_REPEATS = 3, 10
_MEGAPIXELS_TO_CODE = 12
"""A size is repeated until about so much is coded, within those limits."""
_PNG_LEVEL = 1

# convolution.onnx, which `python -m export ceiling` makes: dense 3x3 convolutions in a chain.
CHANNELS, LAYERS = 128, 4
_SIDE = 96
_RATE_REPEATS = 10

_Source = TypeVar("_Source")
_Coded = TypeVar("_Coded")


def speed(
    bundle: Bundle,
    device: str,
    paths: Sequence[Path],
    sizes: Sequence[float] = SIZES,
    quality: float = DEFAULT_QUALITY,
    repeats: int | None = None,
) -> Speed:
    """Time both directions on images of several sizes, tiled from the given ones.

    Each size and direction has a process of its own, for its first run and its memory.

    Args:
        bundle: What to measure.
        device: "cpu" or "cuda".
        paths: Images to tile.
        sizes: In millions of pixels.
        quality: 0 to 100.
        repeats: Runs of each, after the first; fewer for larger images, if not given.

    Raises:
        VaecodecError: If an image cannot be used, or the device.
    """
    if (repeats is not None and repeats < 1) or not all(0 < size < math.inf for size in sizes):
        raise ValueError("speed needs at least one repeat, and more than 0 megapixels")
    rates: list[float] = []
    rows: list[SizeRow] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            rates.append(convolution_rate(device))
            runs = repeats or round(
                min(max(_MEGAPIXELS_TO_CODE / size, _LEAST_REPEATS), _MOST_REPEATS)
            )
            work = _Work(bundle.path, device, quality, runs, Path(folder))
            image = mosaic(paths, *sides(size))
            work.source.write_bytes(_png(image))
            timings = [_alone(direction, work) for direction in (_encode, _decode)]
            rows.append(SizeRow(image.width, image.height, runs, *timings))
    rate = max(rates)
    return Speed(device, quality, rate, tuple(_with_shares(row, bundle, rate) for row in rows))


def convolution_rate(device: str) -> float:
    """Return the multiply-accumulates per second of dense float32 convolutions on a device.

    3x3 kernels of 128 channels, which few operations of ONNX Runtime surpass; the best of several
    runs.

    Raises:
        RuntimeUnavailableError: If ONNX Runtime or the device is missing.
    """
    graph = files("vaecodec.bench").joinpath("convolution.onnx").read_bytes()
    network = Network(graph, device)
    x = np.ones((1, CHANNELS, _SIDE, _SIDE), np.float32)
    seconds: list[float] = []
    for _ in range(_RATE_REPEATS):
        start = time.perf_counter()
        network({"x": x}, (np.float32, x.shape))
        seconds.append(time.perf_counter() - start)
    return LAYERS * 9 * CHANNELS * x.size / min(seconds)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a process is to do."""

    bundle: Path
    device: str
    quality: float
    repeats: int
    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "image.png"

    @property
    def coded(self) -> Path:
        return self.folder / "image.vaec"

    @property
    def decoded(self) -> Path:
        return self.folder / "decoded.png"


@dataclass(frozen=True, slots=True)
class _Run:
    """The seconds of one run."""

    file_s: float
    memory_s: float
    stages: dict[str, float]


def _alone(direction: Callable[[_Work], Timing], work: _Work) -> Timing:
    """Time a direction in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(direction, work).result()


def _encode(work: _Work) -> Timing:
    def read() -> Raster:
        image = read_image(work.source.read_bytes())
        image.read()  # Pillow decodes when it is first asked for pixels
        return image

    def code(codec: Codec, image: Raster, trace: Trace) -> bytes:
        return codec.encode(image, quality=work.quality, trace=trace)

    return _time(work, read, code, work.coded.write_bytes)


def _decode(work: _Work) -> Timing:
    def code(codec: Codec, data: bytes, trace: Trace) -> Raster:
        return codec.decode_raster(data, trace=trace)

    def write(image: Raster) -> None:
        work.decoded.write_bytes(_png(image))

    return _time(work, work.coded.read_bytes, code, write)


def _time(
    work: _Work,
    read: Callable[[], _Source],
    code: Callable[[Codec, _Source, Trace], _Coded],
    write: Callable[[_Coded], object],
) -> Timing:
    """Run the three steps again and again."""

    def once(codec: Codec) -> _Run:
        clock, trace = _Clock(), Trace(estimates=False)
        source = read()
        read_s = clock.lap()
        coded = code(codec, source, trace)
        memory_s = clock.lap()
        write(coded)
        write_s = clock.lap()
        rest_s = memory_s - sum(trace.seconds.values())
        stages = {"read": read_s, **trace.seconds, "rest": rest_s, "write": write_s}
        return _Run(read_s + memory_s + write_s, memory_s, stages)

    clock = _Clock()
    codec = Codec(work.bundle, work.device)
    once(codec)
    cold_s = clock.lap()
    runs = [once(codec) for _ in range(work.repeats)]
    return Timing(
        cold_s=cold_s,
        file_s=statistics.median(run.file_s for run in runs),
        memory_s=statistics.median(run.memory_s for run in runs),
        stages=_each_stage(statistics.median, runs),
        peak_bytes=_peak_bytes(),
        fastest=_each_stage(min, runs),
    )


def _each_stage(
    statistic: Callable[[list[float]], float], runs: Sequence[_Run]
) -> dict[str, float]:
    return {stage: statistic([run.stages[stage] for run in runs]) for stage in runs[0].stages}


class _Clock:
    """Tells the seconds since it was last asked."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._start = now - self._start, now
        return seconds


def _with_shares(row: SizeRow, bundle: Bundle, rate: float) -> SizeRow:
    """Add what the transforms reach of a rate, where the manifest tells what they cost."""
    cost: Any = bundle.manifest.get("kmac_per_pixel") or {}
    timings: dict[str, Timing] = {}
    for direction, stage in TRANSFORMS.items():
        timing: Timing = getattr(row, direction)
        if stage in cost:
            macs = 1000 * cost[stage] * row.width * row.height
            timing = replace(timing, ceiling_share=macs / timing.fastest[stage] / rate)
        timings[direction] = timing
    return replace(row, **timings)


def _peak_bytes() -> int | None:
    """Return the memory of this process at its peak, where the system tells."""
    with suppress(OSError, StopIteration):  # on Linux, where `resource` counts the parent's, too
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _png(image: Raster) -> bytes:
    buffer = io.BytesIO()
    image.to_pillow().save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()
