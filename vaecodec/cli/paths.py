"""Where a command reads and writes; decided, and checked, before any work is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from vaecodec.container import MAGIC
from vaecodec.errors import InputError, OutputError
from vaecodec.fileio import check_output, write_atomic, write_stdout
from vaecodec.jobs import SUFFIX, stem_of
from vaecodec.origin import NEW, Origin, origin_of

STREAM = "-"


def part_paths(
    paths: Sequence[str], option: str | None, input_suffix: Callable[[str], bool] | None = None
) -> tuple[list[str], str | None]:
    """Part what a command names into inputs, and the output if it is among them.

    Of two, the second is the output, unless it is a file that can only be an input. Of more, the
    last is where it is a folder. Where `-o` names the output, all are inputs.

    Args:
        paths: One or more.
        option: What `-o` names, if it was given.
        input_suffix: Tells whether a suffix, in lower case, is one of inputs alone.

    Raises:
        BadParameter: If the name of the output is empty, or several inputs have no folder for one.
    """
    inputs, named, last = list(paths), option, paths[-1]
    are_files = all(map(os.path.isfile, paths)) and not _is_same(paths[0], last)
    is_input = are_files and input_suffix and input_suffix(Path(last).suffix.lower())
    is_output = os.path.isdir(last) or (len(paths) == 2 and not is_input)
    if option is None and len(paths) > 1 and is_output:
        named = inputs.pop()
    if named == "":  # as a shell leaves it of a variable that is not set
        raise typer.BadParameter("the name of the output is empty", param_hint="OUT")
    if named is not None and len(inputs) > 1 and not (os.path.isdir(named) or named[-1] == "/"):
        reason = f"several files go to a folder, and {named} is none"
        raise typer.BadParameter(reason, param_hint="OUT")
    return inputs, named


def guard_original(job: str, source: str, named: str | None, *, is_option: bool) -> None:
    """Refuse to replace what a shell's `*` may have put in the place of the output: an original.

    `--force` allows replacing an earlier output, which a file of another kind cannot be.

    Args:
        job: The command: "compress", "decompress" or "denoise".
        source: The only input.
        named: The output, if one was named.
        is_option: Whether `-o` named it, which no `*` does by mistake.

    Raises:
        OutputError: If the output exists and may be an original.
    """
    is_file = named not in (None, STREAM) and os.path.isfile(named)
    if named is None or not is_file or (source != STREAM and _is_same(source, named)):
        return
    start, is_vaec = _beginning(named), named.lower().endswith(SUFFIX)
    problem, remedy = "", "name another output"
    if job == "compress":
        if start not in (b"", MAGIC) or not (is_vaec or is_option):
            problem = f"is not a {SUFFIX} file, and {job} replaces no other"
    elif start == MAGIC or is_vaec:
        problem = f"is a {SUFFIX} file, and {job} never replaces one"
    elif job == "denoise" and not is_option and source != STREAM:
        problem = "may be a second input"
        remedy = f"-o {named} --force to replace it"
    if problem:
        reason = f"{named} exists and {problem}: write -o FOLDER for several inputs, or {remedy}"
        raise OutputError(reason)


def _beginning(path: str) -> bytes:
    """Return as many bytes as the magic of `.vaec` files has.

    Raises:
        OutputError: If the file cannot be read, so that nobody knows what would be lost.
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        reason = f"{path} exists and cannot be read: name another output"
        raise OutputError(reason) from error


def choose_target(source: str, named: str | None, suffix: str) -> str:
    """Return where to write one file.

    Args:
        source: The input, no folder; `-` for standard input.
        named: The output that was named: a file, or a folder that exists; None if none was.
        suffix: Put in place of the input's, if that is one of an image or a `.vaec` file, where no
            file was named; a pipe continues as a pipe.

    Raises:
        InputError: If there is no name to derive one from.
    """
    derives = source not in (STREAM, "")
    if named is not None:
        inside = derives and os.path.isdir(named)
        return os.path.join(named, stem_of(source) + suffix) if inside else named
    if source == STREAM:
        return STREAM
    if not source:
        raise InputError("the name of the input is empty")
    return str(Path(source).with_name(stem_of(source) + suffix))


def check_target(target: str, *, force: bool, source: str = STREAM) -> None:
    """Refuse an output that could not be written, while nothing has been spent on it yet.

    Args:
        target: The output; `-` for standard output.
        force: Replacing a file was allowed.
        source: The input.

    Raises:
        OutputExistsError: If the output exists, and replacing it was not allowed.
        OutputError: If it is the input, a folder, in no folder, or a terminal.
    """
    if target == STREAM:
        if sys.stdout and not sys.stdout.closed and sys.stdout.isatty():
            write_stdout(b"")  # which says why not
        return
    if source != STREAM and _is_same(source, target):
        raise OutputError(f"{target} is the input itself: name another output")
    check_output(target, force=force)


def single_origin(source: str, target: str, keep_times: bool | None) -> Origin:
    """Return what the output of a single file takes from its input.

    Raises:
        BadParameter: If the time of a pipe was to be kept, or by one.
    """
    if keep_times and STREAM in (source, target):
        raise typer.BadParameter("a pipe has no time of its own", param_hint="--keep-times")
    return origin_of(source, keep_times=bool(keep_times))


def write(target: str, data: bytes | memoryview, origin: Origin = NEW, *, force: bool) -> None:
    """Write to a file, with permissions and times, or to standard output.

    Raises:
        OutputError: If it cannot be written.
    """
    if target == STREAM:
        write_stdout(data)
    else:
        write_atomic(target, data, force=force, origin=origin)


def _is_same(source: str, target: str) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:  # one does not exist or cannot be seen, which is said when it is used
        return False
