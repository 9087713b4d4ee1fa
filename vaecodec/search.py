"""Encode to a target: find the level at which a file has a size, or an image a fidelity.

Both grow with the level. Four fifths of an encoding are the analysis. It hardly changes with the
level, and a decoder cannot tell for which one it was made: it is kept while the rest is repeated.

    guess    how busy the image is tells about what to expect at every level, before any network
    encode   where that meets the target
    begin    to encode, for a size: the first pass tells about what all of them take
    correct  what was expected by what came out, and encode again
    round    what is left to a size: the last of the latents a little more or less towards zero
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from vaecodec.budget import Budget
from vaecodec.bundle import PATCH
from vaecodec.codec import Analysed, Codec
from vaecodec.container import MAX_LEVEL, pack
from vaecodec.errors import TargetError
from vaecodec.forecast import (
    FORESEEABLE,
    LOG_BYTES_PER_PIXEL,
    PSNR_DB,
    QUALITIES,
    expected_bits,
    forecast,
)
from vaecodec.metrics import fidelity_db
from vaecodec.raster import Raster, Samples, as_raster
from vaecodec.rate import MAX_QUALITY, level_of_quality, quality_of_level
from vaecodec.runtime import memory_errors
from vaecodec.segments import latent_box, segments
from vaecodec.trace import Trace

SIZE_TOLERANCE = 0.02
"""A file may be smaller than its target by this share of it, and not larger."""
PSNR_TOLERANCE_DB = 0.1
"""A fidelity may be above its target by this much, and not below."""

_UNIT = round(MAX_LEVEL / MAX_QUALITY)
"""Levels of one unit of quality."""
_BEHIND, _BEHIND_RATIO, _AHEAD = 5 * _UNIT, 0.1, 10 * _UNIT
"""How far the level of an analysis may be below that of a file (so much, and a share of the level)
and above it. On photographs a file is then larger by at most 1.5% at equal fidelity, mostly by less
than 0.5%."""
_LEAD = 2 * _UNIT
"""How far above the first file's it is: the middle of what may be."""
_KEPT_SLOPES = (30.0, 100.0), (1.0, 0.88)
"""What a level adds as long as the analysis stays the same, beside what was expected: by quality.
The finer the steps, the more of what they add only an analysis for them would find."""
_KEPT_BYTES = 2**29
"""What an analysis that is kept may take: 60 megapixels of 576 channels. Beyond, it is repeated,
too."""
_MOST = 2**62
"""Beyond any size, and any bits per pixel."""
_CLOSED = _UNIT // 10
"""Levels between one too low and one too high at which no others are tried."""
_SECANTS = 5
"""Encodings after which the levels that are left are halved each time."""
_IDENTICAL_DB = 150.0
"""Stands for the infinite fidelity of an image that comes back as it was."""


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
        notice: a sentence, where the qualities end before the target.
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
    denoise: bool = False,
    strip: Collection[str] = (),
    trace: Trace | None = None,
) -> Reached:
    """Compress an image to a file of some size, or to some fidelity.

    A file is not larger than its target, and smaller by at most `SIZE_TOLERANCE`; a fidelity is
    not lower, and higher by at most `PSNR_TOLERANCE_DB`. Files of a few hundred bytes grow in
    steps, and are as near as those allow. Where even quality 100 makes a smaller file, or even
    quality 0 a better image, that is the result, and a notice says so.

    Args:
        codec: what encodes.
        image: as `Codec.encode` takes it.
        target: what to reach.
        denoise: as `Codec.encode` takes it.
        strip: metadata to leave out; see `Codec.encode`.
        trace: filled with the times of all that was tried, if given.

    Raises:
        TargetError: no file is as small, or no image as good.
        VaecodecError: as `Codec.encode`.
        ValueError: the target is a fidelity, and the image that it would be to is noisy.
    """
    if denoise and target.kind == "psnr":
        raise ValueError("no fidelity can be reached to an image whose noise is to go")
    raster = as_raster(image)
    y_bytes = codec.latent_bytes(raster.width, raster.height)
    keep = y_bytes <= _KEPT_BYTES
    codec.admit(raster, y_bytes if keep else 0)
    with memory_errors():
        trace = trace or Trace(estimates=False)
        coding = _Coding(codec, raster, strip, trace, keep=keep, denoise=denoise)
        if target.kind == "psnr":
            return _to_psnr(coding, target.value)
        bits = min(target.value, _MOST) * (8 if target.kind == "size" else coding.pixels)
        return _to_size(coding, int(bits / 8))


