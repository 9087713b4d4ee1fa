"""Folders that appear at their place when they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(folder: Path) -> Generator[Path]:
    """Yield where a folder is to be made, beside its place; then it goes there, if all went well.

    A folder that was there before stays until that moment.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("new", "old"))
    if old.exists() and not folder.exists():  # a process was killed between the two moves
        old.rename(folder)
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        yield temporary
        put_in_place(temporary, folder, old)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def put_in_place(made: Path, place: Path, old: Path) -> None:
    """Move a folder to its place; what was there goes elsewhere, and returns if that fails."""
    if not place.exists():
        made.rename(place)
        return
    place.rename(old)
    try:
        made.rename(place)
    except OSError:
        old.rename(place)
        raise
