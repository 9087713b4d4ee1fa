from __future__ import annotations

import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import about, note, put_json, tell_notices
from vaecodec.cli.device import Device, Verbose, tell_setup, tell_times
from vaecodec.cli.folders import (
    Engine,
    Jobs,
    RayAddress,
    Recursive,
    check_single,
    is_many,
    process_many,
)
from vaecodec.cli.options import (
    BundleName,
    Force,
    Json,
    KeepTimes,
    MaxMemory,
    MaxPixels,
    Output,
    Paths,
    Quiet,
    Strip,
    check_json,
    chosen_limits,
    complete_quality,
    examples,
    parse_size,
    stripped,
)
from vaecodec.cli.paths import (
    check_target,
    choose_target,
    guard_original,
    part_paths,
    single_origin,
    write,
)
from vaecodec.cli.progress import file_facts, working
from vaecodec.cli.source import read_source
from vaecodec.jobs import SUFFIX, Compress, Outcome, is_image
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality

if TYPE_CHECKING:
    from vaecodec.search import Target as Goal

EXAMPLES = examples(
    "vaecodec compress photo.jpg               # makes photo.vaec",
    "vaecodec compress photo.png small.vaec -q 20 --psnr",
    "vaecodec compress photo.png --target-size 30k --quiet",
    "vaecodec compress scan.tif --target-psnr 36 --strip exif,xmp --json",
    "vaecodec compress noisy.jpg --denoise     # a smaller file, which opens clean",
    "vaecodec compress photos/ compressed/ -r -j 2",
    "vaecodec compress - - < photo.jpg > photo.vaec",
)


def _check_quality(quality: float | None) -> float | None:
    try:
        if quality is not None:
            level_of_quality(quality)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return quality