def _to_size(coding: _Coding, limit_bytes: int) -> Reached:
    """Encode to a size; measured is the logarithm of the bytes that a pixel's latents take."""

    def measure(file_bytes: float) -> float:
        return math.log(max(file_bytes - coding.fixed_bytes, 1) / coding.pixels)

    shares = (1 - SIZE_TOLERANCE, 1 - SIZE_TOLERANCE / 2, 1)
    window = _Window(*(measure(share * limit_bytes) for share in shares))
    coding.round_to(limit_bytes)

    def foresee(level: int) -> float:
        return measure(coding.foreseen_bytes(level))

    tries = _search(coding, LOG_BYTES_PER_PIXEL, window, lambda data: measure(len(data)), foresee)
    fitting = [one for one in tries if len(one.data) <= limit_bytes]
    if not fitting:
        least = min(len(one.data) for one in tries)
        metadata = sum(len(chunk.payload) for chunk in coding.ancillary)
        hint = f"; {metadata:,} of them are metadata, which can be left out" if metadata else ""
        raise TargetError(
            f"at quality 0 the file has {least:,} bytes, more than {limit_bytes:,}{hint}"
        )
    best = max(fitting, key=lambda one: (len(one.data), one.level))
    short = best.level == MAX_LEVEL and best.value < window.low
    notice = "even at quality 100 the file is smaller than the target" if short else ""
    return Reached(best.data, quality_of_level(best.level), notice=notice)


def _to_psnr(coding: _Coding, least_db: float) -> Reached:
    """Encode to a fidelity, which is measured by decoding."""

    def measure(data: bytes) -> float:
        decoded = coding.codec.decode_raster(data, trace=coding.trace)
        return min(fidelity_db(coding.raster, decoded), _IDENTICAL_DB)

    window = _Window(*(least_db + share * PSNR_TOLERANCE_DB for share in (0, 0.4, 1)))
    tries = _search(coding, PSNR_DB, window, measure)
    fitting = [one for one in tries if one.value >= least_db]
    if not fitting:
        most = max(one.value for one in tries)
        raise TargetError(f"at quality 100 the image has {most:.2f} dB, less than {least_db:g}")
    best = min(fitting, key=lambda one: (one.value, one.level))
    beyond = best.level == 0 and best.value > window.high
    notice = "even at quality 0 the image is better than the target" if beyond else ""
    psnr_db = best.value if best.value < _IDENTICAL_DB else math.inf
    return Reached(best.data, quality_of_level(best.level), psnr_db, notice)


@dataclass(frozen=True, slots=True)
class _Window:
    """Where what is measured is to end, and what is aimed at."""

    low: float
    aim: float
    high: float


@dataclass(frozen=True, slots=True)
class _Point:
    """What was expected at a level, and what came out."""

    level: int
    expected: float
    value: float


@dataclass(frozen=True, slots=True)
class _Try(_Point):
    """A file, and what was measured of it."""

    data: bytes


def _search(
    coding: _Coding,
    table: tuple[tuple[float, ...], ...],
    window: _Window,
    measure: Callable[[bytes], float],
    foresee: Callable[[int], float] | None = None,
) -> list[_Try]:
    """Encode until a file is within the window, or none can be; return all that were made."""
    levels = [level_of_quality(quality) for quality in QUALITIES]
    expected = forecast(table, coding.raster)

    def expected_at(level: int) -> float:
        return float(np.interp(level, levels, expected))

    tries: list[_Try] = []
    foreseen: list[_Point] = []
    below, above, first = -1, MAX_LEVEL + 1, 0
    while above - below > (_CLOSED if below >= 0 and above <= MAX_LEVEL else 1):
        if len(tries) < _SECANTS:
            hoped_for = _hoped_for(window.aim, tries[first:] or foreseen)
            level = round(np.interp(hoped_for, expected, levels))
            level = min(max(level, below + 1, 0), above - 1, MAX_LEVEL)
        else:
            level = (below + above) // 2
        if coding.analyse(level) and len(tries) < _SECANTS:
            # Files of another analysis say no more than about where to look.
            below, above, first = -1, MAX_LEVEL + 1, len(tries)
            foreseen.clear()
            if foresee is not None and quality_of_level(level) >= FORESEEABLE:
                foreseen.append(_Point(level, expected_at(level), foresee(level)))
                foresee = None
                continue
        data = coding.encode(level)
        tries.append(_Try(level, expected_at(level), measure(data), data))
        if window.low <= tries[-1].value <= window.high:
            break
        if tries[-1].value < window.low:
            below = level
        else:
            above = level
    return tries


