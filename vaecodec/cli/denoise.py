from __future__ import annotations

import os
import time
from pathlib import PurePath
from typing import Annotated

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
    Format,
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
    examples,
    stripped,
)
from vaecodec.cli.paths import (
    STREAM,
    check_target,
    choose_target,
    guard_original,
    part_paths,
    single_origin,
    write,
)
from vaecodec.cli.progress import file_facts, working
from vaecodec.cli.source import read_source
from vaecodec.jobs import Denoise, Outcome

EXAMPLES = examples(
    "vaecodec denoise noisy.jpg                # makes noisy.denoised.png",
    "vaecodec denoise noisy.jpg clean.png --strength 0.7",
    "vaecodec denoise photos/ clean/ -r --format jpg",
    "vaecodec denoise - - < noisy.png > clean.png",
)


def _check_strength(strength: float) -> float:
    if not 0 <= strength <= 1:
        raise typer.BadParameter(f"{strength:g} is not from 0 to 1")
    return strength


def _is_among(folder: str, source: str) -> bool:
    """Tell whether a folder holds an input, or is inside of one: either may be there later."""
    places = (place if "://" in place else os.path.realpath(place) for place in (folder, source))
    inner, outer = map(PurePath, places)
    return inner.is_relative_to(outer) or (outer.parent == inner and os.path.isfile(source))


def denoise(
    paths: Paths,
    output: Output = None,
    strength: Annotated[
        float,
        typer.Option(
            "--strength",
            metavar="0..1",
            callback=_check_strength,
            help="Share of the noise that is removed.",
        ),
    ] = 1.0,
    suffix: Format = "png",
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
    """Remove noise and the traces of JPEG from an image, several, or a folder of them.

    Nobody needs to know how strong the noise is. Without OUT, photo.jpg becomes photo.denoised.png
    beside it; the suffix of OUT chooses the format. Of a folder, the tree is mirrored in the folder
    OUT, which has to be named, also of several files; those whose output exists are skipped.
    """
    left_out = stripped(strip)
    limits = chosen_limits(max_pixels, max_memory)
    sources, target = part_paths(paths, output)
    if is_many(sources):
        from vaecodec.image import check_suffix

        check_suffix(suffix)
        if target is None or any(_is_among(target, source) for source in sources):
            reason = "clean images cannot lie among the noisy: name another folder"
            raise typer.BadParameter(reason, param_hint="OUT")
        process_many(
            Denoise(strength, suffix, left_out, bundle, device, limits),
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
    named, target = target, choose_target(source, target, f".denoised{suffix}")
    check_json(target, as_json=as_json)
    check_single(source, recursive=recursive, jobs=jobs, engine=engine, ray_address=ray_address)
    guard_original("denoise", source, named, is_option=output is not None)
    check_target(target, force=force, source=source)
    origin = single_origin(source, target, keep_times)

    from vaecodec.hushed import libraries_hushed
    from vaecodec.image import check_suffix, write_image, writing_notices

    suffix = suffix if target == STREAM else PurePath(target).suffix
    check_suffix(suffix)
    image, input_bytes = read_source(source, limits, quiet=quiet)

    from vaecodec.bundle import find_bundle
    from vaecodec.codec import Codec
    from vaecodec.trace import Trace

    trace = Trace()
    chosen = find_bundle(bundle)
    chosen.require_denoiser()
    tell_setup(chosen, device, verbose)
    with trace.stage("load"):
        codec = Codec(chosen, device, limits=limits)
    start = time.perf_counter()
    with about(source):
        with working(trace, quiet=quiet):
            clean = codec.denoise(image, strength=strength, strip=left_out, trace=trace)
        seconds = time.perf_counter() - start
        with libraries_hushed():
            written = write_image(clean, suffix)
    with trace.stage("write"):
        write(target, written, origin, force=force)
    lost = writing_notices(clean, suffix)
    tell_notices(target, lost, quiet=quiet)

    if as_json:
        size = (clean.width, clean.height)
        notices = image.notices + lost
        done = Outcome(source, target, "done", input_bytes, len(written), *size, seconds, notices)
        put_json(file_facts(done, mode=clean.mode.name, strength=strength))
    elif not quiet:
        size = f"{clean.width}x{clean.height} {clean.mode.name}"
        note(f"{source} -> {target}: {size}, {seconds:.2f} s")
    tell_times(trace, verbose)