def compress(
    paths: Paths,
    output: Output = None,
    quality: Annotated[
        float | None,
        typer.Option(
            "-q",
            "--quality",
            metavar="0..100",
            callback=_check_quality,
            autocompletion=complete_quality,
            help="0 gives the smallest files, 100 the most faithful; "
            f"{DEFAULT_QUALITY:g} by default.",
        ),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            "--target-size",
            metavar="SIZE",
            help="The quality at which a file is that large, as 30k or 1.5M (bytes), or 2% less.",
        ),
    ] = None,
    target_bpp: Annotated[
        float | None,
        typer.Option("--target-bpp", metavar="N", help="The same, in bits of a file per pixel."),
    ] = None,
    target_psnr: Annotated[
        float | None,
        typer.Option(
            "--target-psnr", metavar="DB", help="The lowest quality that has this PSNR, in dB."
        ),
    ] = None,
    denoise: Annotated[
        bool,
        typer.Option(
            "--denoise", help="Leave out all noise and the traces of JPEG: smaller files."
        ),
    ] = False,
    psnr: Annotated[
        bool, typer.Option("--psnr", help="Decode the result again, and show its PSNR.")
    ] = False,
    strip: Strip = "",
    recursive: Recursive = False,
    jobs: Jobs = 0,
    engine: Engine = "processes",
    ray_address: RayAddress = None,
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    force: Force = False,
    keep_times: KeepTimes = None,
    bundle: BundleName = "base",
    device: Device = "cpu",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Compress an image, several, or a folder of them, to .vaec files.

    Without OUT, photo.jpg becomes photo.vaec beside it. Of a folder, the tree is mirrored in the
    folder OUT; of it and of several files, those whose output exists are skipped, so the same
    command goes on after a stop.
    """
    goal = _chosen_goal(quality, target_size, target_bpp, target_psnr)
    if denoise and (psnr or target_psnr is not None):
        reason = "it would be to the image with its noise, which --denoise leaves out"
        raise typer.BadParameter(reason, param_hint="--psnr" if psnr else "--target-psnr")
    quality = DEFAULT_QUALITY if quality is None else quality
    left_out = stripped(strip)
    limits = chosen_limits(max_pixels, max_memory)
    sources, target = part_paths(paths, output, is_image)
    if is_many(sources):
        if psnr:
            raise typer.BadParameter("it is for single images", param_hint="--psnr")
        process_many(
            Compress(quality, goal, denoise, left_out, bundle, device, limits),
            sources,
            target,
            recursive=recursive,
            jobs=jobs,
            force=force,
            quiet=quiet,
            as_json=as_json,
            verbosity=verbose,
            engine=engine,
            ray_address=ray_address,
            keep_times=keep_times is not False,
        )
        return
    (source,) = sources
    named, target = target, choose_target(source, target, SUFFIX)
    check_json(target, as_json=as_json)
    check_single(source, recursive=recursive, jobs=jobs, engine=engine, ray_address=ray_address)
    guard_original("compress", source, named, is_option=output is not None)
    check_target(target, force=force, source=source)
    origin = single_origin(source, target, keep_times)
    if is_image(PurePath(target).suffix.lower()):
        reason = f"{target} is named like an image: name a {SUFFIX} file"
        raise typer.BadParameter(reason, param_hint="OUT")

    image, input_bytes = read_source(source, limits, quiet=quiet)

    from vaecodec.bundle import find_bundle
    from vaecodec.codec import Codec
    from vaecodec.container import read_header
    from vaecodec.metrics import bpp, fidelity_db
    from vaecodec.search import Reached, encode_to
    from vaecodec.trace import Trace

    trace = Trace(estimates=False)
    chosen = find_bundle(bundle)
    if denoise:
        chosen.require_denoiser()
    tell_setup(chosen, device, verbose)
    with trace.stage("load"):
        codec = Codec(chosen, device, limits=limits)
    start = time.perf_counter()
    with about(source), working(trace, quiet=quiet):
        if goal is None:
            coded = codec.encode(
                image, quality=quality, denoise=denoise, strip=left_out, trace=trace
            )
            reached = Reached(coded, quality)
        else:
            reached = encode_to(codec, image, goal, denoise=denoise, strip=left_out, trace=trace)
    seconds = time.perf_counter() - start
    psnr_db = reached.psnr_db
    if psnr and psnr_db is None:
        psnr_db = fidelity_db(image, codec.decode_raster(reached.data))
    with trace.stage("write"):
        write(target, reached.data, origin, force=force)

    header = read_header(reached.data)
    output_bytes = len(reached.data)
    rate = bpp(output_bytes, header.width, header.height)
    notices = (reached.notice,) if reached.notice else ()
    tell_notices(source, notices, quiet=quiet)
    if as_json:
        size = (header.width, header.height)
        notices = image.notices + notices
        done = Outcome(source, target, "done", input_bytes, output_bytes, *size, seconds, notices)
        measured = {} if psnr_db is None else {"psnr_db": psnr_db}
        put_json(file_facts(done, quality=reached.quality, denoise=denoise, bpp=rate, **measured))
    elif not quiet:
        at = "" if goal is None else f"quality {reached.quality:.1f}, "
        fidelity = "" if psnr_db is None else f"{psnr_db:.2f} dB, "
        note(
            f"{source} -> {target}: {output_bytes:,} bytes "
            f"({100 * output_bytes / input_bytes:.1f}% of {input_bytes:,}), "
            f"{rate:.3f} bpp, {at}{fidelity}{seconds:.2f} s"
        )
    tell_times(trace, verbose)


def _chosen_goal(
    quality: float | None, size: str | None, bpp: float | None, psnr: float | None
) -> Goal | None:
    """Return the target of an encoding; none where a quality says what to do.

    Raises:
        BadParameter: If several were given, or one is no size or not above 0.
    """
    given = {
        "-q": quality,
        "--target-size": size,
        "--target-bpp": bpp,
        "--target-psnr": psnr,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise typer.BadParameter("only one of them can decide", param_hint=" and ".join(names))
    if not names or quality is not None:
        return None

    from vaecodec.search import Target as Goal

    try:
        if size is not None:
            return Goal("size", parse_size(size, names[0]))
        return Goal("psnr", psnr) if psnr is not None else Goal("bpp", bpp or 0)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=names[0]) from error
