"""Encode to a target: find the level at which a file has a size, or an image a fidelity.

Both grow with the level. What costs most of an encoding is the analysis. It hardly changes with
the level, and a decoder cannot tell for which one it was made: it is kept, and what follows it is
repeated. Where to begin is found out on a sample.

    sample   windows of the image, from its calmest to its busiest, side by side in a small image
    curve    what the sample measures at a level: a hundredth of the cost of an encoding
    whole    encoded where the curve meets the target; the outcome shifts the curve, and again
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.codec import Analysed, Codec
from vaecodec.container import MAX_LEVEL, pack
from vaecodec.errors import TargetError
from vaecodec.metadata import KINDS
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, Samples, as_raster, from_array
from vaecodec.rate import MAX_QUALITY, quality_of_level
from vaecodec.runtime import memory_errors
from vaecodec.segments import Box, latent_box
from vaecodec.trace import Trace

SIZE_TOLERANCE = 0.02
"""A file may be smaller than its target by this share of it, and not larger."""
PSNR_TOLERANCE_DB = 0.1
"""A fidelity may be above its target by this much, and not below."""

_UNIT = round(MAX_LEVEL / MAX_QUALITY)
"""Levels of one unit of quality."""
_BEHIND, _AHEAD = 3 * _UNIT, 6 * _UNIT
"""How far the level of an analysis may be below and above that of the file. On photographs that
costs less than 0.5% of the file at equal fidelity; too low a level is worse than too high a one."""
_KEPT_BYTES = 2**29
"""What a kept analysis may take: 107 megapixels of 320 channels. Beyond, it is repeated, too."""
_LEAD = 3 * _UNIT // 2
"""By how much an analysis is for a higher level than the first file that is made of it."""
_NEAR = _UNIT // 2
"""How near two levels are for a straight line to be enough between them."""
_CLOSED = _UNIT // 10
"""Levels between a file too large and one too small at which no more are tried."""
_STEPS = 5
"""Steps on the curve of the sample: it is never exact."""
_SHORTCUTS = 3
"""Encodings after which the levels that are left are halved every time."""

_SAMPLE_SHARE = 0.06
_SAMPLE_WINDOWS = 64
_FEWEST_WINDOWS = 4
_LARGE_PIXELS = 2**20
_IDENTICAL_DB = 150.0
"""Stands for the infinite fidelity of an image that comes back as it was."""

_Curve = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Target:
    """What an encoding is to reach.

    Attributes:
        kind: "size" (bytes of the whole file), "bpp" (bits of it per pixel) or "psnr" (dB, as
            `fidelity_db` measures it).
        value: a finite number above 0.

    Raises:
        ValueError: the value is none.
    """

    kind: Literal["size", "bpp", "psnr"]
    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ValueError(f"a target must be above 0, and {self.value:g} is not")


@dataclass(frozen=True, slots=True)
class Reached:
    """What an encoding to a target came to.

    Attributes:
        data: the whole file.
        quality: that of the file.
        psnr_db: its fidelity, where that was the target.
        notice: a sentence, where the range of qualities ends before the target.
    """

    data: bytes
    quality: float
    psnr_db: float | None = None
    notice: str = ""


def encode_to(
    codec: Codec,
    image: Image.Image | Samples | Raster,
    target: Target,
    *,
    strip: Collection[str] = (),
) -> Reached:
    """Compress an image to a file of some size, or to some fidelity.

    A file is not larger than its target, and smaller by at most `SIZE_TOLERANCE`; a fidelity is
    not lower, and higher by at most `PSNR_TOLERANCE_DB`. Files of a few hundred bytes grow in
    steps: they are as near as those allow. Where even quality 100 makes a smaller file, or even
    quality 0 a better image, that is the result, and a notice says so.

    Args:
        codec: what encodes.
        image: as `Codec.encode` takes it.
        target: what to reach.
        strip: metadata to leave out; see `Codec.encode`.

    Raises:
        TargetError: no file is as small, or no image as good.
        VaecodecError: as `Codec.encode`.
    """
    raster = as_raster(image)
    y_bytes = 4 * codec.bundle.latent_channels * latent_box(raster.width, raster.height).area
    keep = y_bytes <= _KEPT_BYTES
    codec.admit(raster, y_bytes if keep else 0)
    with memory_errors():
        whole = _Coding(codec, raster, strip, keep=keep)
        if target.kind == "psnr":
            return _to_psnr(whole, target.value)
        bits = target.value * (8 if target.kind == "size" else whole.pixels)
        return _to_size(whole, int(bits / 8))


@dataclass(frozen=True, slots=True)
class _Goal:
    """What is measured of a file, and within which window it is to end."""

    low: float
    aim: float
    high: float
    slope: float
    """What a level adds, about."""
    measure: Callable[[_Coding, bytes], float]


@dataclass(frozen=True, slots=True)
class _Try:
    level: int
    value: float
    data: bytes


def _to_size(whole: _Coding, limit_bytes: int) -> Reached:
    """Measured is the logarithm of the bytes that a pixel's latents take."""

    def measure(coding: _Coding, size_bytes: float) -> float:
        return math.log(max(size_bytes - coding.fixed_bytes, 1) / coding.pixels)

    shares = (1 - SIZE_TOLERANCE, 1 - SIZE_TOLERANCE / 2, 1)
    window = (measure(whole, share * limit_bytes) for share in shares)
    goal = _Goal(*window, 0.045 / _UNIT, lambda coding, data: measure(coding, len(data)))
    tries = _search(whole, goal)
    within = [one for one in tries if len(one.data) <= limit_bytes]
    if not within:
        least = min(len(one.data) for one in tries)
        raise TargetError(f"at quality 0 the file has {least:,} bytes, more than {limit_bytes:,}")
    best = max(within, key=lambda one: one.value)
    short = best.level == MAX_LEVEL and best.value < goal.low
    notice = "even at quality 100 the file is smaller than the target" if short else ""
    return Reached(best.data, quality_of_level(best.level), notice=notice)


