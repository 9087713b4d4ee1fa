from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import note, one_line, put_json, put_text
from vaecodec.cli.folders import Recursive
from vaecodec.cli.options import MaxPixels, chosen_limits, complete_bundle, examples
from vaecodec.cli.paths import STREAM
from vaecodec.cli.progress import deeper
from vaecodec.errors import (
    FormatError,
    InputError,
    InsufficientMemoryError,
    LimitError,
    VaecodecError,
)
from vaecodec.fileio import APPLE_DOUBLE, walk
from vaecodec.jobs import SUFFIX

if TYPE_CHECKING:
    from vaecodec.bundle import Bundle
    from vaecodec.container import Container
    from vaecodec.latents import LatentCoder
    from vaecodec.limits import Limits
    from vaecodec.salvage import Losses

Rectangle = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""
_NAMED = 12
"""Damaged rectangles of a file that are named in a line; JSON has all."""

EXAMPLES = examples(
    "vaecodec verify photo.vaec",
    "vaecodec verify -r photos/ --quiet        # names only the bad ones",
    "vaecodec verify photos/ --deep            # reads all symbols, too",
    "vaecodec verify - --json < photo.vaec",
)


def verify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Files to check, or folders of them; - for standard input."
        ),
    ],
    recursive: Recursive = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read all symbols, too; needs the model of each file."),
    ] = False,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            metavar="NAME|PATH",
            autocompletion=complete_bundle,
            help="Model for --deep, where it is not installed.",
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what is bad; no summary.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each file, one a line.")
    ] = False,
) -> None:
    """Check that .vaec files are whole and undamaged.

    Structure and every checksum are held to the rules of the format. A line for each file says ok,
    or what is wrong, and which rectangles of the image are damaged by it; the others are checked
    all the same. The exit code is 0 if all are good, or that of the first that is not: 3 for a bad
    file, 4 where --deep lacks its model, 5 over a limit.

    This loads no network. With --deep every symbol is read, too: latents are held to checksums of
    their own, and alpha is inflated. No picture is made even then.
    """
    if bundle is not None and not deep:
        raise typer.BadParameter("only --deep uses a model", param_hint="--bundle")
    if files.count(STREAM) > 1:
        raise typer.BadParameter("standard input can be read only once", param_hint="FILE")
    limits = chosen_limits(max_pixels, None)
    reader = _SymbolReader(bundle) if deep else None

    count, bad, code = 0, 0, 0
    for name, unreadable in _find(files, recursive=recursive):
        problem, lost = (unreadable, ()) if unreadable else _check(name, limits, reader)
        count += 1
        if problem is not None:
            bad += 1
            code = code or problem.exit_code
        if problem is not None or not quiet:
            _report(name, problem, lost, as_json=as_json)
    if not quiet and not as_json:
        note(f"{count:,} file{'' if count == 1 else 's'}, {bad:,} bad")
    if code:
        raise typer.Exit(code)


def _find(names: list[str], *, recursive: bool) -> Iterator[tuple[str, VaecodecError | None]]:
    """Yield each file to check, or with it why there is none."""
    for name in names:
        if name == STREAM or not os.path.isdir(name):
            yield name, None
        else:
            yield from _walk(name, recursive=recursive)


def _walk(top: str, *, recursive: bool) -> Iterator[tuple[str, VaecodecError | None]]:
    """Yield the files of a folder, by name."""
    errors: list[OSError] = []
    found = False
    for folder, names in walk(top, errors.append, recursive=recursive):
        for name in names:
            if name.lower().endswith(SUFFIX) and not name.startswith(APPLE_DOUBLE):
                found = True
                yield os.path.join(folder, name), None
    for error in errors:
        yield str(error.filename), InputError(f"the folder cannot be read: {error.strerror}")
    if not found and not errors:
        yield top, InputError(f"there are no {SUFFIX} files in it{deeper(recursive=recursive)}")


def _check(
    name: str, limits: Limits, reader: _SymbolReader | None
) -> tuple[VaecodecError | None, Sequence[Rectangle]]:
    """Return what is wrong with a file, if anything is, and what of the image it damages."""
    from vaecodec.container import unpack
    from vaecodec.fileio import read_bytes

    data = b""
    try:
        data = read_bytes(name, limits)
        container = unpack(data, limits)
        if reader is not None:
            reader.read(container)
    except (FormatError, LimitError) as error:
        return error, _damaged(data, limits, reader)
    except VaecodecError as error:
        return error, ()
    except MemoryError:
        return InsufficientMemoryError("this machine has not enough memory to check it"), ()
    return None, ()


