from __future__ import annotations

import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import about, note, put_json
from vaecodec.cli.options import (
    Force,
    Json,
    Output,
    Quiet,
    Source,
    Strip,
    Target,
    check_json,
    stripped,
)
from vaecodec.cli.paths import STREAM, check_target, choose_target, write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaecodec.container import Header


def decompress(
    source: Source,
    target: Target = None,
    output: Output = None,
    original: Annotated[
        str | None,
        typer.Option("--original", metavar="FILE", help="Show the PSNR against this image."),
    ] = None,
    strip: Strip = "",
    force: Force = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="NAME|PATH",
            help="Model, where it is not installed: the file itself says which one it needs.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Decompress a .vaec file to an image.

    Without OUT, photo.vaec becomes photo.png beside it; the suffix of OUT chooses the format.
    """
    target = choose_target(source, target, output, ".png")
    check_json(target, as_json=as_json)
    left_out = stripped(strip)
    check_target(target, force=force, source=source)

    from vaecodec.container import read_header
    from vaecodec.fileio import read_bytes
    from vaecodec.image import check_suffix, encode_image, to_array

    suffix = ".png" if target == STREAM else PurePath(target).suffix
    check_suffix(suffix)
    data = read_bytes(source)
    with about(source):
        header = read_header(data)
    reference = _read_original(original, header) if original is not None else None

    from vaecodec.bundle import find_bundle, find_by_id
    from vaecodec.codec import Codec
    from vaecodec.metrics import psnr_db

    codec = Codec(find_bundle(bundle) if bundle is not None else find_by_id(header.model_id))
    start = time.perf_counter()
    with about(source):
        image = codec.decode(data, strip=left_out)
    seconds = time.perf_counter() - start
    fidelity = None if reference is None else psnr_db(reference, to_array(image)[0])
    write(target, encode_image(image, suffix), force=force)

    if as_json:
        summary = {
            "input": source,
            "output": target,
            "input_bytes": len(data),
            "width": header.width,
            "height": header.height,
            "mode": header.mode.name,
            "decode_s": seconds,
        }
        put_json(summary | ({} if reference is None else {"psnr_db": fidelity}))
    elif not quiet:
        line = f"{source} -> {target}: {header.width}x{header.height} {header.mode.name}"
        note(line + ("" if fidelity is None else f", {fidelity:.2f} dB") + f", {seconds:.2f} s")


def _read_original(path: str, header: Header) -> NDArray[np.uint8]:
    """Return the pixels of the image that a file was made from.

    Raises:
        VaecodecError: If it cannot be read, or cannot be the one.
    """
    from vaecodec.errors import ImageError
    from vaecodec.fileio import read_bytes
    from vaecodec.image import open_image, to_array

    data = read_bytes(path)
    with about(path):
        array, mode = to_array(open_image(data))
    height, width = array.shape[:2]
    if (width, height, mode) != (header.width, header.height, header.mode):
        raise ImageError(
            f"{path} is not the original: it is {width}x{height} {mode.name}, "
            f"and the file {header.width}x{header.height} {header.mode.name}"
        )
    return array
