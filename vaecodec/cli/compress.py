from __future__ import annotations

import time
from typing import Annotated

import typer

from vaecodec.cli.console import about, note, put_json
from vaecodec.cli.options import (
    BundleName,
    Force,
    Json,
    MaxMemory,
    MaxPixels,
    Output,
    Quiet,
    Source,
    Strip,
    Target,
    check_json,
    chosen_limits,
    stripped,
)
from vaecodec.cli.paths import check_target, choose_target, write
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality


def _check_quality(quality: float) -> float:
    try:
        level_of_quality(quality)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return quality


def compress(
    source: Source,
    target: Target = None,
    output: Output = None,
    quality: Annotated[
        float,
        typer.Option(
            "-q",
            "--quality",
            metavar="0..100",
            callback=_check_quality,
            help="0 gives the smallest files, 100 the most faithful ones.",
        ),
    ] = DEFAULT_QUALITY,
    psnr: Annotated[
        bool, typer.Option("--psnr", help="Decode the result again, and show its PSNR.")
    ] = False,
    strip: Strip = "",
    max_pixels: MaxPixels = None,
    max_memory: MaxMemory = None,
    force: Force = False,
    bundle: BundleName = "base",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compress an image to a .vaec file.

    Without OUT, photo.jpg becomes photo.vaec beside it.
    """
    target = choose_target(source, target, output, ".vaec")
    check_json(target, as_json=as_json)
    left_out = stripped(strip)
    limits = chosen_limits(max_pixels, max_memory)
    check_target(target, force=force, source=source)

    from vaecodec.fileio import read_bytes
    from vaecodec.image import read_image

    data = read_bytes(source, limits)
    with about(source):
        image = read_image(data, limits)
    input_bytes = len(data)
    del data  # which may be as large as the image is
    if not quiet:
        for notice in image.notices:
            note(f"{source}: {notice}")

    from vaecodec.codec import Codec
    from vaecodec.container import read_header
    from vaecodec.metrics import bpp, fidelity_db

    codec = Codec(bundle, limits=limits)
    start = time.perf_counter()
    with about(source):
        coded = codec.encode(image, quality=quality, strip=left_out)
    seconds = time.perf_counter() - start
    psnr_db = fidelity_db(image, codec.decode_raster(coded)) if psnr else None
    write(target, coded, force=force)

    header = read_header(coded)
    rate = bpp(len(coded), header.width, header.height)
    if as_json:
        summary = {
            "input": source,
            "output": target,
            "input_bytes": input_bytes,
            "output_bytes": len(coded),
            "width": header.width,
            "height": header.height,
            "quality": quality,
            "bpp": rate,
            "encode_s": seconds,
        }
        put_json(summary | ({"psnr_db": psnr_db} if psnr else {}))
    elif not quiet:
        fidelity = "" if psnr_db is None else f"{psnr_db:.2f} dB, "
        note(
            f"{source} -> {target}: {len(coded):,} bytes "
            f"({100 * len(coded) / input_bytes:.1f}% of {input_bytes:,}), "
            f"{rate:.3f} bpp, {fidelity}{seconds:.2f} s"
        )
