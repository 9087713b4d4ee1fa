"""What rate-distortion plots show, whoever draws them: curves, ticks and places of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vaecodec.bench.bundle_peers import PREFIX
from vaecodec.bench.means import curve_of
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.bench.results import METRICS, PSNR, Metric, Report
from vaecodec.metrics import Point, usable_points

PUBLISHED = len(PEERS) + 1
"""The slot of curves that were not measured here; ours is 0, and other codecs have theirs."""
BUNDLES = 4
"""Slots of other bundles, after `PUBLISHED`; with more bundles than that, they come round again."""
SLOTS = PUBLISHED + 1 + BUNDLES
"""How many looks a curve can have."""
PUBLISHED_SHOWN = 6
"""More curves of others would hide those that were measured."""
_MARGIN = 1.3
_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        title: The codec's.
        slot: How it looks: 0 for ours, then by the order of `PEERS`, so that a codec looks the
            same everywhere, then `PUBLISHED`, then other bundles as they were named.
        points: By ascending rate, at least two.
    """

    title: str
    slot: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """The curves of one metric."""

    metric: Metric
    series: tuple[Series, ...]

    @property
    def rates(self) -> tuple[float, float]:
        """The least and the greatest rate, in bpp."""
        rates = [rate for series in self.series for rate, _ in series.points]
        return min(rates), max(rates)

    @property
    def values(self) -> tuple[float, float]:
        """The least and the greatest fidelity."""
        values = [value for series in self.series for _, value in series.points]
        return min(values), max(values)


def panels(report: Report, curves: Mapping[str, Sequence[Point]] | None = None) -> list[Panel]:
    """Return the curves of every metric that was measured and has any.

    Args:
        report: What was measured.
        curves: Published ones, of PSNR: shown if they are few, as far as measured rates reach.
    """
    shown: list[Panel] = []
    for name in report.metrics:
        found = _measured(report, name)
        if found and name == PSNR.name and len(curves or {}) <= PUBLISHED_SHOWN:
            low, high = Panel(PSNR, tuple(found)).rates
            for title, points in (curves or {}).items():
                near = [p for p in points if low / _MARGIN <= p[0] <= high * _MARGIN]
                found += _series(title, PUBLISHED, near)
        if found:
            shown.append(Panel(METRICS[name], tuple(found)))
    return shown


def rate_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from low to high, in bpp; if too few, others."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step:g}e{power}") for power in powers for step in _STEPS]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) > 1 or low == high else value_ticks(low, high)


def value_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Return about as many round numbers from low to high as are wanted."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((s * power for s in _STEPS if s * power >= rough), 10 * power)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def spread_labels(places: Sequence[float], gap: float, high: float) -> list[float]:
    """Return places at least a gap apart, near the given ones, none beyond `high` if it can be."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in pairwise(order):
        moved[index] = max(moved[index], moved[before] + gap)
    limit = high
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved


def _measured(report: Report, metric: str) -> list[Series]:
    found = _series("vaecodec", 0, curve_of(report.qualities, metric))
    slots = {name: slot for slot, name in enumerate(PEERS, start=1)}
    bundles = [info.name for info in report.codecs if info.name.startswith(PREFIX)]
    slots |= {name: PUBLISHED + 1 + index % BUNDLES for index, name in enumerate(bundles)}
    for info in report.codecs:
        points = curve_of([row for row in report.peers if row.codec == info.name], metric)
        found += _series(info.title, slots[info.name], points)
    return found


def _series(title: str, slot: int, points: Sequence[Point]) -> list[Series]:
    """Return a curve, or none if it has not two points that can be drawn."""
    drawn = sorted(usable_points(points))
    return [Series(title, slot, tuple(drawn))] if len(drawn) > 1 else []
