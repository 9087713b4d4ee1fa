"""Whole files in and out: bounded reads, atomic writes, pipes.

`-` names standard input or output; a file of that name is reached as an absolute path.
"""

import contextlib
import io
import os
import re
import secrets
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from vaecodec.errors import InputError, OutputError, OutputExistsError
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.origin import NEW, Origin

# Read in blocks: asking a pipe for `max_file_bytes` at once would set that much aside.
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
_BLOCK_BYTES = 2**20
_WEB = re.compile("(https?|ftps?)://", re.IGNORECASE)
APPLE_DOUBLE = "._"
"""Begins the names of files that macOS puts beside others, for what only its own disks can hold."""


def read_bytes(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read a whole file, or standard input.

    Args:
        path: Where to read; `-` for standard input.
        limits: Never more than `max_file_bytes` and one block are held.

    Raises:
        InputError: If it cannot be read: missing, a folder, not permitted, a terminal, on the web.
        LimitError: If it is longer than `max_file_bytes`.
    """
    name = os.fspath(path)
    if name == "-":
        return _read_stdin(limits)
    check_web(name)
    try:
        with open(name, "rb") as file:
            # A regular file is refused by its real size, before any of it is read.
            limits.check_file_bytes(os.fstat(file.fileno()).st_size)
            return _read_bounded(file, limits)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"cannot read {name}: {_reason(error)}") from error


def write_atomic(
    path: str | os.PathLike[str],
    data: bytes | memoryview,
    *,
    force: bool = False,
    origin: Origin = NEW,
) -> None:
    """Write a file so that its path holds either the old content or all of the new.

    The bytes go to a temporary file in the same folder, which is then renamed. A symbolic link
    is followed, not replaced. A pipe or a character device, such as `/dev/null`, has no content
    to keep and is written to directly.

    Args:
        path: Where to write.
        data: The whole content.
        force: Replace a file that exists.
        origin: Gives permissions and times, which a pipe or a device does not take.

    Raises:
        OutputExistsError: If the file exists and `force` is not given.
        OutputError: If it cannot be written; nothing is left behind then.
    """
    name = os.fspath(path)
    try:
        target = check_output(name, force=force)
        if _is_stream(name):
            target.write_bytes(data)
        else:
            _put_in_place(target, data, name, origin, force=force)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise OutputError(f"cannot write {name}: {_reason(error)}") from error


def write_stdout(data: bytes | memoryview) -> None:
    """Write binary data to standard output.

    Raises:
        OutputError: If it is a terminal, is closed, or its reader has gone.
    """
    # Python sets it to None where the process was started without one.
    stdout = sys.stdout
    if not stdout or stdout.closed:
        raise OutputError("cannot write to standard output: it is closed")
    if stdout.isatty():
        raise OutputError("binary data is not written to a terminal: redirect it, or name a file")
    try:
        _write_whole(stdout.buffer, data)
        stdout.buffer.flush()
    except OSError as error:
        _abandon_stdout()
        raise OutputError(f"cannot write to standard output: {_reason(error)}") from error


def _write_whole(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of it: unbuffered (`python -u`), one call may take less."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def walk(
    top: str, unlisted: Callable[[OSError], None], *, recursive: bool
) -> Iterator[tuple[str, list[str]]]:
    """Yield folders, each with the names of its files, all in order.

    Links to folders are not followed. Pipes and devices are left out, as one might never end; a
    link that leads nowhere is a file that is missing.

    Args:
        top: The first folder.
        unlisted: Called with why a folder cannot be listed.
        recursive: Whether folders inside are listed, too.
    """
    for folder, inside, names in os.walk(top, onerror=unlisted):
        inside[:] = sorted(inside) if recursive else ()
        yield folder, [name for name in sorted(names) if _is_file(os.path.join(folder, name))]


def _is_file(path: str) -> bool:
    return os.path.isfile(path) or not os.path.exists(path)


def unwind_on_signals() -> None:
    """Turn requests to end into exits, so that no temporary file stays behind."""
    ended = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ended
        if not ended:  # one that follows must not cut the unwinding short
            ended = True
            sys.exit(128 + number)

    for name in ("SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # A signal that is ignored, as `nohup` sets it up, stays ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _read_stdin(limits: Limits) -> bytes:
    stdin = sys.stdin
    if not stdin or stdin.closed:
        raise InputError("cannot read standard input: it is closed")
    if stdin.isatty():
        raise InputError("standard input is a terminal: pipe a file into it, or name one")
    try:
        return _read_bounded(stdin.buffer, limits)
    except OSError as error:
        raise InputError(f"cannot read standard input: {_reason(error)}") from error


def _read_bounded(file: BinaryIO, limits: Limits) -> bytes:
    """Read to the end, or until the limit is passed."""
    buffer = io.BytesIO()
    while block := file.read(_BLOCK_BYTES):
        limits.check_file_bytes(buffer.tell() + len(block))
        buffer.write(block)
    return buffer.getvalue()


def _is_stream(name: str) -> bool:
    """Tell whether a path is a pipe or a character device, which a rename would destroy.

    Links are followed by the system, as only it can those of `/dev/stdout` and `/dev/fd`.
    """
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_web(address: str) -> None:
    """Refuse an address of the web, which is no file, whatever else could be done about it.

    Raises:
        InputError: It is one.
    """
    if _WEB.match(address):
        raise InputError(
            f"{address} is an address of the web, and files alone are read and written: "
            "download it first, or pipe it in (curl -L ADDRESS | vaecodec ... - OUT)"
        )


def check_input(path: str) -> None:
    """Refuse an input that is not there, before the output is looked at.

    Raises:
        InputError: If it cannot be found, or is on the web; standard input is always there.
    """
    check_web(path)
    try:
        if path != "-":
            os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"cannot read {path}: {_reason(error)}") from error


def check_output(name: str, *, force: bool) -> Path:
    """Refuse an output that could not be written, before anything is spent on its content.

    Args:
        name: The file, or a link to it.
        force: Replacing a file is allowed.

    Returns:
        The file, links followed but for those to pipes and devices.

    Raises:
        OutputExistsError: If it exists, and replacing it is not allowed.
        OutputError: If it is a folder or no regular file, or its folder does not exist.
    """
    try:
        if _is_stream(name):
            return Path(name)
        target = Path(os.path.realpath(name))
        folder_exists, exists = target.parent.is_dir(), target.exists()
    except (OSError, ValueError) as error:  # a folder that may not be searched, a NUL in a name
        raise OutputError(f"cannot write {name}: {_reason(error)}") from error
    if name.endswith(_SEPARATORS):
        raise OutputError(f"cannot write {name}: it names a folder")
    if not folder_exists:
        raise OutputError(f"cannot write {name}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"cannot write {name}: the folder {target.parent} is read-only")
    if not exists:
        return target
    if target.is_dir():
        raise OutputError(f"cannot write {name}: it is a folder")
    if not target.is_file():
        raise OutputError(f"cannot write {name}: it is not a regular file")
    if not force:
        raise _exists_already(name)
    return target


def _put_in_place(
    target: Path, data: bytes | memoryview, name: str, origin: Origin, *, force: bool
) -> None:
    """Put `data` in a temporary file beside `target`, then rename it."""
    # The name is short and does not contain the target's, which may be as long as names can be.
    temporary = target.with_name(f".vaecodec-{secrets.token_hex(8)}.tmp")
    try:
        # "x" refuses to follow a link planted under this name. Nobody may read what the input's
        # own bits, or those of what is replaced, keep from them: not for a moment.
        with open(temporary, "xb", opener=origin.create) as file:
            with contextlib.suppress(FileNotFoundError):
                lent = stat.S_IMODE(target.stat().st_mode)
                temporary.chmod(lent if origin == NEW else lent & origin.mode)
            file.write(data)
            file.flush()
            # Without this a power cut could keep the rename and lose the content.
            os.fsync(file.fileno())
        origin.date(temporary)
        if force:
            os.replace(temporary, target)
        else:
            _rename_new(temporary, target, name)
    except BaseException:  # an interrupt must not leave the file behind either
        with contextlib.suppress(OSError):
            temporary.chmod(stat.S_IWRITE)  # without which Windows removes nothing
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _rename_new(temporary: Path, target: Path, name: str) -> None:
    """Rename a file, unless another process has put one there meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise _exists_already(name) from error
    except OSError:  # no second names on this disk
        os.replace(temporary, target)
    else:
        temporary.unlink()


def _exists_already(name: str) -> OutputExistsError:
    return OutputExistsError(f"{name} exists already; --force replaces it")


def _abandon_stdout() -> None:
    """Send what standard output still buffers nowhere, or Python would fail on it at exit."""
    with contextlib.suppress(OSError):
        descriptor = sys.stdout.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def _reason(error: OSError | ValueError) -> str:
    """Say why in one line, without the errno and path that `str` of an OSError repeats."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return str(error)
