"""Where a command reads and writes; decided, and checked, before any work is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from vaecodec.errors import InputError, OutputError
from vaecodec.fileio import check_output, write_atomic, write_stdout

STREAM = "-"


def choose_target(source: str, positional: str | None, option: str | None, suffix: str) -> str:
    """Return where to write.

    Args:
        source: The input, no folder; `-` for standard input.
        positional: OUT, if it was given.
        option: What `-o` names, if it was given.
        suffix: Put in place of the input's where neither was given; a pipe continues as a pipe.

    Raises:
        BadParameter: If both were given, or the name is empty.
        InputError: If there is no name to derive one from.
    """
    named = named_target(positional, option)
    if named is not None:
        return named
    if source == STREAM:
        return STREAM
    if not source:
        raise InputError("the name of the input is empty")
    return str(Path(source).with_suffix(suffix))


def named_target(positional: str | None, option: str | None) -> str | None:
    """Return the output that was named, as OUT or with `-o`.

    Raises:
        BadParameter: If both were given, or the name is empty.
    """
    if positional is not None and option is not None:
        raise typer.BadParameter("name the output once: as OUT or with -o", param_hint="-o")
    named = option if positional is None else positional
    if named == "":  # as a shell leaves it of a variable that is not set
        raise typer.BadParameter("the name of the output is empty", param_hint="OUT")
    return named


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


def write(target: str, data: bytes | memoryview, *, force: bool) -> None:
    """Write to a file or standard output.

    Raises:
        OutputError: If it cannot be written.
    """
    if target == STREAM:
        write_stdout(data)
    else:
        write_atomic(target, data, force=force)


def _is_same(source: str, target: str) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:  # one does not exist or cannot be seen, which is said when it is used
        return False
