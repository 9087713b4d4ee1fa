"""Published rate-distortion curves, and how far ours is from them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vaecodec.errors import InputError
from vaecodec.fileio import read_bytes
from vaecodec.metrics import Point, bd_rate, clean_curve

Curves = dict[str, list[Point]]
ENOUGH = 4
"""Points of a curve from which its interpolation can be relied on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """BD-rate against another codec.

    Attributes:
        codec: The other, which 0% stands for.
        percent: Our rate over the other's; None where the two cannot be compared.
        low: Lower end of the fidelities that both reach, in the metric's unit.
        high: Upper end.
        problem: Why there is no figure; empty where there is one.
        metric: The name of what is held equal.
        points: How many the curve of fewer usable points has; with under `ENOUGH`, the figure is a
            rough one.
    """

    codec: str
    percent: float | None
    low: float | None = None
    high: float | None = None
    problem: str = ""
    metric: str = "psnr"
    points: int = ENOUGH


def load_curves(path: str | Path) -> Curves:
    """Read rate-distortion curves: `{codec: [{"bpp": ..., "psnr_rgb": ...}, ...]}` as JSON.

    Points without a PSNR are left out; other keys are ignored. A report of `vaecodec bench` will
    do, too: its bundle is the codec.

    Raises:
        InputError: If the file cannot be read, or is of another shape.
    """
    data = read_bytes(path)
    try:
        parsed = cast("dict[str, Any]", json.loads(data))
        if "qualities" in parsed:
            means = [(float(row["bpp"]), float(row["psnr_db"])) for row in parsed["qualities"]]
            return {str(parsed["bundle"]): means}
        return {
            name: [
                (float(point["bpp"]), float(point["psnr_rgb"]))
                for point in points
                if point.get("psnr_rgb") is not None
            ]
            for name, points in parsed.items()
        }
    except (
        ArithmeticError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path} is not a JSON file of curves, "
            '{codec: [{"bpp": number, "psnr_rgb": number}]}: ' + repr(error)
        ) from error


def choose_curves(curves: Curves, names: Sequence[str]) -> Curves:
    """Return the named curves, in the order of the names; all of them without names.

    Raises:
        ValueError: If there is no curve of a name; close ones are suggested.
    """
    for name in names:
        if name not in curves:
            close = difflib.get_close_matches(name, curves) or sorted(curves)[:10]
            raise ValueError(f"there is no curve named {name} (there is {', '.join(close)})")
    return {name: curves[name] for name in names} if names else curves


def compare(
    ours: Iterable[Point], curves: Curves, metric: str = "psnr", unit: str = "dB"
) -> tuple[Comparison, ...]:
    """Return the BD-rate of our points against each curve, which is the anchor.

    Args:
        ours: Any number of points.
        curves: The others, by codec.
        metric: The name of their fidelity.
        unit: Of it, for what problems say.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    points = list(ours)
    found: list[Comparison] = []
    for codec, curve in curves.items():
        try:
            result = bd_rate(curve, points, unit)
        except ValueError as error:
            found.append(Comparison(codec, None, problem=str(error), metric=metric))
        else:
            ends = result.low_db, result.high_db
            fewest = min(len(clean_curve(curve)), len(clean_curve(points)))
            found.append(Comparison(codec, result.percent, *ends, metric=metric, points=fewest))
    return tuple(found)
