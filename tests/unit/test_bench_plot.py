from __future__ import annotations

import io
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from test_bench_html import make_report

from vaecodec.bench import chart, html, plot
from vaecodec.bench.chart import svg_chart
from vaecodec.bench.plot import draw
from vaecodec.bench.results import PeerInfo, PeerMean
from vaecodec.bench.series import (
    BUNDLES,
    PUBLISHED,
    SLOTS,
    Series,
    panels,
    rate_ticks,
    spread_labels,
    value_ticks,
)
from vaecodec.errors import RuntimeUnavailableError

CURVE = [(0.01, 20.0), (0.3, 26.0), (1.5, 34.0), (9.0, 50.0)]


def test_panels_hold_every_codec_in_its_place():
    psnr, ms_ssim = panels(make_report(), {"vtm": CURVE})
    assert (psnr.metric.name, ms_ssim.metric.name) == ("psnr", "ms-ssim")
    assert [(series.title, series.slot) for series in psnr.series] == [
        ("vaecodec", 0),
        ("JPEG", 1),
        ("WebP", 2),
        ("vtm", PUBLISHED),
    ]
    assert psnr.series[-1].points == tuple(CURVE[1:3])  # as far as measured rates reach
    assert [series.title for series in ms_ssim.series] == ["vaecodec", "JPEG", "WebP"]


def test_bundles_have_places_of_their_own():
    report = make_report()
    names = [f"bundle:{index}" for index in range(BUNDLES + 1)]
    infos = [PeerInfo(name, f"base {name[-1]}", "base 1", "") for name in names]
    peers = [PeerMean(name, rate, rate, 30 * rate, 0.1, 0.1) for name in names for rate in (1, 2)]
    report = replace(report, codecs=(infos[0], *report.codecs, *infos[1:]), peers=tuple(peers))
    psnr = panels(report)[0]
    assert [(series.title, series.slot) for series in psnr.series[1:]] == [
        ("base 0", PUBLISHED + 1),
        ("base 1", PUBLISHED + 2),
        ("base 2", PUBLISHED + 3),
        ("base 3", PUBLISHED + 4),
        ("base 4", PUBLISHED + 1),
    ]
    assert {series.slot for series in psnr.series} < {*range(SLOTS)}
    assert draw([psnr], ".svg")
    assert f'class="s{SLOTS - 1}"' in svg_chart(psnr)


def test_many_published_curves_hide_nothing():
    many = {f"codec {index}": CURVE for index in range(7)}
    assert len(panels(make_report(), many)[0].series) == 3


def test_every_codec_has_a_look_of_its_own():
    slots = [*range(SLOTS)]
    rules = (Path(html.__file__).parent / "page.css").read_text("utf-8")
    for looks in (plot._COLOURS, plot._MARKERS, chart._MARKERS):
        assert len(set(looks)) == len(looks) == len(slots)
    for slot in slots:
        assert f".s{slot} {{ --hue: var(--s{slot}); }}" in rules
    assert f".chart .s{PUBLISHED} .line" in rules
    assert f".s{SLOTS} " not in rules


def test_ticks():
    assert rate_ticks(0.04, 2.1) == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    assert rate_ticks(0.21, 0.49) == pytest.approx([0.25, 0.3, 0.35, 0.4, 0.45])
    assert rate_ticks(0.5, 0.5) == [0.5]
    assert value_ticks(23.2, 44.0) == [25.0, 30.0, 35.0, 40.0]
    assert value_ticks(0.2, 1.1) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("places", [[5.0, 5.0, 5.0], [9.5, 9.0, 1.0], [1.0], []])
def test_labels_stand_apart(places: list[float]):
    moved = spread_labels(places, 2.0, 10.0)
    ordered = sorted(moved)
    assert all(b - a >= 2 - 1e-9 for a, b in pairwise(ordered))
    assert max(moved, default=0) <= 10
    assert [moved[i] for i in sorted(range(len(places)), key=places.__getitem__)] == ordered


def test_labels_that_are_apart_stay():
    assert spread_labels([1.0, 8.0, 4.0], 2.0, 10.0) == [1.0, 8.0, 4.0]


def test_a_chart_of_files_of_one_size():
    flat = panels(make_report())[0]
    series = Series("vaecodec", 0, ((0.5, 30.0), (0.5, 31.0)))
    root = ElementTree.fromstring(svg_chart(replace(flat, series=(series,))))  # noqa: S314
    assert root.get("class") == "chart"


def test_names_of_curves_are_no_formulas():
    assert rb"$\foo$" in draw(panels(make_report(), {r"$\foo$": CURVE}), ".svg")


def test_a_chart_is_well_formed_and_its_points_lie_where_they_should():
    panel = panels(make_report(), {"<vtm>": CURVE})[0]
    root = ElementTree.fromstring(svg_chart(panel))  # noqa: S314
    classes = {group.get("class") for group in root.iter("g")}
    assert {"s0", "s1", "s2", f"s{PUBLISHED}"} <= classes
    texts = [text.text for text in root.iter("text")]
    assert "<vtm>" in texts
    assert {"0.2", "0.5", "1", "2"} <= set(texts)
    told = [title.text for title in root.iter("title")]
    assert "JPEG: 0.300 bpp, 21.50 dB" in told
    points = [
        [float(number) for number in group.get("transform", "")[10:-1].split()]
        for group in root.iter("g")
        if group.get("transform")
    ]
    lowest = told.index("JPEG: 0.300 bpp, 21.50 dB")
    highest = told.index("JPEG: 3.000 bpp, 35.00 dB")
    assert points[lowest][0] < points[highest][0]
    assert points[lowest][1] > points[highest][1]
    assert all(0 < x < 660 and 0 < y < 420 for x, y in points)


def test_a_plot_as_png():
    pytest.importorskip("matplotlib")
    one, two = (
        Image.open(io.BytesIO(draw(shown, ".png", "what")))
        for shown in (panels(make_report())[:1], panels(make_report()))
    )
    assert two.width > 1.8 * one.width
    assert len(one.convert("RGB").getcolors(2**20) or ()) > 20


def test_a_plot_as_svg_is_the_same_again():
    pytest.importorskip("matplotlib")
    shown = panels(make_report())
    svg = draw(shown, ".svg", "a caption")
    assert svg == draw(shown, ".svg", "a caption")
    text = svg.decode()
    for said in ("PSNR, dB", "MS-SSIM, dB", "vaecodec", "WebP", "a caption", "bits per pixel"):
        assert said in text


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([], ".png")
    with pytest.raises(ValueError, match=r"as \.gif"):
        draw(panels(make_report()), ".gif")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        draw(panels(make_report()), ".png")
    assert caught.value.pip_line == "pip install 'vaecodec[bench]'"
