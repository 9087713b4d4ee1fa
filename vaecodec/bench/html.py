"""The report as one page of HTML that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from vaecodec.bench.chart import svg_chart
from vaecodec.bench.markup import number, percent, table
from vaecodec.bench.means import value_of
from vaecodec.bench.method import method_section
from vaecodec.bench.results import METRICS, PSNR, Judged, Metric, Report
from vaecodec.bench.series import Panel
from vaecodec.bench.sights import bits_section, crops_section
from vaecodec.bench.views import View
from vaecodec.curves import Comparison

_HERE = Path(__file__).parent
# The page may load nothing, whatever the name of a file makes of it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(report: Report, panels: Sequence[Panel], views: Sequence[View]) -> str:
    """Return the whole page.

    Args:
        report: What was measured.
        panels: Curves to plot.
        views: Images to look at.
    """
    images = report.image_count
    others = ", ".join(info.title for info in report.codecs)
    title = f"vaecodec {report.bundle}" + (f" against {others}" if others else "")
    sections = (
        _curves_section(report, panels),
        crops_section(views),
        bits_section(views),
        _figures_section(report),
        method_section(report),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{_text("page.css")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{images} image{"s" * (images != 1)} through whole files, model
<code>{escape(report.model_id)}</code>.</p>
{_key_figures(report)}</header>
<main>
{"".join(sections)}</main>
<footer>Made by <code>vaecodec bench</code>. This page loads nothing from anywhere.</footer>
<script>
{_text("page.js")}</script>
</body>
</html>
"""


def _text(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _key_figures(report: Report) -> str:
    """Return the BD-rates at equal PSNR, large."""
    titles = {info.name: info.title for info in report.codecs}
    items = "\n".join(
        f'<li><strong class="{"less" if gain.percent < 0 else "more"}">{percent(gain.percent)}'
        f"</strong> <span>bits against {escape(titles.get(gain.codec, gain.codec))}</span></li>"
        for gain in report.gains
        if gain.metric == PSNR.name and gain.percent is not None
    )
    if not items:
        return ""
    label = "Bits at equal PSNR, in the mean over all that both reach"
    return f'<ul class="keys" aria-label="{label}">\n{items}\n</ul>\n<p class="note">{label}.</p>\n'


def _curves_section(report: Report, panels: Sequence[Panel]) -> str:
    charts = "\n".join(
        f"<figure><h3>{escape(_headed(panel.metric))}</h3>\n{svg_chart(panel)}</figure>"
        for panel in panels
    )
    plots = f'<div class="charts">\n{charts}\n</div>\n' if charts else ""
    return f"""<section aria-labelledby="curves">
<h2 id="curves">Rate and fidelity</h2>
{plots}{_gains(report)}{_score_gains(report)}{_published(report)}</section>
"""


def _gains(report: Report) -> str:
    """Return the BD-rates against the codecs measured here, a column for each metric."""
    if not report.gains:
        return ""
    metrics = [METRICS[name] for name in report.metrics]
    rows: list[tuple[str, list[str]]] = []
    for info in report.codecs:
        of_codec = {gain.metric: gain for gain in report.gains if gain.codec == info.name}
        cells = [info.title]
        for metric in metrics:
            cells += _comparison_cells(of_codec[metric.name])
        rows.append(("", cells))
    heads = ["Codec"]
    for metric in metrics:
        heads += [metric.title, "over"]
    caption = "Bits of ours at equal fidelity, against each codec (BD-rate), and over which range"
    return table(heads, rows, caption=caption)


def _score_gains(report: Report) -> str:
    """Return the bits against the codecs measured here, a column for each score."""
    if not report.score_gains:
        return ""
    scores = dict.fromkeys(gain.score for gain in report.score_gains)
    rows: list[tuple[str, list[str]]] = []
    for info in report.codecs:
        gains = [gain.percent for gain in report.score_gains if gain.codec == info.name]
        rows.append(("", [info.title, *map(percent, gains)]))
    caption = "Bits of ours at fixed SSIMULACRA 2 scores, against each codec"
    return table(("Codec", *(f"at {score:g}" for score in scores)), rows, caption=caption)


def _comparison_cells(found: Comparison) -> tuple[str, str]:
    if found.percent is None:
        return percent(None), found.problem
    span = f"{number(found.low, 1)} to {number(found.high, 1)} {METRICS[found.metric].unit}"
    return percent(found.percent), span.rstrip()


def _published(report: Report) -> str:
    if not report.comparisons:
        return ""
    rows = [("", (found.codec, *_comparison_cells(found))) for found in report.comparisons]
    caption = "Bits of ours at equal PSNR, against published curves (BD-rate)"
    return table(("Curve", "PSNR", "over"), rows, caption=caption)


def _figures_section(report: Report) -> str:
    tables = _figures(report, "vaecodec", report.qualities)
    for info in report.codecs:
        rows = [row for row in report.peers if row.codec == info.name]
        tables += (
            f"<details><summary>{escape(info.title)}</summary>"
            f"{_figures(report, info.title, rows)}</details>\n"
        )
    return f"""<section aria-labelledby="figures">
<h2 id="figures">All figures</h2>
<p class="note">Means over the images.</p>
{tables}</section>
"""


def _figures(report: Report, title: str, rows: Iterable[Judged]) -> str:
    """Return the means of one codec: quality, rate, fidelities, and seconds of each direction."""
    metrics = [METRICS[name] for name in report.metrics]
    body = [
        (
            "",
            [
                f"{row.quality:g}",
                number(row.bpp, 3),
                *(number(value_of(row, metric.name), 2) for metric in metrics),
                number(row.encode_s, 3),
                number(row.decode_s, 3),
            ],
        )
        for row in rows
    ]
    heads = ["Quality", "bpp", *map(_headed, metrics), "Encode, s", "Decode, s"]
    return table(heads, body, caption=title)


def _headed(metric: Metric) -> str:
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title
