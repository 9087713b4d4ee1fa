"""`Image.save` of a format of ours, without losing what it replaces.

Pillow empties a file before it asks a format's writer for the new content, so whatever is wrong,
be it a quality of 500, costs the old file. No hook of Pillow's comes before that; `Image.save` is
wrapped instead, and does as it always did for every other format.
"""

from __future__ import annotations

import io
import os
from functools import wraps
from typing import IO, Any

from PIL import Image

from vaecodec.errors import OutputError
from vaecodec.fileio import write_atomic

_MARK = "_vaecodec_format"


class UnwritableFileError(OutputError, OSError):
    """A file cannot be written where `Image.save` was to put it."""


def keep_until_written(name: str) -> None:
    """Have `Image.save` replace files of one format only by whole ones; again, if it does so."""
    save = Image.Image.save
    if getattr(save, _MARK, None) == name:
        return

    @wraps(save)
    def saving(
        self: Image.Image,
        fp: str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes],
        format: str | None = None,
        **params: Any,
    ) -> None:
        if not isinstance(fp, str | bytes | os.PathLike) or not _is_of(name, fp, format):
            save(self, fp, format, **params)
            return
        buffer = io.BytesIO()
        save(self, buffer, name, **params)
        try:
            write_atomic(os.fsdecode(fp), buffer.getbuffer(), force=True)
        except OutputError as error:
            raise UnwritableFileError(str(error)) from error

    setattr(saving, _MARK, name)
    Image.Image.save = saving


def _is_of(
    name: str, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], format: str | None
) -> bool:
    if format:
        return format.upper() == name
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    return Image.EXTENSION.get(suffix) == name