def _to_psnr(whole: _Coding, least_db: float) -> Reached:
    """Measured is the fidelity in dB."""

    def measure(coding: _Coding, data: bytes) -> float:
        decoded = coding.codec.decode_raster(data)
        return min(fidelity_db(coding.raster, decoded), _IDENTICAL_DB)

    window = (least_db + share * PSNR_TOLERANCE_DB for share in (0, 0.4, 1))
    goal = _Goal(*window, 0.2 / _UNIT, measure)
    tries = _search(whole, goal)
    within = [one for one in tries if one.value >= least_db]
    if not within:
        most = max(one.value for one in tries)
        raise TargetError(f"at quality 100 the image has {most:.2f} dB, less than {least_db:g}")
    best = min(within, key=lambda one: one.value)
    beyond = best.level == 0 and best.value > goal.high
    notice = "even at quality 0 the image is better than the target" if beyond else ""
    psnr_db = best.value if best.value < _IDENTICAL_DB else math.inf
    return Reached(best.data, quality_of_level(best.level), psnr_db, notice)


def _search(whole: _Coding, goal: _Goal) -> list[_Try]:
    """Encode until a file is within the window, or none can be; return all that were made."""
    curve, level = _begin(whole, goal)
    below, above = -1, MAX_LEVEL + 1
    tries: list[_Try] = []
    while True:
        data = whole.encode(level)
        tries.append(_Try(level, goal.measure(whole, data), data))
        if goal.low <= tries[-1].value <= goal.high:
            return tries
        if tries[-1].value < goal.low:
            below = level
        else:
            above = level
        closed = 0 <= below and above <= MAX_LEVEL and above - below <= _CLOSED
        if closed or above - below <= 1:
            return tries
        if len(tries) > _SHORTCUTS:
            level = (below + above) // 2
        else:
            shifted = _shifted(curve, tries)
            level = _meet(shifted, goal, level, max(below + 1, 0), min(above - 1, MAX_LEVEL))


