"""The report as aligned plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vaecodec.bench.means import value_of
from vaecodec.bench.results import METRICS, Judged, Report, Speed
from vaecodec.curves import Comparison

_WIDTHS = {"psnr": 8, "ms-ssim": 10, "ssimulacra2": 11}
_HEADS = {"psnr": "psnr_db", "ms-ssim": "ms_ssim_db", "ssimulacra2": "ssimulacra2"}
_DIGITS = {"psnr": 3, "ms-ssim": 3, "ssimulacra2": 2}


def text_table(report: Report) -> str:
    """Return all means and BD-rates, a line for each."""
    lines = [
        f"{report.bundle} ({report.model_id}), means over {report.image_count} images",
        f"{_heads(report)} {'encode_s':>9} {'decode_s':>9} {'estimate':>9}",
    ]
    lines += [
        f"{row.quality:7.1f} {_figures(report, row)} {row.encode_s:9.3f} {row.decode_s:9.3f} "
        f"{row.estimate_error_percent:+8.2f}%"
        for row in report.qualities
    ]
    for info in report.codecs:
        lines += ["", f"{info.title} ({info.library}): {info.settings}"]
        lines.append(f"{_heads(report)} {'encode_s':>9} {'decode_s':>9}")
        lines += [
            f"{row.quality:7.2f} {_figures(report, row)} {row.encode_s:9.3f} {row.decode_s:9.3f}"
            for row in report.peers
            if row.codec == info.name
        ]
    if report.gains:
        lines += ["", *_gains(report)]
    if report.comparisons:
        lines += ["", "BD-rate (PSNR) against", *_comparisons(report.comparisons, {})]
    if report.speed:
        lines += ["", speed_line(report.speed)]
    return "\n".join(lines)


def _heads(report: Report) -> str:
    return " ".join(
        (f"{'quality':>7} {'bpp':>8}", *(f"{_HEADS[m]:>{_WIDTHS[m]}}" for m in report.metrics))
    )


def _figures(report: Report, row: Judged) -> str:
    cells = [f"{row.bpp:8.4f}"]
    for metric in report.metrics:
        value = value_of(row, metric)
        text = "-" if value is None else f"{value:.{_DIGITS[metric]}f}"
        cells.append(f"{text:>{_WIDTHS[metric]}}")
    return " ".join(cells)


def _gains(report: Report) -> Iterable[str]:
    """Yield the BD-rates against the codecs measured here, a block for each metric."""
    titles = {info.name: info.title for info in report.codecs}
    for name in report.metrics:
        yield f"BD-rate ({METRICS[name].title}) against the codecs measured here"
        yield from _comparisons([gain for gain in report.gains if gain.metric == name], titles)


def _comparisons(found: Sequence[Comparison], titles: Mapping[str, str]) -> Iterable[str]:
    """Yield a line for each, with the codec's title, or its name where it has none."""
    names = [titles.get(one.codec, one.codec) for one in found]
    width = max(map(len, names), default=0)
    for name, one in zip(names, found, strict=True):
        if one.percent is None:
            yield f"  {name:<{width}}  {one.problem}"
        else:
            span = f"{one.low:.2f} to {one.high:.2f} {METRICS[one.metric].unit}".rstrip()
            yield f"  {name:<{width}} {one.percent:+8.2f}%  over {span}"


def speed_line(speed: Speed) -> str:
    """Return the medians of both directions in a line."""
    return (
        f"{speed.width}x{speed.height} at quality {speed.quality:g}, "
        f"medians of {speed.repeats}: "
        f"encode {speed.encode_s:.3f} s ({100 * speed.encode_entropy_share:.1f}% entropy coding), "
        f"decode {speed.decode_s:.3f} s ({100 * speed.decode_entropy_share:.1f}%)"
    )
