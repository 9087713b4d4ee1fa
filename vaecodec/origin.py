"""What an output takes from the file of its input: permissions and, if wanted, its time."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

_PLAIN = 0o666
"""What a new file may have, before the umask."""
_PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True)
class Origin:
    """What the file of an input says of itself.

    Attributes:
        mode: Permission bits; those of any new file where the system has no such bits.
        times_ns: When it was last read and modified, in nanoseconds; None where outputs have
            times of their own.
    """

    mode: int = _PLAIN
    times_ns: tuple[int, int] | None = None

    def create(self, path: str, flags: int) -> int:
        """Open a new file, as `opener` of `open`, with at most these bits: the umask holds, too."""
        return os.open(path, flags, self.mode)

    def date(self, path: str | os.PathLike[str]) -> None:
        """Give a file the times, if there are any."""
        if self.times_ns is not None:
            os.utime(path, ns=self.times_ns)


NEW = Origin()
"""That of an output which comes of no single input."""


def origin_of(path: str, *, keep_times: bool) -> Origin:
    """Return what an output takes from an input.

    Args:
        path: The input. Pipes, `-` and addresses such as `s3://bucket/name` give nothing.
        keep_times: Whether the times are taken, too.
    """
    try:
        found = None if path == "-" or "://" in path else os.stat(path)
    except (OSError, ValueError):  # reading it will say why
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        return Origin()
    mode = found.st_mode & _PERMISSIONS if os.name == "posix" else _PLAIN
    return Origin(mode, (found.st_atime_ns, found.st_mtime_ns) if keep_times else None)
