"""What goes to the two standard streams."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, cast

from vaecodec.errors import VaecodecError
from vaecodec.fileio import write_stdout


def put_text(text: str) -> None:
    """Write text, which is the command's result, to standard output.

    Raises:
        OutputError: If it is closed, or its reader has gone.
    """
    stdout = sys.stdout
    # `fsencode` gives back the bytes of a file's name that is not valid in any encoding.
    data = os.fsencode(text + "\n")
    if not stdout or stdout.closed or not stdout.isatty():
        write_stdout(data)
    elif os.name == "posix":
        stdout.buffer.write(data)
        stdout.buffer.flush()
    else:
        stdout.write(text + "\n")
        stdout.flush()


def one_line(text: str) -> str:
    """Escape what would break a line or steer a terminal: a file's name may hold anything.

    Bytes of a name that are not valid in any encoding stay as they are.
    """
    kept = (
        char if char.isprintable() or "\udc80" <= char <= "\udcff" else repr(char)[1:-1]
        for char in text
    )
    return "".join(kept)


@contextlib.contextmanager
def about(name: str) -> Generator[None]:
    """Let the errors raised inside be shown with the name of the file that they are about."""
    try:
        yield
    except VaecodecError as error:
        error.add_note(name)
        raise


def put_json(value: object) -> None:
    """Write a value to standard output as JSON on one line."""
    put_text(json_text(value))


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON, in which null stands for numbers it cannot express, such as infinity."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def note(text: str) -> None:
    """Write a line to standard error; if that is closed, nobody reads it, and that is all."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def tell_notices(name: str, notices: Iterable[str], *, quiet: bool) -> None:
    """Say what the user should know of a file, unless nothing is to be said."""
    if not quiet:
        for notice in notices:
            note(f"{name}: {notice}")


def _plain(value: object) -> object:
    """Replace infinities and NaN by None, in containers too."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[Any, object]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
