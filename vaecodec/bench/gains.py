"""Our curve against those of other codecs: BD-rates, and bits at fixed scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from vaecodec.bench.means import curve_of
from vaecodec.bench.results import METRICS, SSIMULACRA2, PeerMean, QualityRow, ScoreGain
from vaecodec.curves import Comparison, Curves, compare
from vaecodec.metrics import Point, rate_at

SCORES = (50.0, 70.0, 80.0, 90.0)
"""Of SSIMULACRA 2: from medium quality to one that cannot be told from the original."""


def compare_peers(
    ours: Sequence[QualityRow], peers: Sequence[PeerMean], metrics: Iterable[str]
) -> tuple[Comparison, ...]:
    """Return the BD-rate against each codec by each metric, metric by metric.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    gains: list[Comparison] = []
    for metric in metrics:
        curves = _curves(peers, metric)
        gains += compare(curve_of(ours, metric), curves, metric, METRICS[metric].unit)
    return tuple(gains)


def compare_at_scores(
    ours: Sequence[QualityRow], peers: Sequence[PeerMean], metrics: Collection[str]
) -> tuple[ScoreGain, ...]:
    """Return the bits against each codec at each of `SCORES`, codec by codec.

    Args:
        ours: Means.
        peers: Those of the others.
        metrics: What was measured: nothing is returned where SSIMULACRA 2 was not.

    Raises:
        RuntimeUnavailableError: If SciPy is not installed.
    """
    if SSIMULACRA2.name not in metrics:
        return ()
    curve = curve_of(ours, SSIMULACRA2.name)
    return tuple(
        ScoreGain(codec, score, _percent_at(curve, other, score))
        for codec, other in _curves(peers, SSIMULACRA2.name).items()
        for score in SCORES
    )


def _curves(peers: Sequence[PeerMean], metric: str) -> Curves:
    """Return each codec's curve, in the order of their first rows."""
    return {
        codec: curve_of([row for row in peers if row.codec == codec], metric)
        for codec in dict.fromkeys(row.codec for row in peers)
    }


def _percent_at(ours: Sequence[Point], theirs: Sequence[Point], score: float) -> float | None:
    try:
        return 100 * (rate_at(ours, score) / rate_at(theirs, score) - 1)
    except ValueError:  # a curve does not reach the score, or is none
        return None
