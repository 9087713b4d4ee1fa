"""Rate-distortion plots as SVG for a page, whose style sheet gives the colours."""

from __future__ import annotations

import math
from html import escape

from vaecodec.bench.series import Panel, Series, rate_ticks, spread_labels, value_ticks

_WIDTH, _HEIGHT = 660, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 128, 14, 44
_LABEL_GAP = 19.0
_ROOM = 0.03
# Paths around (0, 0), by slot: see `Series`.
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3-3h6v6h-6z",
    "M0-4l4 7h-8z",
    "M0-4.2l4.2 4.2l-4.2 4.2l-4.2-4.2z",
    "M-4 0l7-4v8z",
    "M-3-3l6 6M3-3l-6 6",
    "M0 4l4-7h-8z",
    "M0-4v8M-4 0h8",
    "",
    "M4 0l-7-4v8z",
    "M0 -5L1.2 -1.6L4.8 -1.5L1.9 0.6L2.9 4L0 2L-2.9 4L-1.9 0.6L-4.8 -1.5L-1.2 -1.6z",
    "M0 -4.2L4 -1.3L2.5 3.4L-2.5 3.4L-4 -1.3z",
    "M0-5v10",
)


def svg_chart(panel: Panel) -> str:
    """Return a panel as an `svg` element.

    Shapes have the class `s` and their slot, from `s0` (ours) on; text has `tick`, `axis` and
    `label`. Each point tells its figures where a mouse rests on it.
    """
    frame = _Frame(panel)
    names = ", ".join(series.title for series in panel.series)
    unit = f", {panel.metric.unit}" if panel.metric.unit else ""
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(panel.metric.title)}{unit} against bits per pixel: '
        f'{escape(names)}. The tables below have the figures.">',
        *_grid(frame),
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 6}" '
        'text-anchor="middle">bits per pixel, whole file</text>',
    ]
    for series in reversed(panel.series):  # ours comes to lie on top
        parts += _curve(frame, series, panel.metric.unit)
    parts += _labels(frame, panel)
    return "\n".join((*parts, "</svg>"))


class _Frame:
    """Where rates and fidelities lie on the picture."""

    def __init__(self, panel: Panel) -> None:
        low, high = panel.rates
        room = (high / low if high > low else 2) ** _ROOM
        self.rates = (low / room, high * room)
        low, high = panel.values
        room = _ROOM * ((high - low) or 1)
        self.values = (low - room, high + room)

    def x(self, rate: float) -> float:
        low, high = (math.log(end) for end in self.rates)
        return _LEFT + (math.log(rate) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.values
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _grid(frame: _Frame) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for value in value_ticks(*frame.values):
        y = frame.y(value)
        parts += [
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>',
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{value:g}</text>",
        ]
    for rate in rate_ticks(*frame.rates):
        x = frame.x(rate)
        parts += [
            f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>',
            f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{rate:g}</text>",
        ]
    return parts


def _curve(frame: _Frame, series: Series, unit: str) -> list[str]:
    places = [(frame.x(rate), frame.y(value)) for rate, value in series.points]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    marker = _MARKERS[series.slot]
    parts = [f'<g class="s{series.slot}">', f'<path class="line" d="M{line}"/>']
    for (rate, value), (x, y) in zip(series.points, places, strict=True):
        told = f"{series.title}: {rate:.3f} bpp, {value:.2f} {unit}".strip()
        shape = f'<path class="dot" d="{marker}"/>' if marker else ""
        parts.append(
            f'<g transform="translate({x:.1f} {y:.1f})"><title>{escape(told)}</title>{shape}'
            '<circle class="touch" r="9"/></g>'
        )
    return [*parts, "</g>"]


def _labels(frame: _Frame, panel: Panel) -> list[str]:
    """Return each codec's name at the right edge, with a line from its curve's end."""
    ends = [(frame.x(s.points[-1][0]), frame.y(s.points[-1][1])) for s in panel.series]
    places = spread_labels([y for _, y in ends], _LABEL_GAP, _HEIGHT - _BOTTOM)
    edge = _WIDTH - _RIGHT
    return [
        f'<g class="s{series.slot}"><path class="leader" '
        f'd="M{x + 6:.1f} {y:.1f}L{edge + 6} {place:.1f}H{edge + 14}"/>'
        f'<text class="label" x="{edge + 18}" y="{place + 4:.1f}">{escape(series.title)}</text></g>'
        for series, (x, y), place in zip(panel.series, ends, places, strict=True)
    ]
