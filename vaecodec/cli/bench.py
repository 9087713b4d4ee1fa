from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.bench_denoising import bench_denoising, tell_skipped
from vaecodec.cli.bench_options import (
    choose_codecs,
    parse_damages,
    parse_methods,
    parse_metrics,
    parse_qualities,
    read_curves,
)
from vaecodec.cli.bench_outputs import Outputs, check_outputs
from vaecodec.cli.console import json_text, note, put_text
from vaecodec.cli.device import Device, tell_setup, verbose_option
from vaecodec.cli.options import BundleName, Force, Quiet, examples
from vaecodec.cli.paths import STREAM, write

if TYPE_CHECKING:
    from vaecodec.bench import ImageRow, Measured, PeerRow, Report
    from vaecodec.bench.peers import Peer
    from vaecodec.bench.views import View
    from vaecodec.codec import Codec
    from vaecodec.curves import Curves

EXAMPLES = examples(
    "vaecodec bench photos/",
    "vaecodec bench photos/ --codecs jpeg,webp,avif --html report.html",
    "vaecodec bench photos/ --codecs installed --metrics ms-ssim --plot curves.svg",
    "vaecodec bench photos/ --codecs jpeg,webp --crops 2 --sheet crops.png",
    "vaecodec bench photos/ --bundle my-bundle/ --codecs avif,bundle:base --sheet gains.png",
    "vaecodec bench kodak/ --curves kodak_rd.json --against vtm --json -",
    "vaecodec bench photos/ --denoise --sigmas 15,25 --jpegs 20 --methods installed --sheet a.png",
    "vaecodec bench photos/ --json before.json && "
    "vaecodec bench photos/ --bundle my-bundle/ --curves before.json",
)