def _damaged(data: bytes, limits: Limits, reader: _SymbolReader | None) -> Sequence[Rectangle]:
    """Return the rectangles that `decompress --salvage` would lack; none where it reads nothing."""
    from vaecodec.container import read_header
    from vaecodec.salvage import Losses, rectangle, unpack_damaged

    losses = Losses()
    try:
        container = unpack_damaged(data, limits, losses)
        if reader is not None:
            reader.read(container, losses)
        return [rectangle(box) for box in losses.boxes(read_header(data))]
    except (VaecodecError, MemoryError):
        return ()


def _report(
    name: str, problem: VaecodecError | None, lost: Sequence[Rectangle], *, as_json: bool
) -> None:
    message = "ok" if problem is None else str(problem).removeprefix(f"cannot read {name}: ")
    if as_json:
        put_json(
            {
                "file": name,
                "ok": problem is None,
                "error": None if problem is None else type(problem).__name__,
                "message": None if problem is None else message,
                "exit_code": 0 if problem is None else problem.exit_code,
                "damaged": lost,
            }
        )
    else:
        if lost:
            boxes = " ".join(",".join(map(str, one)) for one in lost[:_NAMED])
            more = f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else ""
            message += f"; damaged (left,top,width,height): {boxes}{more}"
        put_text(one_line(f"{name}: {message}"))


@contextmanager
def _noting(damaged: set[int] | None, number: int) -> Generator[None]:
    """Note damage as that of a segment, if it is to be noted."""
    try:
        yield
    except FormatError:
        if damaged is None:
            raise
        damaged.add(number)


class _SymbolReader:
    """Reads every symbol of files, each with the bundle that it names."""

    def __init__(self, name: str | None) -> None:
        """Choose a bundle, or leave it to the files.

        Raises:
            ModelError: That bundle is missing or broken.
            RuntimeUnavailableError: ONNX Runtime is missing.
        """
        from vaecodec.bundle import find_bundle
        from vaecodec.runtime import load_onnxruntime

        load_onnxruntime("cpu")
        self._given = None if name is None else find_bundle(name)
        self._coders: dict[bytes, LatentCoder] = {}

    def read(self, container: Container, losses: Losses | None = None) -> None:
        """Read the alpha of every segment, and then, as decoding does, the latents.

        With `losses`, damage is noted there and ends nothing.

        Raises:
            FormatError: They are damaged, or not those of such an image.
            ModelError: The bundle is missing, broken or another one.
            InsufficientMemoryError: This machine has not the memory.
        """
        from vaecodec.alpha import unpack_plane
        from vaecodec.bundle import PATCH
        from vaecodec.runtime import memory_errors
        from vaecodec.segments import Box, latent_box, segments
        from vaecodec.trace import Trace

        header = container.header
        coder = self._coder(header.model_id)
        image, grid = (
            Box(0, 0, header.height, header.width),
            latent_box(header.width, header.height),
        )
        with memory_errors():
            for number, segment in segments(grid, grid) if header.mode.has_alpha else ():
                shape = segment.scaled(PATCH).within(image).shape
                with _noting(losses and losses.alpha, number):
                    unpack_plane(container.alpha[number], shape, header.bit_depth)
            for number, segment in segments(grid, grid):
                with _noting(losses and losses.colours, number):
                    coder.read(container.latents[number], segment.shape, header.level, Trace())

    def _coder(self, wanted: bytes) -> LatentCoder:
        from vaecodec.latents import LatentCoder

        if wanted not in self._coders:
            self._coders[wanted] = LatentCoder(self._bundle(wanted))
        return self._coders[wanted]

    def _bundle(self, wanted: bytes) -> Bundle:
        from vaecodec.bundle import find_by_id
        from vaecodec.errors import ModelMismatchError, ModelNotFoundError

        if self._given is None:
            try:
                return find_by_id(wanted)
            except ModelNotFoundError as error:
                raise ModelNotFoundError(
                    f"no damage found, but --deep needs its model: {error} with --bundle"
                ) from error
        if self._given.model_id != wanted:
            raise ModelMismatchError(
                f"it needs the model {wanted.hex()}, and the bundle {self._given.name} is "
                f"{self._given.model_id.hex()}"
            )
        return self._given
