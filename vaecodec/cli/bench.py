from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import json_text, note, put_text
from vaecodec.cli.device import Device, tell_setup, verbose_option
from vaecodec.cli.options import BundleName, Force, Quiet, examples
from vaecodec.cli.paths import STREAM, check_target, write

if TYPE_CHECKING:
    from vaecodec.bench import ImageRow, Measured, PeerRow, Report, Skipped
    from vaecodec.bench.peers import Peer
    from vaecodec.codec import Codec
    from vaecodec.curves import Curves

EXAMPLES = examples(
    "vaecodec bench photos/",
    "vaecodec bench photos/ --codecs jpeg,webp,avif --html report.html",
    "vaecodec bench photos/ --codecs installed --metrics ms-ssim --plot curves.svg",
    "vaecodec bench kodak/ --curves kodak_rd.json --against vtm --json -",
)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where what goes; None where it was not asked for."""

    report: str | None
    plot: str | None
    html: str | None


def bench(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    codecs: Annotated[
        str | None,
        typer.Option(
            "--codecs",
            metavar="LIST",
            help="Other codecs to measure, through Pillow: any of jpeg, webp, avif, jpeg2000, jxl "
            "and heic (whose plugins are pillow-jxl-plugin and pillow-heif), all, or installed.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="LIST",
            help="Fidelity besides PSNR: ms-ssim, ssimulacra2 (which takes a second an image).",
        ),
    ] = None,
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
    plot_to: Annotated[
        str | None,
        typer.Option(
            "--plot", metavar="OUT", help="Plot rate and fidelity, to a .png or .svg file."
        ),
    ] = None,
    html_to: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="OUT",
            help="Write a page with plots, tables, crops at equal file size, and heat maps of "
            "where the bits went; it needs no other file.",
        ),
    ] = None,
    crops: Annotated[
        int, typer.Option("--crops", metavar="N", min=0, help="Images to show on that page.")
    ] = 4,
    force: Force = False,
    bundle: BundleName = "base",
    device: Device = "cpu",
    verbose: Annotated[int, verbose_option("what every image measures at every quality")] = 0,
    quiet: Quiet = False,
) -> None:
    """Measure rate, fidelity and time on a folder of images.

    Every image is encoded to a whole file and decoded again. The table goes to standard output:
    whole-file bits per pixel, RGB PSNR, seconds, and by how much files exceed the model's own
    estimate, each averaged over the images. Images that cannot be used are skipped.
    """
    levels = _parse_qualities(qualities)
    outputs = _Outputs(report_to, plot_to, html_to)
    names = _parse_metrics(metrics)
    peers = _choose_codecs(codecs)
    if outputs.plot is not None and len(set(levels)) == 1 and not peers:
        raise typer.BadParameter("a curve needs two --qualities", param_hint="--plot")
    chosen = _read_curves(curves, against or [])

    from vaecodec import bench as measuring
    from vaecodec.bench.method import describe_machine
    from vaecodec.bench.text import text_table
    from vaecodec.codec import Codec
    from vaecodec.curves import compare

    paths = measuring.find_images(folder)
    _check_outputs(outputs, paths, force=force)
    codec = Codec(bundle, device)
    tell_setup(codec.bundle, device, verbose)

    def progress(done: int, total: int, rows: Sequence[ImageRow | PeerRow]) -> None:
        if verbose or not quiet:
            note(f"{done}/{total} {rows[0].image}")
        if verbose:
            note("\n".join(map(_row_text, rows)))

    measured = measuring.measure_folder(
        codec,
        paths,
        levels or measuring.DEFAULT_QUALITIES,
        peers=peers,
        metrics=names,
        progress=progress,
        notice=_tell_skipped,
    )
    means = measuring.summarise(measured.images)
    of_peers = measuring.summarise_peers(measured.peers)
    report = measuring.Report(
        bundle=codec.bundle.name,
        model_id=codec.bundle.model_id.hex(),
        qualities=means,
        images=measured.images,
        comparisons=compare(measuring.curve_of(means), chosen),
        speed=measuring.speed(codec, measured.paths) if with_speed else None,
        metrics=tuple(names),
        codecs=tuple(peer.info() for peer in peers),
        peers=of_peers,
        peer_images=measured.peers,
        gains=measuring.compare_peers(means, of_peers, names),
        skipped=measured.skipped,
        machine=describe_machine(device),
    )
    if outputs.report not in (None, STREAM):
        write(outputs.report, (_json(report) + "\n").encode(), force=force)
    if outputs.plot is not None:
        _draw(report, outputs.plot, chosen, force=force)
    if outputs.html is not None:
        page = _page(report, chosen, codec, measured, peers, crops)
        # A file's name may be of no encoding.
        write(outputs.html, page.encode(errors="backslashreplace"), force=force)
    put_text(_json(report) if outputs.report == STREAM else text_table(report))


def _row_text(row: ImageRow | PeerRow) -> str:
    """Return one measurement as a line below the name of its image."""
    codec = getattr(row, "codec", "vaecodec")
    return (
        f"  {codec} {row.quality:g}: {row.bpp:.4f} bpp, {row.psnr_db:.3f} dB, "
        f"encode {row.encode_s:.3f} s, decode {row.decode_s:.3f} s"
    )


def _tell_skipped(skipped: Skipped) -> None:
    """Say that an image is left out, however quiet: every mean is another without it."""
    note(f"skipped {skipped.image}: {' '.join(skipped.reason.split())}")


def _check_outputs(outputs: _Outputs, images: Sequence[Path], *, force: bool) -> None:
    """Refuse outputs that could not be made, before the measuring that this would waste."""
    from vaecodec.bench.plot import PLOT_SUFFIXES, load_matplotlib

    if outputs.plot is not None:
        if PurePath(outputs.plot).suffix.lower() not in PLOT_SUFFIXES:
            raise typer.BadParameter("name a .png or .svg file", param_hint="--plot")
        load_matplotlib()
    if outputs.html == STREAM:
        raise typer.BadParameter("name a file: standard output has the table", param_hint="--html")
    taken = {path.resolve() for path in images}
    for target in (outputs.report, outputs.plot, outputs.html):
        if target is None or target == STREAM:
            continue
        check_target(target, force=force)
        if Path(target).resolve() in taken:
            raise typer.BadParameter(f"{target} is an image to measure, or named twice")
        taken.add(Path(target).resolve())


def _parse_qualities(text: str | None) -> list[float]:
    """Return the qualities of a list such as "10,50,90"; none where none was given."""
    from vaecodec.rate import level_of_quality

    if text is None:
        return []
    try:
        qualities = [float(part) for part in _parts(text)]
        for quality in qualities:
            level_of_quality(quality)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--qualities") from error
    if not qualities:
        raise typer.BadParameter("the list is empty", param_hint="--qualities")
    return qualities


def _parse_metrics(text: str | None) -> list[str]:
    """Return the names of a list of metrics, in their own order; PSNR always is among them."""
    from vaecodec.bench.perceptual import load_ssimulacra2
    from vaecodec.bench.results import METRICS, PSNR, SSIMULACRA2

    wanted = {PSNR.name, *_parts(text or "")}
    for name in sorted(wanted - METRICS.keys()):
        known = ", ".join(METRICS)
        raise typer.BadParameter(f"{name} is none of {known}", param_hint="--metrics")
    if SSIMULACRA2.name in wanted:
        load_ssimulacra2()
    return [name for name in METRICS if name in wanted]


def _choose_codecs(text: str | None) -> list[Peer]:
    """Return the other codecs to measure; BD-rate is going to need SciPy then."""
    from vaecodec.bench.peers import choose_peers
    from vaecodec.metrics import load_pchip

    if text is None:
        return []
    names = _parts(text)
    if not names:
        raise typer.BadParameter("the list is empty", param_hint="--codecs")
    try:
        peers = choose_peers(names)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--codecs") from error
    load_pchip()
    return peers


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


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


def _json(report: Report) -> str:
    from dataclasses import asdict

    return json_text(asdict(report), indent=1)


def _draw(report: Report, target: str, curves: Curves, *, force: bool) -> None:
    from vaecodec.bench.plot import draw
    from vaecodec.bench.series import panels

    caption = f"{report.bundle} ({report.model_id}), means over {report.image_count} images"
    suffix = PurePath(target).suffix.lower()
    write(target, draw(panels(report, curves), suffix, caption), force=force)


def _page(
    report: Report,
    curves: Curves,
    codec: Codec,
    measured: Measured,
    peers: list[Peer],
    crops: int,
) -> str:
    """Return the page, for which some images are encoded once more."""
    from vaecodec.bench.bits import BitCounter
    from vaecodec.bench.html import page
    from vaecodec.bench.series import panels
    from vaecodec.bench.views import choose_quality, spread_out, view

    counter = BitCounter(codec.bundle)
    quality = choose_quality(report.qualities)
    views = [
        view(codec, counter, path, quality, peers, measured.peers)
        for path in spread_out(measured.paths, crops)
    ]
    return page(report, panels(report, curves), views)
