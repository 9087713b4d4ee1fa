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
from vaecodec.metrics import Point, bd_rate

Curves = dict[str, list[Point]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """BD-rate against one curve.

    Attributes:
        curve: Its name.
        percent: Our rate over the curve's at equal PSNR; None where they cannot be compared.
        low_db: Lower end of the overlap.
        high_db: Upper end.
        problem: Why there is no figure; empty where there is one.
    """

    curve: str
    percent: float | None
    low_db: float | None = None
    high_db: float | None = None
    problem: str = ""


def load_curves(path: str | Path) -> Curves:
    """Read rate-distortion curves: `{codec: [{"bpp": ..., "psnr_rgb": ...}, ...]}` as JSON.

    Points without a PSNR are left out; other keys are ignored.

    Raises:
        InputError: If the file cannot be read, or is of another shape.
    """
    data = read_bytes(path)
    try:
        parsed = cast("dict[str, list[dict[str, Any]]]", json.loads(data))
        return {
            name: [
                (float(point["bpp"]), float(point["psnr_rgb"]))
                for point in points
                if point.get("psnr_rgb") is not None
            ]
            for name, points in parsed.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
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


def compare(ours: Iterable[Point], curves: Curves) -> tuple[Comparison, ...]:
    """Return the BD-rate of our points against each curve, which is the anchor.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    points = list(ours)
    return tuple(_compare_one(points, name, curve) for name, curve in curves.items())


def _compare_one(ours: list[Point], name: str, curve: list[Point]) -> Comparison:
    try:
        result = bd_rate(curve, ours)
    except ValueError as error:
        return Comparison(name, None, problem=str(error))
    return Comparison(name, result.percent, result.low_db, result.high_db)
