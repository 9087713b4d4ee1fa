"""Means over images, and the curves that they make."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from vaecodec.bench.results import (
    PSNR,
    SSIMULACRA2,
    ImageRow,
    Judged,
    PeerMean,
    PeerRow,
    QualityRow,
)
from vaecodec.metrics import Point

_AVERAGED = ("bpp", "psnr_db", "encode_s", "decode_s", "ms_ssim", "ssimulacra2")


def summarise(rows: Iterable[ImageRow]) -> tuple[QualityRow, ...]:
    """Return the means of rows of the same quality, by ascending quality."""
    groups: dict[float, list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row.quality, []).append(row)
    return tuple(
        QualityRow(
            quality=quality,
            estimate_error_percent=statistics.fmean(row.estimate_error_percent for row in group),
            **_means(group),
        )
        for quality, group in sorted(groups.items())
    )


def summarise_peers(rows: Iterable[PeerRow]) -> tuple[PeerMean, ...]:
    """Return the means of rows of the same codec and quality.

    Codecs come in the order of their first rows, and each one's qualities ascend.
    """
    groups: dict[str, dict[float, list[PeerRow]]] = {}
    for row in rows:
        groups.setdefault(row.codec, {}).setdefault(row.quality, []).append(row)
    return tuple(
        PeerMean(codec=codec, quality=quality, **_means(group))
        for codec, of_codec in groups.items()
        for quality, group in sorted(of_codec.items())
    )


def curve_of(rows: Iterable[Judged], metric: str = PSNR.name) -> list[Point]:
    """Return the rate-distortion curve of measured means: bpp, and the metric in its unit.

    Rows for which it was not measured are left out.
    """
    values = ((row.bpp, value_of(row, metric)) for row in rows)
    return [(rate, value) for rate, value in values if value is not None]


def value_of(row: Judged, metric: str) -> float | None:
    """Return a row's fidelity in the unit of a metric; None where it was not measured."""
    if metric == PSNR.name:
        return row.psnr_db
    if metric == SSIMULACRA2.name:
        return row.ssimulacra2
    return None if row.ms_ssim is None else ms_ssim_db(row.ms_ssim)


def ms_ssim_db(value: float) -> float:
    """Return what MS-SSIM lacks to 1, in dB: near 1 its own scale tells nothing apart."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def _means(rows: Sequence[Judged]) -> dict[str, Any]:
    """Return the means of what every row has, under the names of its fields."""
    measured = {name: [getattr(row, name) for row in rows] for name in _AVERAGED}
    return {
        name: None if None in values else statistics.fmean(values)
        for name, values in measured.items()
    }