def _begin(whole: _Coding, goal: _Goal) -> tuple[_Curve, int]:
    """Return the curve of a sample, and where it meets the goal; a line for small images."""
    sample = _sample(whole.raster)
    if sample is None:
        return lambda level: goal.slope * level, MAX_LEVEL // 2
    coding = _Coding(whole.codec, sample, KINDS, keep=True)
    values: dict[int, float] = {}

    def curve(level: int) -> float:
        if level not in values:
            values[level] = goal.measure(coding, coding.encode(level))
        return values[level]

    return curve, _meet(curve, goal, MAX_LEVEL // 2, 0, MAX_LEVEL)


def _meet(curve: _Curve, goal: _Goal, level: int, least: int, most: int) -> int:
    """Return about the level, within bounds, at which a curve meets the goal."""
    level = min(max(level, least), most)
    slope = goal.slope
    value = curve(level)
    for _ in range(_STEPS):
        there = round(level + (goal.aim - value) / slope)
        there = min(max(there, least), most)
        if abs(there - level) <= _NEAR:
            return there
        before, value = value, curve(there)
        # Held to what is plausible: curves of small images have steps.
        slope = (value - before) / (there - level)
        slope = min(max(slope, goal.slope / 4), goal.slope * 4)
        level = there
    return level


def _shifted(curve: _Curve, tries: list[_Try]) -> _Curve:
    """Return a curve that goes through what was measured of the whole last."""
    last = tries[-1]
    offset = last.value - curve(last.level)
    if len(tries) < 2:
        return lambda level: curve(level) + offset
    other = tries[-2]
    tilt = (offset - (other.value - curve(other.level))) / (last.level - other.level)
    return lambda level: curve(level) + offset + tilt * (level - last.level)


class _Coding:
    """An image that is encoded at several levels, and analysed as seldom as can be."""

    def __init__(self, codec: Codec, raster: Raster, strip: Collection[str], *, keep: bool) -> None:
        self.codec, self.raster = codec, raster
        self.pixels = raster.width * raster.height
        self._trace = Trace(estimates=False)
        self._frame = codec.frame(raster, strip, self._trace)
        self.fixed_bytes = len(pack(self._frame))
        """What of a file no level changes."""
        self._keep = keep
        self._analysed: list[Analysed] = []
        self._level = 0
        """For which those were analysed."""

    def encode(self, level: int) -> bytes:
        """Return the file of a level, from an analysis for one near enough."""
        if not self._keep:
            return self._fill(level, self._analyse(level))
        at_an_end = level in (0, MAX_LEVEL)
        margin = (0, 0) if at_an_end else (_BEHIND, _AHEAD)
        if not self._analysed or not level - margin[0] <= self._level <= level + margin[1]:
            self._level = level if at_an_end else min(level + _LEAD, MAX_LEVEL)
            self._analysed.clear()  # before the next is made: memory
            self._analysed.extend(self._analyse(self._level))
        return self._fill(level, self._analysed)

    def _analyse(self, level: int) -> Iterator[Analysed]:
        return self.codec.analyse(self.raster, level, self._trace)

    def _fill(self, level: int, analysed: Iterable[Analysed]) -> bytes:
        return self.codec.fill(self._frame, level, analysed, self._trace)


def _sample(raster: Raster) -> Raster | None:
    """Return windows of an image side by side, or nothing where there are too few.

    Taken at equal distances in the order of how busy they are, a few stand for all.
    """
    pixels = raster.width * raster.height
    side = 128 if pixels >= _LARGE_PIXELS else 64
    count = min(round(_SAMPLE_SHARE * pixels / side**2), _SAMPLE_WINDOWS)
    if count < _FEWEST_WINDOWS:
        return None
    columns = round(math.sqrt(count))
    count -= count % columns
    across = raster.width // side
    busy = _busyness(raster, side)
    if busy.size < count:
        return None
    order = np.argsort(busy, axis=None, kind="stable")
    chosen = order[(np.arange(count) * 2 + 1) * busy.size // (2 * count)]
    windows: list[Samples] = []
    for number in chosen.tolist():
        row, column = divmod(number, across)
        windows.append(raster.read(Box(row, column, row + 1, column + 1).scaled(side)))
    rows = [np.concatenate(windows[i : i + columns], 1) for i in range(0, count, columns)]
    return from_array(np.concatenate(rows))


def _busyness(raster: Raster, side: int) -> NDArray[np.float32]:
    """Return how much neighbouring samples differ in each square, ``(rows, columns)``.

    Every other row and column of one colour are enough.
    """
    down, across = raster.height // side, raster.width // side
    busy = np.empty((down, across), np.float32)
    channel = raster.mode.colours // 2  # green, or grey
    for row in range(down):
        strip = raster.read(Box(row * side, 0, (row + 1) * side, across * side))
        plane = strip[::2, ::2, channel].astype(np.float32)
        squares = plane.reshape(side // 2, across, side // 2)
        busy[row] = np.abs(np.diff(squares, axis=0)).mean((0, 2))
        busy[row] += np.abs(np.diff(squares, axis=2)).mean((0, 2))
    return busy
