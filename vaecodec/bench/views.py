"""Crops of one image through several codecs at equal file size, and where its bits went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.bench.bits import BitCounter
from vaecodec.bench.folder import load_image
from vaecodec.bench.peers import Peer
from vaecodec.bench.results import PeerRow, QualityRow
from vaecodec.bundle import PATCH
from vaecodec.codec import Codec
from vaecodec.metadata import KINDS
from vaecodec.metrics import bpp, fidelity_db
from vaecodec.raster import Raster, from_array
from vaecodec.segments import Box

ORIGINAL, OURS = "original", "vaecodec"
CROP_WIDTH, CROP_HEIGHT = 384, 256
VIEW_BPP = 0.25
"""About where codecs differ most to the eye: below, all fail, and above, all do well."""
_WHOLE_SIDE = 640


@dataclass(frozen=True, slots=True)
class Version:
    """One image through one codec.

    Attributes:
        codec: `ORIGINAL`, `OURS` or another codec's name.
        title: As the page shows it.
        quality: On the codec's own scale; None for the original.
        file_bytes: Of the whole file; for the original, of its samples.
        bpp: The same, per pixel.
        psnr_db: Of the whole image.
        crop: ``(h, w, 3)`` uint8.
    """

    codec: str
    title: str
    quality: float | None
    file_bytes: int
    bpp: float
    psnr_db: float
    crop: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows of one image.

    Attributes:
        image: The file's name.
        width: In pixels.
        height: In pixels.
        crop: What is shown of it, in pixels.
        versions: The original, ours, then the other codecs.
        bits: Bits of each place on the grid of latents, of our file.
        whole: The whole image, grey and maybe smaller, ``(h, w)`` uint8.
    """

    image: str
    width: int
    height: int
    crop: Box
    versions: tuple[Version, ...]
    bits: NDArray[np.float64]
    whole: NDArray[np.uint8]

    @property
    def bits_share(self) -> float:
        """Part of our file that the symbols of the latents account for, 0 to 1."""
        return float(self.bits.sum()) / (8 * self.versions[1].file_bytes)


def choose_quality(rows: Sequence[QualityRow], rate: float = VIEW_BPP) -> float:
    """Return the quality that was measured nearest to a rate, in bpp."""
    return min(rows, key=lambda row: abs(math.log(row.bpp / rate))).quality


def spread_out(paths: Sequence[Path], count: int) -> list[Path]:
    """Return some of the paths, evenly from the first to the last; all if there are fewer."""
    if count >= len(paths) or count < 1:
        return list(paths[: max(count, 0)])
    last = len(paths) - 1
    return [paths[round(index * last / max(1, count - 1))] for index in range(count)]


def view(
    codec: Codec,
    counter: BitCounter,
    path: Path,
    quality: float,
    peers: Sequence[Peer] = (),
    rows: Sequence[PeerRow] = (),
) -> View:
    """Encode an image with our codec, and with others to files of the nearest size.

    Args:
        codec: Ours.
        counter: For its bundle.
        path: The image.
        quality: Of ours.
        peers: The others.
        rows: What was measured of them already, which shortens the search.

    Raises:
        VaecodecError: If an image cannot be used.
    """
    image = load_image(path)
    data = codec.encode(image, quality=quality, strip=KINDS)
    bits = counter.of_file(data)
    crop = _busiest(bits, image.box)
    versions = [
        _version(ORIGINAL, "Original", None, image.read().nbytes, image, image, crop),
        _version(OURS, OURS, quality, len(data), image, codec.decode_raster(data), crop),
    ]
    for peer in peers:
        known = {
            row.quality: row.file_bytes
            for row in rows
            if (row.codec, row.image) == (peer.name, path.name)
        }
        chosen, file = nearest_file(peer, image, len(data), known)
        decoded = from_array(peer.decode(file, image.mode))
        versions.append(_version(peer.name, peer.title, chosen, len(file), image, decoded, crop))
    return View(
        path.name, image.width, image.height, crop, tuple(versions), bits, _whole_in_grey(image)
    )


def nearest_file(
    peer: Peer, image: Raster, target_bytes: int, known: Mapping[float, int] | None = None
) -> tuple[float, bytes]:
    """Return the quality of a codec whose file is nearest to a size, and that file.

    Args:
        peer: The codec.
        image: Without alpha, of 8 bits.
        target_bytes: The size.
        known: Sizes at some qualities.
    """
    samples = image.read()
    files: dict[float, bytes] = {}

    def size(quality: float) -> int:
        if known and quality in known:
            return known[quality]
        if quality not in files:
            files[quality] = peer.encode(samples, quality)
        return len(files[quality])

    quality = nearest_quality(peer.qualities(), size, target_bytes, known or {})
    return quality, files.get(quality) or peer.encode(samples, quality)


def nearest_quality(
    qualities: Sequence[float],
    size: Callable[[float], int],
    target: int,
    known: Mapping[float, int],
) -> float:
    """Return the quality whose size is nearest to a target, by bisection.

    Args:
        qualities: Ascending; sizes ascend with them.
        size: Gives the size at a quality, at a price.
        target: The size to meet.
        known: Sizes at some qualities.
    """
    low, high = 0, len(qualities) - 1
    for index, quality in enumerate(qualities):
        if quality in known and known[quality] <= target:
            low = max(low, index)
        elif quality in known:
            high = min(high, index)
    while high - low > 1:
        middle = (low + high) // 2
        if size(qualities[middle]) <= target:
            low = middle
        else:
            high = middle
    ends = (qualities[low], qualities[max(low, high)])
    return min(ends, key=lambda quality: abs(size(quality) - target))


def _version(
    codec: str,
    title: str,
    quality: float | None,
    file_bytes: int,
    image: Raster,
    decoded: Raster,
    crop: Box,
) -> Version:
    rows, columns = crop.slices(image.box)
    return Version(
        codec,
        title,
        quality,
        file_bytes,
        bpp(file_bytes, image.width, image.height),
        fidelity_db(image, decoded),
        np.array(decoded.rgb()[rows, columns]),
    )


def _busiest(bits: NDArray[np.float64], image: Box) -> Box:
    """Return the crop, in pixels, whose latents take the most bits."""
    rows, columns = (
        min(side, pixels // PATCH)
        for side, pixels in zip(bits.shape, (CROP_HEIGHT, CROP_WIDTH), strict=True)
    )
    sums = np.pad(bits.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]
    inside += sums[:-rows, :-columns]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    cell = Box(int(top), int(left), int(top) + rows, int(left) + columns)
    return cell.scaled(PATCH).within(image)


def _whole_in_grey(image: Raster) -> NDArray[np.uint8]:
    whole = Image.fromarray(np.ascontiguousarray(image.rgb())).convert("L")
    whole.thumbnail((_WHOLE_SIDE, _WHOLE_SIDE))
    return np.asarray(whole)
