from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import json_text, note, put_text
from vaecodec.cli.options import BundleName, Force, Quiet
from vaecodec.cli.paths import STREAM, check_target, write

if TYPE_CHECKING:
    from vaecodec.bench import Report, Speed
    from vaecodec.curves import Comparison, Curves


def bench(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    curves: Annotated[
        str | None,
        typer.Option(
            "--curves",
            metavar="JSON",
            help='Curves to compare with: {codec: [{"bpp": ..., "psnr_rgb": ...}]}.',
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", metavar="NAME", help="A curve of that file, repeatable; all by default."
        ),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            "--qualities",
            metavar="LIST",
            help='Qualities, as in "10,50,90"; eight from 0 to 100 by default.',
        ),
    ] = None,
    with_speed: Annotated[
        bool, typer.Option("--speed", help="Time both directions on an image of one megapixel.")
    ] = False,
    report_to: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="OUT", help="Write all figures as JSON; - in place of the table."
        ),
    ] = None,
    force: Force = False,
    bundle: BundleName = "base",
    quiet: Quiet = False,
) -> None:
    """Measure rate, fidelity and time on a folder of images.

    Every image is encoded to a whole file and decoded again. The table goes to standard output:
    whole-file bits per pixel, RGB PSNR, seconds, and by how much files exceed the model's own
    estimate, each averaged over the images.
    """
    levels = _parse_qualities(qualities)
    if report_to is not None and report_to != STREAM:
        check_target(report_to, force=force)
    chosen = _read_curves(curves, against or [])

    from vaecodec import bench as measuring
    from vaecodec.codec import Codec
    from vaecodec.curves import compare

    paths = measuring.find_images(folder)
    codec = Codec(bundle)

    def progress(done: int, total: int, name: str) -> None:
        if not quiet:
            note(f"{done}/{total} {name}")

    rows = measuring.measure(codec, paths, levels or measuring.DEFAULT_QUALITIES, progress)
    means = measuring.summarise(rows)
    report = measuring.Report(
        bundle=codec.bundle.name,
        model_id=codec.bundle.model_id.hex(),
        qualities=means,
        images=tuple(rows),
        comparisons=compare(measuring.curve_of(means), chosen),
        speed=measuring.speed(codec, paths) if with_speed else None,
    )
    _publish(report, report_to, force=force)


def _parse_qualities(text: str | None) -> list[float]:
    """Return the qualities of a list such as "10,50,90"; none where none was given."""
    from vaecodec.rate import level_of_quality

    if text is None:
        return []
    try:
        qualities = [float(part) for part in text.replace(",", " ").split()]
        for quality in qualities:
            level_of_quality(quality)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--qualities") from error
    if not qualities:
        raise typer.BadParameter("the list is empty", param_hint="--qualities")
    return qualities


def _read_curves(path: str | None, names: list[str]) -> Curves:
    """Return the curves to compare with, before the measuring that a mistake would waste."""
    if path is None:
        if names:
            raise typer.BadParameter("it needs --curves JSON", param_hint="--against")
        return {}

    from vaecodec.curves import choose_curves, load_curves
    from vaecodec.metrics import load_pchip

    load_pchip()
    try:
        return choose_curves(load_curves(path), names)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--against") from error


def _publish(report: Report, target: str | None, *, force: bool) -> None:
    from dataclasses import asdict

    if target == STREAM:
        put_text(json_text(asdict(report), indent=1))
        return
    put_text(_table(report))
    if target is not None:
        write(target, (json_text(asdict(report), indent=1) + "\n").encode(), force=force)


def _table(report: Report) -> str:
    """Return the figures as aligned plain text."""
    images = len({row.image for row in report.images})
    lines = [
        f"{report.bundle} ({report.model_id}), means over {images} images",
        f"{'quality':>7} {'bpp':>8} {'psnr_db':>8} {'encode_s':>9} {'decode_s':>9} {'estimate':>9}",
    ]
    lines += [
        f"{row.quality:7.1f} {row.bpp:8.4f} {row.psnr_db:8.3f} {row.encode_s:9.3f} "
        f"{row.decode_s:9.3f} {row.estimate_error_percent:+8.2f}%"
        for row in report.qualities
    ]
    if report.comparisons:
        width = max(len(comparison.curve) for comparison in report.comparisons)
        lines += ["", "BD-rate (PSNR) against"]
        lines += [_comparison_line(comparison, width) for comparison in report.comparisons]
    if report.speed:
        lines += ["", _speed_line(report.speed)]
    return "\n".join(lines)


def _comparison_line(comparison: Comparison, width: int) -> str:
    if comparison.percent is None:
        return f"  {comparison.curve:<{width}}  {comparison.problem}"
    return (
        f"  {comparison.curve:<{width}} {comparison.percent:+8.2f}%  "
        f"over {comparison.low_db:.2f} to {comparison.high_db:.2f} dB"
    )


def _speed_line(speed: Speed) -> str:
    return (
        f"{speed.width}x{speed.height} at quality {speed.quality:g}, "
        f"medians of {speed.repeats}: "
        f"encode {speed.encode_s:.3f} s ({100 * speed.encode_entropy_share:.1f}% entropy coding), "
        f"decode {speed.decode_s:.3f} s ({100 * speed.decode_entropy_share:.1f}%)"
    )
