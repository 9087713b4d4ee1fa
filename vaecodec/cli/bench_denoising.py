"""`vaecodec bench --denoise`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from vaecodec.cli.bench_outputs import Outputs, check_outputs
from vaecodec.cli.console import json_text, note, put_text
from vaecodec.cli.device import tell_setup
from vaecodec.cli.paths import STREAM, write

if TYPE_CHECKING:
    from vaecodec.bench import Skipped
    from vaecodec.bench.denoising import Damage
    from vaecodec.bench.denoising_peers import Method
    from vaecodec.bench.denoising_report import DenoisedRow, FileRow


def bench_denoising(
    folder: str,
    damages: list[Damage],
    methods: list[Method],
    qualities: list[float],
    outputs: Outputs,
    crops: int,
    bundle: str,
    device: str,
    *,
    force: bool,
    verbose: int,
    quiet: bool,
) -> None:
    """Measure denoising on a folder; see `measure_denoising`.

    Args:
        folder: Of images.
        damages: What is done to the images; noise of the usual strengths if nothing is.
        methods: Other denoisers.
        qualities: Of files.
        outputs: A report of all figures, and a picture of what the middle damage becomes.
        crops: How many images the picture shows.
        bundle: What denoises.
        device: Where.
        force: Whether the report may replace a file.
        verbose: How often `-v` was given; once shows what every image measures.
        quiet: Whether progress is kept back.
    """
    from dataclasses import asdict

    from vaecodec.bench.denoising import DEFAULT_DAMAGES, measure_denoising, side_by_side
    from vaecodec.bench.denoising_report import denoising_table, row_text
    from vaecodec.bench.folder import find_images
    from vaecodec.bench.method import describe_machine
    from vaecodec.bench.sheet import picture
    from vaecodec.bench.views import spread_out
    from vaecodec.codec import Codec

    paths = find_images(folder)
    check_outputs(outputs, paths, crops, force=force)
    codec = Codec(bundle, device)
    tell_setup(codec.bundle, device, verbose)
    damages = damages or list(DEFAULT_DAMAGES)

    def progress(done: int, total: int, name: str, rows: Sequence[DenoisedRow | FileRow]) -> None:
        if verbose or not quiet:
            note(f"{done}/{total} {name}")
        if verbose and rows:
            note("\n".join(f"  {row_text(row, 0, 0)}" for row in rows))

    report = measure_denoising(
        codec,
        paths,
        damages=damages,
        methods=methods,
        qualities=qualities,
        machine=describe_machine(device),
        progress=progress,
        notice=tell_skipped,
    )
    if outputs.sheet is not None:
        left_out = {skipped.image for skipped in report.skipped}
        shown = spread_out([path for path in paths if path.name not in left_out], crops)
        middle = damages[len(damages) // 2]
        rows = side_by_side(codec, paths, shown, middle, methods)
        write(outputs.sheet, picture(rows, PurePath(outputs.sheet).suffix.lower()), force=force)
    text = json_text(asdict(report), indent=1)
    if outputs.report not in (None, STREAM):
        write(outputs.report, (text + "\n").encode(), force=force)
    put_text(text if outputs.report == STREAM else denoising_table(report))


def tell_skipped(skipped: Skipped) -> None:
    """Say that an image is left out, however quiet: every mean is another without it."""
    note(f"skipped {skipped.image}: {' '.join(skipped.reason.split())}")
