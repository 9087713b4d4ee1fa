"""`vaecodec bench --denoise`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaecodec.cli.console import json_text, note, put_text
from vaecodec.cli.paths import STREAM, check_target, write

if TYPE_CHECKING:
    from vaecodec.bench import Skipped
    from vaecodec.bench.denoisers import Method
    from vaecodec.bench.denoising import Damage


def bench_denoising(
    folder: str,
    damages: list[Damage],
    methods: list[Method],
    qualities: list[float],
    report_to: str | None,
    bundle: str,
    device: str,
    *,
    force: bool,
    quiet: bool,
) -> None:
    """Measure denoising on a folder; see `measure_denoising`.

    Args:
        folder: Of images.
        damages: What is done to the images; noise of the usual strengths if nothing is.
        methods: Other denoisers.
        qualities: Of files.
        report_to: Where all figures go as JSON, if anywhere.
        bundle: What denoises.
        device: Where.
        force: Whether the report may replace a file.
        quiet: Whether progress is kept back.
    """
    from dataclasses import asdict

    from vaecodec.bench.denoised import denoising_table
    from vaecodec.bench.denoising import DEFAULT_DAMAGES, measure_denoising
    from vaecodec.bench.folder import find_images
    from vaecodec.bench.method import describe_machine
    from vaecodec.codec import Codec

    paths = find_images(folder)
    if report_to not in (None, STREAM):
        check_target(report_to, force=force)
    report = measure_denoising(
        Codec(bundle, device),
        paths,
        damages=damages or DEFAULT_DAMAGES,
        methods=methods,
        qualities=qualities,
        machine=describe_machine(device),
        progress=None if quiet else lambda done, total, name: note(f"{done}/{total} {name}"),
        notice=tell_skipped,
    )
    text = json_text(asdict(report), indent=1)
    if report_to not in (None, STREAM):
        write(report_to, (text + "\n").encode(), force=force)
    put_text(text if report_to == STREAM else denoising_table(report))


def tell_skipped(skipped: Skipped) -> None:
    """Say that an image is left out, however quiet: every mean is another without it."""
    note(f"skipped {skipped.image}: {' '.join(skipped.reason.split())}")