def bench(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    codecs: Annotated[
        str | None,
        typer.Option(
            "--codecs",
            metavar="LIST",
            help="Other codecs to measure, through Pillow: any of jpeg, webp, avif, avif-psnr "
            "(the same with tune=psnr), jpeg2000, jxl and heic (whose plugins are "
            "pillow-jxl-plugin and pillow-heif), all, or installed; besides, as bundle:NAME or "
            "bundle:FOLDER, other bundles of ours (no folder whose path has a comma or space).",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="LIST",
            help="Fidelity to measure besides PSNR: ms-ssim, ssimulacra2 (which takes seconds a "
            "megapixel, file by file); psnr for PSNR alone. Both by default, ssimulacra2 where its "
            "package is installed; one that an image rules out (too small, with alpha, of 16 bits "
            "per sample) is left out.",
        ),
    ] = None,
    curves: Annotated[
        str | None,
        typer.Option(
            "--curves",
            metavar="JSON",
            help='Curves to compare with: {codec: [{"bpp": ..., "psnr_rgb": ...}]}, or an earlier '
            "--json.",
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
    jobs: Annotated[
        int,
        typer.Option(
            "-j",
            "--jobs",
            metavar="N",
            min=1,
            help="Images to measure at a time, each in a process of its own; seconds are then "
            "those of a busy machine.",
        ),
    ] = 1,
    denoise: Annotated[
        bool,
        typer.Option(
            "--denoise",
            help="Damage the images, and measure what `denoise` makes of them: of noise as it is, "
            "and clipped and rounded to 8 bits. With --qualities also files: plain, denoised, and "
            "of the original.",
        ),
    ] = False,
    sigmas: Annotated[
        str | None,
        typer.Option(
            "--sigmas",
            metavar="LIST",
            help="Damage by noise: standard deviations, of 255; 15,25,50 by default.",
        ),
    ] = None,
    jpegs: Annotated[
        str | None,
        typer.Option("--jpegs", metavar="LIST", help="Damage by JPEG: qualities, as Pillow's."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="LIST",
            help="Other denoisers to measure, each told the deviation of noise: any of opencv, "
            "nl-means, wavelet and bm3d, all, or installed.",
        ),
    ] = None,
    with_speed: Annotated[
        bool,
        typer.Option(
            "--speed",
            help="Time every stage on images of 0.4, 1, 4 and 24 megapixels, cold and warm; takes "
            "minutes, of a machine that has nothing else to do.",
        ),
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
    sheet_to: Annotated[
        str | None,
        typer.Option(
            "--sheet",
            metavar="OUT",
            help="Show crops at equal file size in a picture, .png, .webp or .jpg; with --denoise "
            "what becomes of the damage in the middle of the list.",
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
        int, typer.Option("--crops", metavar="N", min=0, help="Images to show on sheet and page.")
    ] = 4,
    force: Force = False,
    bundle: BundleName = "base",
    device: Device = "cpu",
    verbose: Annotated[int, verbose_option("what every image measures at every quality")] = 0,
    quiet: Quiet = False,
) -> None:
    """Measure rate, fidelity and time on a folder of images.

    Every image is encoded to a whole file and decoded again. The table goes to standard output:
    whole-file bits per pixel, RGB PSNR and perceptual metrics, seconds, and by how much files
    exceed the model's own estimate, each averaged over the images. Images that cannot be used are
    skipped.
    """
    levels = parse_qualities(qualities)
    outputs = Outputs(report_to, plot_to, sheet_to, html_to)
    if denoise:
        foreign = {
            "--jobs": jobs > 1,
            "--codecs": codecs,
            "--metrics": metrics,
            "--curves": curves,
            "--against": against,
            "--speed": with_speed,
            "--plot": plot_to,
            "--html": html_to,
        }
        _refuse(foreign, "it does not go with --denoise")
        bench_denoising(
            folder,
            parse_damages(sigmas, jpegs),
            parse_methods(methods),
            levels,
            outputs,
            crops,
            bundle,
            device,
            force=force,
            verbose=verbose,
            quiet=quiet,
        )
        return
    _refuse({"--sigmas": sigmas, "--jpegs": jpegs, "--methods": methods}, "it goes with --denoise")
    names = parse_metrics(metrics)
    peers = choose_codecs(codecs, device)
    if outputs.plot is not None and len(set(levels)) == 1 and not peers:
        raise typer.BadParameter("a curve needs two --qualities", param_hint="--plot")
    chosen = read_curves(curves, against or [])

    from vaecodec import bench as measuring
    from vaecodec.bench.method import describe_machine
    from vaecodec.bench.text import text_table
    from vaecodec.codec import Codec
    from vaecodec.curves import compare

    paths = measuring.find_images(folder)
    check_outputs(outputs, paths, crops, force=force)
    if metrics is None:
        names = _fitting(names, paths, peers, quiet=quiet)
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
        processes=jobs,
        device=device,
        progress=progress,
        notice=tell_skipped,
    )
    means = measuring.summarise(measured.images)
    of_peers = measuring.summarise_peers(measured.peers)
    speed = None
    if with_speed:
        of_sizes = measuring.speed(codec.bundle, device, measured.paths)
        of_all = measuring.throughput(codec.bundle, device, measured.paths)
        speed = replace(of_sizes, throughput=of_all)
    report = measuring.Report(
        bundle=codec.bundle.name,
        model_id=codec.bundle.model_id.hex(),
        qualities=means,
        images=measured.images,
        comparisons=compare(measuring.curve_of(means), chosen),
        speed=speed,
        metrics=tuple(names),
        codecs=tuple(peer.info() for peer in peers),
        peers=of_peers,
        peer_images=measured.peers,
        gains=measuring.compare_peers(means, of_peers, names),
        score_gains=measuring.compare_at_scores(means, of_peers, names),
        skipped=measured.skipped,
        machine=describe_machine(device),
    )
    if outputs.report not in (None, STREAM):
        write(outputs.report, (_json(report) + "\n").encode(), force=force)
    if outputs.plot is not None:
        _draw(report, outputs.plot, chosen, force=force)
    if outputs.sheet is not None or outputs.html is not None:
        views = _views(report, codec, measured, peers, crops)
        _show(report, views, outputs, chosen, force=force)
    put_text(_json(report) if outputs.report == STREAM else text_table(report))


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Refuse options that were given."""
    for name, value in options.items():
        if value:
            raise typer.BadParameter(reason, param_hint=name)


def _fitting(
    metrics: Sequence[str], paths: Sequence[Path], peers: Sequence[Peer], *, quiet: bool
) -> list[str]:
    """Return the default metrics that every image can be judged by, and tell of the others."""
    from vaecodec.bench import METRICS, unfit_images

    unfit = unfit_images(paths, metrics, peers)
    for found in () if quiet else dict.fromkeys(unfit.values()):
        titles = " and ".join(METRICS[name].title for name in unfit if unfit[name] == found)
        note(f"left out {titles} because of {found.image}: {found.reason}")
    return [name for name in metrics if name not in unfit]


def _row_text(row: ImageRow | PeerRow) -> str:
    """Return one measurement as a line below the name of its image."""
    return (
        f"  {row.codec} {row.quality:g}: {row.bpp:.4f} bpp, {row.psnr_db:.3f} dB, "
        f"encode {row.encode_s:.3f} s, decode {row.decode_s:.3f} s"
    )


def _json(report: Report) -> str:
    from dataclasses import asdict

    return json_text(asdict(report), indent=1)


def _draw(report: Report, target: str, curves: Curves, *, force: bool) -> None:
    from vaecodec.bench.plot import draw
    from vaecodec.bench.series import panels

    caption = f"{report.bundle} ({report.model_id}), means over {report.image_count} images"
    suffix = PurePath(target).suffix.lower()
    if shown := panels(report, curves):
        write(target, draw(shown, suffix, caption), force=force)
    else:
        note("no plot: there is no curve of two points")


def _views(
    report: Report, codec: Codec, measured: Measured, peers: list[Peer], count: int
) -> list[View]:
    """Return some images to look at, which are encoded once more."""
    from vaecodec.bench.bits import BitCounter
    from vaecodec.bench.views import choose_quality, spread_out, view

    counter = BitCounter(codec.bundle)
    quality = choose_quality(report.qualities)
    return [
        view(codec, counter, path, quality, peers, measured.peers)
        for path in spread_out(measured.paths, count)
    ]


def _show(
    report: Report, views: list[View], outputs: Outputs, curves: Curves, *, force: bool
) -> None:
    from vaecodec.bench.html import page
    from vaecodec.bench.series import panels
    from vaecodec.bench.sheet import sheet

    if outputs.sheet is not None:
        suffix = PurePath(outputs.sheet).suffix.lower()
        write(outputs.sheet, sheet(views, suffix), force=force)
    if outputs.html is not None:
        text = page(report, panels(report, curves), views)
        # A file's name may be of no encoding.
        write(outputs.html, text.encode(errors="backslashreplace"), force=force)
