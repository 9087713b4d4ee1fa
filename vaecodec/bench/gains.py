"""BD-rate of our curve against those of other codecs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vaecodec.bench.means import curve_of
from vaecodec.bench.results import METRICS, PeerMean, QualityRow
from vaecodec.curves import Comparison, compare


def compare_peers(
    ours: Sequence[QualityRow], peers: Sequence[PeerMean], metrics: Iterable[str]
) -> tuple[Comparison, ...]:
    """Return the BD-rate against each codec by each metric, metric by metric.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    gains: list[Comparison] = []
    for metric in metrics:
        curves = {
            codec: curve_of([row for row in peers if row.codec == codec], metric)
            for codec in dict.fromkeys(row.codec for row in peers)
        }
        gains += compare(curve_of(ours, metric), curves, metric, METRICS[metric].unit)
    return tuple(gains)
