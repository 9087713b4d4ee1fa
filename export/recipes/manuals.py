"""Render pages of free manuals, on which training on one's own images was measured.

    pip install pypdfium2
    python export/recipes/manuals.py pages/

Makes pages/train/*.png and pages/test/*.png, at 150 dpi, of the manuals in manuals.tsv. They are
in packages of Debian 12, whose `apt-get` fetches them.
"""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
from PIL import Image

LIST = Path(__file__).with_suffix(".tsv")
SCALE: Any = 150 / 72  # pixels per point; its annotation says int, and any number does
BLANK_DEVIATION = 5.0
"""Grey levels: a page with less has next to nothing on it, and the one after it is taken."""


def main(folder: Path) -> None:
    """Render what the list names."""
    with LIST.open(encoding="utf-8", newline="") as file:
        manuals = list(csv.DictReader(file, delimiter="\t"))
    for manual in manuals:
        target = folder / manual["set"]
        target.mkdir(parents=True, exist_ok=True)
        data = fetch(manual["package"], manual["version"], manual["pdf"])
        for number, page in render(data, int(manual["pages"])):
            page.save(target / f"{manual['name']}-{number:04}.png")


def fetch(package: str, version: str, path: str) -> bytes:
    """Return a PDF of a package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603
            ["apt-get", "download", "-qq", f"{package}={version}"],  # noqa: S607
            cwd=folder,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)  # noqa: S603, S607
        data = (Path(folder) / path).read_bytes()
    return gzip.decompress(data) if path.endswith(".gz") else data


def render(data: bytes, count: int) -> list[tuple[int, Image.Image]]:
    """Return some pages of a PDF, evenly spread, with their numbers."""
    document = pypdfium2.PdfDocument(data)
    pages: dict[int, Image.Image] = {}
    for index in range(count):
        for number in range((2 * index + 1) * len(document) // (2 * count), len(document)):
            if number not in pages:
                image = document[number].render(SCALE).to_pil().convert("RGB")
                if np.asarray(image.convert("L")).std() >= BLANK_DEVIATION:
                    pages[number] = image
                    break
    return sorted(pages.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
