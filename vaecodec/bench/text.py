"""The report as aligned plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vaecodec.bench.means import value_of
from vaecodec.bench.results import METRICS, TRANSFORMS, Judged, Report, Speed, Timing
from vaecodec.curves import ENOUGH, Comparison

_WIDTHS = {"psnr": 8, "ms-ssim": 10, "ssimulacra2": 11}
_HEADS = {"psnr": "psnr_db", "ms-ssim": "ms_ssim_db", "ssimulacra2": "ssimulacra2"}
_DIGITS = {"psnr": 3, "ms-ssim": 3, "ssimulacra2": 2}


def text_table(report: Report) -> str:
    """Return all means and what they say against other codecs, a line for each."""
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
    if report.score_gains:
        lines += ["", *_score_gains(report)]
    if report.comparisons:
        lines += ["", "BD-rate (PSNR) against", *_comparisons(report.comparisons, {})]
    if report.speed:
        lines += ["", *speed_table(report.speed)]
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


def _score_gains(report: Report) -> Iterable[str]:
    """Yield the bits against the codecs measured here, a column for each score."""
    scores = dict.fromkeys(gain.score for gain in report.score_gains)
    width = max(len(info.title) for info in report.codecs)
    yield "Bits of ours at SSIMULACRA 2 scores, against the codecs measured here"
    yield f"  {'':<{width}}" + "".join(f" {score:9g}" for score in scores)
    for info in report.codecs:
        percents = [gain.percent for gain in report.score_gains if gain.codec == info.name]
        cells = ("-" if value is None else f"{value:+.2f}%" for value in percents)
        yield f"  {info.title:<{width}}" + "".join(f" {cell:>9}" for cell in cells)


def _comparisons(found: Sequence[Comparison], titles: Mapping[str, str]) -> Iterable[str]:
    """Yield a line for each, with the codec's title, or its name where it has none."""
    names = [titles.get(one.codec, one.codec) for one in found]
    width = max(map(len, names), default=0)
    for name, one in zip(names, found, strict=True):
        if one.percent is None:
            yield f"  {name:<{width}}  {one.problem}"
        else:
            span = f"{one.low:.2f} to {one.high:.2f} {METRICS[one.metric].unit}".rstrip()
            few = f", rough: only {one.points} points" if one.points < ENOUGH else ""
            yield f"  {name:<{width}} {one.percent:+8.2f}%  over {span}{few}"


def speed_table(speed: Speed) -> Iterable[str]:
    """Yield what both directions take, a line for each size."""
    yield (
        f"Speed on {speed.device} at quality {speed.quality:g}, medians in milliseconds, ceiling "
        f"of the fastest; {_ceiling(speed)}"
    )
    for direction, transform in TRANSFORMS.items():
        yield (
            f"{direction:<11} {'cold_s':>7} {'file_ms':>8} {'memory_ms':>9} {'MP/s':>6} "
            f"{'read':>6} {transform:>9} {'prior':>6} {'entropy':>7} {'other':>6} {'write':>6} "
            f"{'ceiling':>7} {'peak_MB':>7}"
        )
        for row in speed.sizes:
            timing: Timing = getattr(row, direction)
            named = ("read", transform, "prior", "entropy", "write")
            read, network, prior, entropy, write = (
                1000 * timing.stages.get(name, 0.0) for name in named
            )
            other = 1000 * sum(
                seconds for name, seconds in timing.stages.items() if name not in named
            )
            megapixels = row.width * row.height / 1e6
            share, peak = timing.ceiling_share, timing.peak_bytes
            yield (
                f"{row.width:>5}x{row.height:<5} {timing.cold_s:7.2f} {1000 * timing.file_s:8.0f} "
                f"{1000 * timing.memory_s:9.0f} {megapixels / timing.memory_s:6.2f} {read:6.0f} "
                f"{network:9.0f} {prior:6.0f} {entropy:7.0f} {other:6.0f} {write:6.0f} "
                f"{'-' if share is None else f'{100 * share:.0f}%':>7} "
                f"{'-' if peak is None else f'{peak / 1e6:.0f}':>7}"
            )

    if speed.throughput:
        whole = speed.throughput
        threads = "1 thread" if whole.threads == 1 else f"{whole.threads} threads"
        yield (
            f"{whole.width:>5}x{whole.height:<5} {whole.processes} at a time, each in a process of "
            f"{threads}: {whole.encode:.2f} MP/s encoded, {whole.decode:.2f} decoded"
        )


def speed_line(speed: Speed) -> str:
    """Return what both directions take in memory, in a line."""
    sizes = (
        f"{row.width}x{row.height} in {row.encode.memory_s:.3f} and {row.decode.memory_s:.3f} s"
        for row in speed.sizes
    )
    return (
        f"on {speed.device}, encoded and decoded at quality {speed.quality:g}: {', '.join(sizes)}; "
        f"{_ceiling(speed)}"
    )


def _ceiling(speed: Speed) -> str:
    return f"3x3 convolutions reach {speed.convolution_rate / 1e9:.1f} GMAC/s here"
