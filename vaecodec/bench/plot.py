"""Rate-distortion plots as PNG or SVG, drawn by Matplotlib."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import Any

from vaecodec.bench.series import PUBLISHED, Panel, Series, rate_ticks, spread_labels
from vaecodec.errors import RuntimeUnavailableError

PLOT_SUFFIXES = (".png", ".svg")

# Told apart by people who see colours otherwise, too, and 3 to 1 against white at least; markers
# say the same again. By slot: see `Series`.
_COLOURS = (
    "#0b5fc4",
    "#d55e00",
    "#009e73",
    "#c4609a",
    "#7d1d55",
    "#6f6f6f",
    "#a67c00",
    "#7a4fbf",
    "#8a8f98",
    "#5c2a00",
    "#16166e",
    "#14181d",
    "#0090b8",
)
_MARKERS = ("o", "s", "^", "D", "<", "X", "v", "P", "", ">", "*", "p", "|")
_INK, _MUTED, _GRID = "#1b1f24", "#59636e", "#e3e6ea"
_WIDTH, _HEIGHT = 6.4, 4.6
_LABEL_GAP = 0.052
_LEADER = {"arrowstyle": "-", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 3}
_ROOM = 0.04
_SETTINGS = {
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "vaecodec",
    "axes.unicode_minus": False,
    "text.parse_math": False,
}


def draw(panels: Sequence[Panel], suffix: str, caption: str = "") -> bytes:
    """Return a picture of all panels, side by side.

    Args:
        panels: What to draw.
        suffix: One of `PLOT_SUFFIXES`.
        caption: What was measured, in a line.

    Raises:
        ValueError: If there is nothing to draw, or the suffix is another.
        RuntimeUnavailableError: If Matplotlib is not installed.
    """
    if not panels or suffix not in PLOT_SUFFIXES:
        raise ValueError(f"nothing to draw as {suffix}: {len(panels)} panels")
    matplotlib = load_matplotlib()
    file = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure = matplotlib.figure.Figure(
            figsize=(_WIDTH * len(panels), _HEIGHT), layout="constrained"
        )
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, axes in zip(panels, row, strict=True):
            _draw_panel(axes, panel)
        if caption:
            figure.suptitle(caption, x=0.012, ha="left", fontsize=10, color=_MUTED)
        # A date in the file would make every one of them another.
        dateless = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(file, format=suffix[1:], dpi=144, metadata=dateless)
    return file.getvalue()


def load_matplotlib() -> Any:
    """Return Matplotlib, which is imported only now.

    Raises:
        RuntimeUnavailableError: If it is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise RuntimeUnavailableError(
            "plots need Matplotlib, which is not installed", "pip install 'vaecodec[bench]'"
        ) from error


def _draw_panel(axes: Any, panel: Panel) -> None:
    for series in reversed(panel.series):  # ours comes to lie on top
        _draw_curve(axes, series)
    axes.set_xscale("log")
    ticks = rate_ticks(*panel.rates)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(x=0.03, y=_ROOM)
    axes.set_xlabel("bits per pixel, whole file", color=_MUTED)
    unit = f", {panel.metric.unit}" if panel.metric.unit else ""
    axes.set_title(f"{panel.metric.title}{unit}", loc="left", color=_INK, fontweight="bold")
    axes.grid(visible=True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_MUTED)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    _label_curves(axes, panel)


def _draw_curve(axes: Any, series: Series) -> None:
    ours = series.slot == 0
    axes.plot(
        [rate for rate, _ in series.points],
        [value for _, value in series.points],
        color=_COLOURS[series.slot],
        marker=_MARKERS[series.slot],
        markersize=5 if ours else 4,
        linewidth=2.6 if ours else 1.4,
        linestyle="--" if series.slot == PUBLISHED else "-",
    )


def _label_curves(axes: Any, panel: Panel) -> None:
    """Write each codec's name at the right edge, level with its curve's end if there is room."""
    low, high = axes.get_ylim()
    ends = [(series.points[-1][1] - low) / (high - low) for series in panel.series]
    for series, end, place in zip(
        panel.series, ends, spread_labels(ends, _LABEL_GAP, 1.0), strict=True
    ):
        axes.annotate(
            series.title,
            xy=(series.points[-1][0], low + end * (high - low)),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            color=_INK,
            fontweight="bold" if series.slot == 0 else "normal",
            arrowprops=_LEADER | {"color": _COLOURS[series.slot]},
            annotation_clip=False,
        )