def _hoped_for(aim: float, known: Sequence[_Point]) -> float:
    """Return what was expected where the aim is to be found, after what was measured so far."""
    if not known:
        return aim
    last = known[-1]
    slope = float(np.interp(quality_of_level(last.level), *_KEPT_SLOPES))
    if len(known) > 1 and known[-2].level != last.level:
        slope = (last.value - known[-2].value) / (last.expected - known[-2].expected)
    # Held to what is plausible: small files grow in steps.
    return last.expected + (aim - last.value) / min(max(slope, 0.5), 2.0)


class _Coding:
    """An image that is encoded at several levels, and analysed as seldom as can be."""

    def __init__(
        self,
        codec: Codec,
        raster: Raster,
        strip: Collection[str],
        trace: Trace,
        *,
        keep: bool,
        denoise: bool,
    ) -> None:
        self.codec, self.raster, self.trace = codec, raster, trace
        self.pixels = raster.width * raster.height
        self._frame = codec.frame(raster, strip, trace)
        self.fixed_bytes = len(pack(self._frame, codec.limits))
        """What of a file no level changes."""
        self.ancillary = self._frame.ancillary
        self._size: tuple[float, float] | None = None
        # What each segment took the last time, or is going to take.
        self._segment_bytes: Mapping[int, float] = (
            {0: 1} if self._frame.header.segments == 1 else {}
        )
        self._keep, self._denoise = keep, denoise
        self._analysed: list[Analysed] = []
        self._level = 0

    def analyse(self, level: int) -> bool:
        """Make sure of an analysis that serves for a level; return whether there is a new one."""
        at_an_end = level in (0, MAX_LEVEL)
        behind, ahead = (0, 0) if at_an_end else (_BEHIND + _BEHIND_RATIO * level, _AHEAD)
        near = level - behind <= self._level <= level + ahead
        if not self._keep or (self._analysed and near):
            return False
        self._level = level if at_an_end else min(level + _LEAD, MAX_LEVEL)
        self._analysed.clear()  # before the next takes memory
        for tile, y in self._analyse(self._level):
            self._analysed.append((tile, np.ascontiguousarray(y)))  # without its halo
        return True

    def _analyse(self, level: int) -> Iterator[Analysed]:
        return self.codec.analyse(self.raster, level, self.trace, denoise=self._denoise)

    def round_to(self, limit_bytes: int) -> None:
        """Let rounding lead what is encoded from now on to a size, where it is near."""
        margin = SIZE_TOLERANCE / 10
        most, least = ((1 - share) * limit_bytes for share in (margin, SIZE_TOLERANCE - margin))
        self._size = least - self.fixed_bytes, most - self.fixed_bytes

    def foreseen_bytes(self, level: int) -> float:
        """Return about what the file of a level is going to take, after an analysis for it."""
        bits = self.codec.begin_bits(self._frame, level, self._analysed, self.trace)
        grid = latent_box(self.raster.width, self.raster.height)
        self._segment_bytes = {
            number: expected_bits(*bits[number], segment.scaled(PATCH).area) / 8
            for number, segment in segments(grid, grid)
        }
        return self.fixed_bytes + sum(self._segment_bytes.values())

    def encode(self, level: int) -> bytes:
        """Return the file of a level."""
        analysed = self._analysed or self._analyse(level)
        budget = None
        if self._size and 0 < level < MAX_LEVEL:  # what is said of the ends is to be true
            budget = Budget(*self._size, self._segment_bytes)
        data = self.codec.fill(self._frame, level, analysed, self.trace, budget)
        if budget:
            self._segment_bytes = budget.spent_bytes
        return data
