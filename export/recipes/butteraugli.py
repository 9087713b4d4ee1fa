"""Measure files by Butteraugli, which no training of ours has seen.

    python export/recipes/butteraugli.py kodak/ --bundle BUNDLE --json found.json [--earlier e.json]

It calls libjxl's `butteraugli_main` (Debian: `apt install libjxl-devtools`). The figure is its
3-norm, averaged over the images; smaller is better. With --earlier, it prints the bits at equal
figures (BD-rate) against what --json wrote of another bundle.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image

from vaecodec import Codec
from vaecodec.bench.folder import find_images
from vaecodec.metrics import Point, bd_rate, bpp

QUALITIES = (10, 25, 40, 55, 70, 85, 100)


def main() -> None:
    """Measure a folder of images at several qualities."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("--bundle", default="base")
    parser.add_argument("--every", type=int, default=1, help="take every n-th image")
    parser.add_argument("--json", type=Path, help="file for the curve")
    parser.add_argument("--earlier", type=Path, help="curve of another bundle to compare with")
    options = parser.parse_args()
    codec = Codec(options.bundle)
    paths = find_images(options.images)[:: options.every]
    curve = [point(codec, paths, quality) for quality in QUALITIES]
    for quality, (rate, figure) in zip(QUALITIES, curve, strict=True):
        print(f"quality {quality:3}  {rate:.4f} bpp  Butteraugli {figure:.3f}")  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(curve), "utf-8")
    if options.earlier:
        earlier: list[Point] = json.loads(options.earlier.read_text("utf-8"))
        # A fidelity rises with the rate.
        one, other = ([(rate, -figure) for rate, figure in points] for points in (earlier, curve))
        print(f"BD-rate at equal Butteraugli: {bd_rate(one, other, '').percent:+.1f}%")  # noqa: T201


def point(codec: Codec, paths: list[Path], quality: float) -> Point:
    """Return bits per pixel and Butteraugli, means over images."""
    rates: list[float] = []
    figures: list[float] = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        data = codec.encode(pixels, quality=quality)
        rates.append(bpp(len(data), pixels.shape[1], pixels.shape[0]))
        figures.append(butteraugli(pixels, codec.decode_raster(data).read()))
    return fmean(rates), fmean(figures)


def butteraugli(original: np.ndarray, decoded: np.ndarray) -> float:
    """Return the 3-norm of two images ``(h, w, 3)`` uint8."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("original.ppm", "decoded.ppm")]
        for file, samples in zip(files, (original, decoded), strict=True):
            Image.fromarray(samples).save(file)
        command = ["butteraugli_main", *files]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.search(r"3-norm: ([\d.]+)", printed)
    if found is None:
        raise ValueError(f"butteraugli_main printed no 3-norm: {printed!r}")
    return float(found[1])


if __name__ == "__main__":
    main()
