"""Write a set of golden files, once: `python tests/golden/make.py tests/golden/v1`.

A set is never written again. A new version of the format gets a new folder, and readers go on
reading the old one.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import SAMPLES, make_tiny_bundle

from vaecodec.codec import Codec
from vaecodec.container import Container, pack, unpack
from vaecodec.metadata import Metadata
from vaecodec.raster import Samples, from_array

METADATA = Metadata(
    icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    exif=b"II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    dpi=(300.0, 150.5),
)


def photograph(height: int, width: int) -> Samples:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        return np.asarray(image.crop((300, 100, 300 + width, 100 + height)))


def images() -> dict[str, tuple[Samples, float]]:
    """Return images by name, and the quality of each."""
    rgb = photograph(50, 67)
    ramp = np.linspace(0, 65_535, 50 * 67).reshape(50, 67, 1).astype(np.uint16)
    noise = np.random.default_rng(1).integers(0, 2, (40, 48, 3)).astype(np.uint8) * 255
    deep = np.dstack([rgb.astype(np.uint16) * 257, ramp])
    return {
        "rgb": (rgb, 50),
        "grey": (rgb[:, :, :1], 20),
        "grey-alpha": (np.dstack([rgb[:, :, 0], (ramp >> 8).astype(np.uint8)]), 70),
        "rgb-alpha": (np.dstack([rgb, noise.repeat(2, 0).repeat(2, 1)[:50, :67, 0]]), 0),
        "grey-16": (ramp, 90),
        "rgb-alpha-16": (deep, 100),
        "escapes": (noise, 100),
        "one-pixel": (rgb[:1, :1], 33.3),
        "two-segments": (np.hstack([photograph(40, 550)] * 2), 40),
    }


def main(folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} exists: goldens are written once")
    folder.mkdir(parents=True)
    make_tiny_bundle(folder / "bundle")
    codec = Codec(folder / "bundle")
    facts: dict[str, object] = {}
    for name, (samples, quality) in images().items():
        raster = from_array(samples, METADATA if name == "rgb" else None)
        data = codec.encode(raster, quality=quality)
        (folder / f"{name}.vaec").write_bytes(data)
        decoded = codec.decode_raster(data).read()
        np.savez_compressed(folder / f"{name}.npz", samples=decoded)
        facts[name] = describe(data)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def describe(data: bytes) -> dict[str, object]:
    """Return what a reader must find in a file."""
    container = unpack(data)
    header = container.header
    if pack(Container(header, container.latents, container.alpha, container.ancillary)) != data:
        raise ValueError("a file does not come back as it was")
    return {
        "size": [header.width, header.height],
        "mode": header.mode.name,
        "bit_depth": header.bit_depth,
        "level": header.level,
        "model_id": header.model_id.hex(),
        "latents": [hashlib.sha256(payload).hexdigest() for payload in container.latents],
        "alpha": [hashlib.sha256(payload).hexdigest() for payload in container.alpha],
        "ancillary": [[chunk.name, chunk.payload.hex()[:64]] for chunk in container.ancillary],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
