"""BD-rate of our curve against those of other codecs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vaecodec.bench.means import curve_of
from vaecodec.bench.results import METRICS, Gain, PeerMean, QualityRow
from vaecodec.metrics import Point, bd_rate


def compare_peers(
    ours: Sequence[QualityRow], peers: Sequence[PeerMean], metrics: Iterable[str]
) -> tuple[Gain, ...]:
    """Return the BD-rate against each codec by each metric, codec by codec.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    names = list(metrics)
    return tuple(
        _compare_one(
            curve_of([row for row in peers if row.codec == codec], metric),
            curve_of(ours, metric),
            codec,
            metric,
        )
        for codec in dict.fromkeys(row.codec for row in peers)
        for metric in names
    )


def _compare_one(anchor: list[Point], test: list[Point], codec: str, metric: str) -> Gain:
    try:
        result = bd_rate(anchor, test, METRICS[metric].unit)
    except ValueError as error:
        return Gain(codec, metric, None, problem=str(error))
    return Gain(codec, metric, result.percent, result.low_db, result.high_db)
