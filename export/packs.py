"""Files of images in folders and .tar packs, and the photographs among them that are held back."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image

from vaecodec.image import IMAGE_SUFFIXES, read_image

HELD_BACK = Path(__file__).parent / "recipes" / "held-back.txt"
"""Tiles by name, one a line; what follows a # is a comment."""

_TILE = re.compile(r"(\d+)_\d+")
"""Name of a tile, without its suffix: number of the photograph, number of the tile."""


def members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a .tar pack's members, or of the image files at a path.

    The order is that of the names. Of a file in a folder, the name is the last part of its path.

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: the pack is damaged.
    """
    if not source.exists():
        raise FileNotFoundError(f"no training data at {source}")
    if source.suffix == ".tar":
        try:
            with tarfile.open(source) as pack:
                for member in sorted(pack.getmembers(), key=lambda m: m.name):
                    stream = pack.extractfile(member)
                    if stream is not None:
                        yield Path(member.name).name, stream.read()
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{source} is no whole .tar: {error}") from error
        return
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.name, file.read_bytes()


def photograph(name: str) -> str | None:
    """Return the number of the photograph that a tile shows, or None if it is not named as one."""
    tile = _TILE.fullmatch(Path(name).stem)
    return tile and tile[1]


@cache
def held_back_tiles() -> frozenset[str]:
    """Return the names of the tiles that are held back, from `HELD_BACK`."""
    lines = HELD_BACK.read_text(encoding="utf-8").splitlines()
    names = (line.partition("#")[0].strip() for line in lines)
    return frozenset(name for name in names if name)


def is_held_back(name: str) -> bool:
    """Tell whether a file shows a photograph of which a tile is held back."""
    number = photograph(name)
    return number is not None and number in _held_back_photographs()


@cache
def _held_back_photographs() -> frozenset[str | None]:
    return frozenset(photograph(name) for name in held_back_tiles())


def write_held_back(pack: Path, folder: Path) -> int:
    """Write the tiles of a pack that are held back into a folder, as PNG; return how many.

    Raises:
        ValueError: the pack holds none.
    """
    count = 0
    for name, data in members(pack):
        if name in held_back_tiles():
            folder.mkdir(parents=True, exist_ok=True)
            pixels = read_image(data).rgb()
            Image.fromarray(pixels).save(folder / f"{Path(name).stem}.png", optimize=True)
            count += 1
    if not count:
        raise ValueError(f"{pack} holds no tile of {HELD_BACK.name}")
    return count
