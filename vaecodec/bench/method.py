"""How a run measured, in words: the end of the page."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from html import escape
from importlib import metadata
from pathlib import Path

from vaecodec.bench.markup import table
from vaecodec.bench.results import MS_SSIM, SSIMULACRA2, Report
from vaecodec.bench.text import speed_line

_METRICS = {
    MS_SSIM.name: "MS-SSIM (Wang, Simoncelli and Bovik 2003) is the mean over the channels of RGB; "
    "of its mean over the images, tables and plots show what it lacks to 1, in dB.",
    SSIMULACRA2.name: "SSIMULACRA 2 is computed by the Python package of that name, which was up "
    "to 2 points lower than libjxl's own tool between 20 and 90.",
}
_AT_SCORES = (
    "Bits at fixed SSIMULACRA 2 scores are read from the same interpolation of the means; a dash "
    "stands where either codec does not reach the score."
)
_LIBRARIES = ("vaecodec", "onnxruntime", "numpy", "pillow")


def describe_machine(device: str) -> str:
    """Return what the times depend on: processor, cores, device and versions, in a line."""
    cores = f"{os.cpu_count() or 1} cores"
    versions = [f"Python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # another build of ONNX Runtime, or a checkout
            continue
    system = f"{platform.machine()} ({sys.platform})"
    networks = f"networks on {device}"
    return ", ".join((*_processor(), system, cores, networks, *versions))


def _processor() -> list[str]:
    """Return what the processor calls itself, where Linux or Python know it."""
    with contextlib.suppress(OSError):
        found = re.search("^model name\\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
        if found:
            return [found[1]]
    return [platform.processor()] if platform.processor() else []


def method_section(report: Report) -> str:
    """Return what was done to measure, codec by codec, and which images were left out."""
    notes = [
        "Every image is encoded to a whole file in memory, and that file is decoded. Rates are of "
        "the whole file, without metadata. Each image counts the same in a mean.",
        "PSNR is over all samples of all channels, after rounding to 8 bits; it is averaged over "
        "the images in dB.",
        *(text for name, text in _METRICS.items() if name in report.metrics),
        "BD-rate is the mean difference of the logarithm of the rate, interpolated by monotone "
        "cubics, over the fidelities that both codecs reach.",
        *([_AT_SCORES] if report.score_gains else []),
        "Times are from an image in memory to bytes and back, one image at a time, with as many "
        "threads as each codec takes by itself.",
    ]
    if report.speed:
        notes.append(f"Speed: {speed_line(report.speed)}.")
    if report.machine:
        notes.append(f"Machine: {report.machine}.")
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"""<section aria-labelledby="method">
<h2 id="method">How it was measured</h2>
<ul class="note">
{items}
</ul>
{_codecs(report)}{_skipped(report)}</section>
"""


def _codecs(report: Report) -> str:
    if not report.codecs:
        return ""
    rows = [("", (info.title, info.library, info.settings)) for info in report.codecs]
    caption = "The other codecs, and how they were set"
    return table(("Codec", "Library", "Settings"), rows, kind="wide words", caption=caption)


def _skipped(report: Report) -> str:
    if not report.skipped:
        return ""
    rows = [("", (skipped.image, skipped.reason)) for skipped in report.skipped]
    return table(("Image", "Reason"), rows, kind="wide words", caption="Images left out")
