"""The page of the bench, read as text and in a real browser where there is one."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaecodec.bench.html import page
from vaecodec.bench.results import (
    ImageRow,
    PeerInfo,
    PeerMean,
    QualityRow,
    Report,
    ScoreGain,
    Skipped,
)
from vaecodec.bench.series import panels
from vaecodec.bench.views import Version, View
from vaecodec.curves import Comparison
from vaecodec.segments import Box

NAME = '<i>"odd" & strange\'.png'
BROWSERS = (
    "chromium",
    "chromium-headless-shell",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
# The browser speaks over descriptors 3 and 4, which only a process of its own can set up.
LAUNCHER = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.dup2(int(sys.argv[2]), 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)


def make_report() -> Report:
    ours = [
        QualityRow(q, r, 25 + 5 * r, 0.1, 0.2, 1.0, 1 - 0.1 / r) for q, r in ((10, 0.2), (90, 2))
    ]
    peers = [
        PeerMean(codec, q, r, 20 + 5 * r, 0.01, 0.02, 1 - 0.2 / r)
        for codec in ("jpeg", "webp")
        for q, r in ((5, 0.3), (50, 1), (95, 3))
    ]
    return Report(
        bundle="tiny",
        model_id="00ff00ff00ff00ff",
        qualities=tuple(ours),
        images=(ImageRow(NAME, 10, 64, 48, 100, 0.2, 26, 0.1, 0.2, 1.0),),
        comparisons=(Comparison("vtm", 12.5, 30, 40), Comparison("far", None, problem="too far")),
        metrics=("psnr", "ms-ssim"),
        codecs=(
            PeerInfo("jpeg", "JPEG", "libjpeg 1", "4:4:4"),
            PeerInfo("webp", "WebP", "libwebp 1", "4:2:0"),
        ),
        peers=tuple(peers),
        gains=(
            Comparison("jpeg", -31.25, 25.0, 35.0),
            Comparison("jpeg", 4.0, 5.0, 12.0, metric="ms-ssim"),
            Comparison("webp", 7.5, 25.0, 35.0),
            Comparison("webp", None, problem="the curves do not overlap", metric="ms-ssim"),
        ),
        skipped=(Skipped("broken<.png", "it is damaged"),),
        machine="x86_64, 2 cores",
    )


def make_view(seed: int, name: str = NAME) -> View:
    rng = np.random.default_rng(seed)
    versions = [
        Version(
            codec,
            title,
            quality,
            size,
            size / 384,
            psnr,
            rng.integers(0, 256, (32, 48, 3), np.uint8),
        )
        for codec, title, quality, size, psnr in (
            ("original", "Original", None, 9216, np.inf),
            ("vaecodec", "vaecodec", 10.0, 1000, 30.0),
            ("jpeg", "JPEG", 7.0, 1100, 25.0),
            ("webp", "WebP", 9.0, 990, 28.0),
        )
    ]
    whole = rng.integers(0, 256, (47, 65), np.uint8)
    return View(name, 65, 47, Box(0, 0, 32, 48), tuple(versions), rng.random((3, 5)) * 500, whole)


@cache
def make_page() -> str:
    report = make_report()
    curves = {"published": [(0.3, 26.0), (1.5, 34.0)]}
    return page(report, panels(report, curves), [make_view(1), make_view(2, "second.png")])


class Reader(HTMLParser):
    """Holds elements to their ends, and collects what they say."""

    EMPTY = frozenset({"meta", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_names_everything():
    text = make_page()
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert "<i>" not in text.replace("<i ", "")
    assert "broken&lt;.png" in text
    for said in ("\N{MINUS SIGN}31.2%", "+7.5%", "too far", "the curves do not overlap", "4:2:0"):
        assert said in text
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        if tag == "label":
            assert attributes["for"] in ids
        if tag == "svg":
            assert attributes["aria-label"]
        if tag == "img" and "src" in attributes:
            assert attributes["alt"]


def test_the_page_asks_for_nothing():
    text = make_page()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import", text)
    for address in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert address.startswith("data:")


def test_a_page_without_others_or_images():
    report = Report("tiny", "00", make_report().qualities, make_report().images)
    text = page(report, panels(report), [])
    assert "equal file size" not in text
    assert "against" not in text.partition("</title>")[0]
    alone = page(
        report, [], [View(**{**_fields(make_view(1)), "versions": make_view(1).versions[:2]})]
    )
    assert 'value="original" selected' in alone


def test_the_page_has_bits_at_scores():
    gains = (ScoreGain("jpeg", 50.0, -31.25), ScoreGain("jpeg", 90.0, None))
    others = tuple(replace(gain, codec="webp", percent=7.5) for gain in gains)
    text = page(replace(make_report(), score_gains=(*gains, *others)), [], [])
    _, found, rest = text.partition("<caption>Bits of ours at fixed SSIMULACRA 2 scores")
    assert found
    assert re.findall(r"<t[hd]\b[^>]*>([^<]*)", rest.partition("</table>")[0]) == [
        *("Codec", "at 50", "at 90"),
        *("JPEG", "\N{MINUS SIGN}31.2%", "\N{EN DASH}"),
        *("WebP", "+7.5%", "+7.5%"),
    ]
    assert "SSIMULACRA" not in page(make_report(), [], [])


def _fields(view: View) -> dict[str, Any]:
    return {name: getattr(view, name) for name in View.__slots__}


class Browser:
    """A headless Chromium, asked in its DevTools protocol through a pipe."""

    def __init__(self, binary: str, profile: Path) -> None:
        import fcntl  # which Windows has not

        pipes = [os.pipe(), os.pipe()]
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (pipes[0][0], pipes[1][1])]
        self.write, self.read = pipes[0][1], pipes[1][0]
        options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        options += ["--no-first-run", "--disable-gpu", "--window-size=1200,900"]
        if os.geteuid() == 0:  # which Chromium's sandbox refuses
            options.append("--no-sandbox")
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *map(str, theirs), binary, *options],
            pass_fds=theirs,
            stderr=subprocess.DEVNULL,
        )
        for fd in (*theirs, pipes[0][0], pipes[1][1]):
            os.close(fd)
        self.count = 0
        self.received = b""
        self.session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.write)
        os.close(self.read)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        end = time.monotonic() + 60
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.read], [], [], max(0, end - time.monotonic()))
            data = os.read(self.read, 2**20) if ready else b""
            assert data, "the browser says nothing"
            self.received += data
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path) -> None:
        self.ask("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def run(self, code: str) -> Any:
        done = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode={"ArrowLeft": 37, "ArrowRight": 39, "End": 35}[key],
            )

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def complaints(self) -> list[dict[str, Any]]:
        """Return exceptions, and what stands in the console."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event["method"] in kinds]

    def requests(self) -> set[str]:
        """Return how the addresses begin that were asked for."""
        return {
            event["params"]["request"]["url"].partition(":")[0]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None or os.name != "posix":
        pytest.skip(f"there is none of {', '.join(BROWSERS)}")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(make_page(), "utf-8")
    browser = Browser(binary, folder / "profile")
    try:
        browser.open(folder / "report.html")
        yield browser
    finally:
        browser.close()


def test_every_picture_is_decoded(browser: Browser):
    widths = browser.run(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(widths) == 2 * (2 + 4 + 2)
    assert min(widths) > 0


def test_the_divider_moves_by_keys_and_by_pointer(browser: Browser):
    split = "document.querySelector('.stage').style.getPropertyValue('--split')"
    clip = "getComputedStyle(document.querySelector('.stage .left')).clipPath"
    assert browser.run(split) == "50%"
    before = browser.run(clip)
    browser.run("document.querySelector('.stage input').focus()")
    browser.press("ArrowRight")
    assert browser.run(split) == "51%"
    assert browser.run(clip) != before
    told = browser.run("document.querySelector('.stage input').getAttribute('aria-valuetext')")
    assert told == "vaecodec, 1,000 bytes on 51% of the width, then JPEG, 1,100 bytes"
    browser.press("End")
    assert browser.run(split) == "100%"

    place = browser.run(
        "(() => { const s = document.querySelector('.stage'); s.scrollIntoView();"
        " const b = s.getBoundingClientRect();"
        " return [b.x + b.width * 0.95, b.y + b.height / 2]; })()"
    )
    browser.click(*place)
    assert browser.run(split) == "95%"


def test_each_side_shows_what_was_chosen(browser: Browser):
    state = """(() => {
      const view = document.querySelectorAll("[data-view]")[1];
      return ["left", "right"].map((side, index) => {
        const shown = view.querySelector(`.stage .${side}`).src;
        const from = [...view.querySelectorAll("[data-version]")].find(i => i.src === shown);
        return [from.dataset.version, view.querySelectorAll(".tag")[index].textContent];
      });
    })()"""
    assert browser.run(state) == [
        ["vaecodec", "vaecodec, 1,000 bytes"],
        ["jpeg", "JPEG, 1,100 bytes"],
    ]
    browser.run(
        """(() => {
          const choice = document.querySelectorAll("[data-view]")[1].querySelector("select");
          choice.value = "original";
          choice.dispatchEvent(new Event("change"));
        })()"""
    )
    assert browser.run(state)[0] == ["original", "Original"]
    assert browser.run("document.querySelector('[data-sources]').hidden")


def test_the_map_fades(browser: Browser):
    browser.run("document.querySelector('[data-map] input').focus()")
    browser.press("ArrowLeft")
    shown = "getComputedStyle(document.querySelector('.map')).getPropertyValue('--strength')"
    assert float(browser.run(shown)) == 0.6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, scheme: str):
    """Against its background, ordinary and muted, by the contrast that WCAG asks for."""
    browser.ask(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    colours = browser.run(
        """(() => {
          const of = (selector, name) =>
            getComputedStyle(document.querySelector(selector))[name].match(/[0-9.]+/g).map(Number);
          return [of("body", "backgroundColor"), of("body", "color"), of(".lead", "color"),
                  of(".keys .less", "color")];
        })()"""
    )

    def luminance(colour: list[float]) -> float:
        parts = [c / 255 for c in colour[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper, *inks = map(luminance, colours)
    assert (paper < 0.5) == (scheme == "dark")
    for ink in inks:
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5


def test_nothing_is_wider_than_a_phone(browser: Browser):
    browser.ask(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=800,
        deviceScaleFactor=2,
        mobile=True,
    )
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.ask("Emulation.clearDeviceMetricsOverride")


def test_the_browser_complains_of_nothing(browser: Browser):
    browser.run("1")
    assert browser.complaints() == []
    assert browser.requests() <= {"file", "data"}
