from __future__ import annotations

import re
import time
from dataclasses import replace
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
    complete_bundle,
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
from vaecodec.errors import ExitCode
from vaecodec.jobs import SUFFIX, Decompress, Outcome

if TYPE_CHECKING:
    from vaecodec.container import Header, Mode
    from vaecodec.limits import Limits
    from vaecodec.raster import Raster
    from vaecodec.segments import Box

EXAMPLES = examples(
    "vaecodec decompress photo.vaec            # makes photo.png",
    "vaecodec decompress photo.vaec copy.jpg --quiet",
    "vaecodec decompress photo.vaec part.png --region 40,30,64,48",
    "vaecodec decompress photo.vaec small.png --scale 8 --strip exif,xmp",
    "vaecodec decompress damaged.vaec rest.png --salvage",
    "vaecodec decompress - - < photo.vaec > photo.png",
)


def decompress(
    paths: Paths,
    output: Output = None,
    original: Annotated[
        str | None,
        typer.Option("--original", metavar="FILE", help="Show the PSNR against this image."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="X,Y,W,H",
            help="Decode this rectangle alone: left, top, width and height in pixels.",
        ),
    ] = None,
    scale: Annotated[
        int,
        typer.Option("--scale", metavar="1|8", help="8 gives a small preview, an eighth the size."),
    ] = 1,
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage",
            help="Of a damaged file write what is whole, grey for the rest; the exit code stays 3.",
        ),
    ] = False,
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
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="NAME|PATH",
            autocompletion=complete_bundle,
            help="Model, where it is not installed: the file itself says which one it needs.",
        ),
    ] = None,
    device: Device = "cpu",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    as_json: Json = False,
) -> None:
    """Decompress a .vaec file, several, or a folder of them, to images.

    Without OUT, photo.vaec becomes photo.png beside it; the suffix of OUT chooses the format. Of a
    folder, the tree is mirrored in the folder OUT; of it and of several files, those whose output
    exists are skipped.
    """
    left_out = stripped(strip)
    limits = chosen_limits(max_pixels, max_memory)
    sources, target = part_paths(paths, output, SUFFIX.__eq__)
    if is_many(sources):
        if original or region or scale > 1 or salvage:
            what = "--original, --region, --scale and --salvage"
            raise typer.BadParameter("they are for single files", param_hint=what)
        from vaecodec.image import check_suffix

        check_suffix(suffix)
        process_many(
            Decompress(suffix, left_out, bundle, device, limits),
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
    named, target = target, choose_target(source, target, suffix)
    check_json(target, as_json=as_json)
    check_single(source, recursive=recursive, jobs=jobs, engine=engine, ray_address=ray_address)
    box = _parse_region(region)
    _check_scale(scale, box, original, salvage=salvage)
    guard_original("decompress", source, named, is_option=output is not None)
    check_target(target, force=force, source=source)
    origin = single_origin(source, target, keep_times)

    from vaecodec.container import read_header
    from vaecodec.fileio import read_bytes
    from vaecodec.hushed import libraries_hushed
    from vaecodec.image import check_suffix, write_image, writing_notices

    suffix = suffix if target == STREAM else PurePath(target).suffix
    check_suffix(suffix)
    data = read_bytes(source, limits)
    with about(source):
        header = read_header(data)
    if box is not None:
        _check_region(box, header)
    reference = None if original is None else _read_original(original, header, box, limits)

    from vaecodec.bundle import find_bundle, find_by_id
    from vaecodec.codec import Codec
    from vaecodec.metrics import fidelity_db
    from vaecodec.salvage import rectangle
    from vaecodec.trace import Trace

    trace = Trace()
    chosen = find_bundle(bundle) if bundle is not None else find_by_id(header.model_id)
    tell_setup(chosen, device, verbose)
    with trace.stage("load"):
        codec = Codec(chosen, device, limits=limits)
    start = time.perf_counter()
    with about(source), working(trace, quiet=quiet):
        if scale > 1:
            image = codec.preview(data, strip=left_out, trace=trace)
        else:
            image = codec.decode_raster(
                data, region=box, strip=left_out, salvage=salvage, trace=trace
            )
    seconds = time.perf_counter() - start
    fidelity = None if reference is None else fidelity_db(reference, image)
    with trace.stage("write"):
        with libraries_hushed():
            written = write_image(image, suffix)
        write(target, written, origin, force=force)
    notices = writing_notices(image, suffix)
    tell_notices(target, notices, quiet=quiet)
    tell_notices(source, image.notices, quiet=False)  # which say what a damaged file has lost
    notices = image.notices + notices

    if as_json:
        size = (image.width, image.height)
        done = Outcome(source, target, "done", len(data), len(written), *size, seconds, notices)
        measured: dict[str, object] = {} if reference is None else {"psnr_db": fidelity}
        if salvage:
            measured["lost"] = [rectangle(box) for box in image.lost]
            if image.notices:
                done = replace(done, exit_code=ExitCode.INPUT)
        put_json(file_facts(done, mode=header.mode.name, **measured))
    elif not quiet:
        line = f"{source} -> {target}: {image.width}x{image.height} {header.mode.name}"
        note(line + ("" if fidelity is None else f", {fidelity:.2f} dB") + f", {seconds:.2f} s")
    tell_times(trace, verbose)
    if image.notices:
        raise typer.Exit(ExitCode.INPUT)


def _parse_region(text: str | None) -> Box | None:
    from vaecodec.segments import Box

    if text is None:
        return None
    found = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text.replace(" ", ""))
    if found is None:
        raise typer.BadParameter(
            f"{text} is no rectangle: write left,top,width,height", param_hint="--region"
        )
    left, top, width, height = (int(part) for part in found.groups())
    return Box(top, left, top + height, left + width)


def _check_scale(scale: int, box: Box | None, original: str | None, *, salvage: bool) -> None:
    if scale not in (1, 8):
        raise typer.BadParameter(f"{scale} is neither 1 nor 8", param_hint="--scale")
    if scale > 1 and (box or original or salvage):
        raise typer.BadParameter(
            "a preview is of the whole image, undamaged, and has no original", param_hint="--scale"
        )


def _check_region(box: Box, header: Header) -> None:
    from vaecodec.segments import Box

    if not box.area or box.within(Box(0, 0, header.height, header.width)) != box:
        raise typer.BadParameter(
            f"it is empty, or not within the {header.width}x{header.height} pixels of the image",
            param_hint="--region",
        )


def _read_original(path: str, header: Header, box: Box | None, limits: Limits) -> Raster:
    """Return the image that a file was made from, or a rectangle of it.

    Raises:
        VaecodecError: If it cannot be read, or cannot be the one.
    """
    from vaecodec.errors import ImageError
    from vaecodec.fileio import read_bytes
    from vaecodec.hushed import libraries_hushed
    from vaecodec.image import read_image
    from vaecodec.raster import from_array

    data = read_bytes(path, limits)
    with about(path), libraries_hushed():
        raster = read_image(data, limits)
    kind = (raster.width, raster.height, raster.mode, raster.bit_depth)
    if kind != (header.width, header.height, header.mode, header.bit_depth):
        raise ImageError(
            f"{path} is not the original: it is {_describe(*kind)}, and the file "
            f"{_describe(header.width, header.height, header.mode, header.bit_depth)}"
        )
    return raster if box is None else from_array(raster.read(box))


def _describe(width: int, height: int, mode: Mode, bit_depth: int) -> str:
    return f"{width}x{height} {mode.name} of {bit_depth} bits"
