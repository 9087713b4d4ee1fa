"""What is kept of an image's metadata once its pixels are upright and without what has no place.

Metadata that speaks of pixels must be true of those that are stored: orientation, sizes, thumbnail,
gain map, colour profile. This is the same however an image comes, as a file or from Pillow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from PIL import ExifTags, Image

from vaecodec.colour_signs import adobe_rgb, described_colours
from vaecodec.exif_tidy import size_of, with_swapped_sizes, without_thumbnail
from vaecodec.icc import space_of
from vaecodec.metadata import Metadata, is_turned, read_metadata
from vaecodec.xmp import claims_gain_map, without_gain_map

GAIN_MAP_KEY = "vaec_gain_map"
"""Is in `image.info` where a file was seen to hold an HDR gain map."""
_ON_SIDE = frozenset({5, 6, 7, 8})


def kept_metadata(
    image: Image.Image, orientation: int, *, is_grey: bool, is_converted: bool = False
) -> tuple[Metadata, tuple[str, ...]]:
    """Return what to store besides pixels, and what there is to say about it.

    Args:
        image: as Pillow has opened it.
        orientation: as it was found, 1 to 8.
        is_grey: whether it is stored as grey.
        is_converted: whether its colours are no longer those of its profile, but sRGB.
    """
    metadata = read_metadata(image)
    found = _turned_by(image, metadata, orientation)
    if found != 1:
        metadata = replace(metadata, exif=without_thumbnail(metadata.exif))
    if found in _ON_SIDE:
        metadata = replace(metadata, exif=with_swapped_sizes(metadata.exif))
    metadata = metadata.upright()
    notices: tuple[str, ...] = ()
    if GAIN_MAP_KEY in image.info or claims_gain_map(metadata.xmp):
        metadata = replace(metadata, xmp=without_gain_map(metadata.xmp))
        notices += ("its HDR gain map is not kept: it is stored as displays without HDR show it",)
    if is_converted:
        return replace(metadata, icc=b""), notices
    metadata, said = _with_profile(metadata, image, is_grey)
    return metadata, notices + said


def _turned_by(image: Image.Image, metadata: Metadata, orientation: int) -> int:
    """Return how a picture has been turned.

    Where a plugin has done it, as its container says, only the sizes in EXIF tell.
    """
    if not is_turned(image):
        return orientation
    return 6 if image.width != image.height and size_of(metadata.exif) == image.size[::-1] else 1


def _with_profile(
    metadata: Metadata, image: Image.Image, is_grey: bool
) -> tuple[Metadata, tuple[str, ...]]:
    """Settle which profile the colours have."""
    notices: tuple[str, ...] = ()
    wanted = ("", "grey", "RGB") if is_grey else ("", "RGB")
    if (space := space_of(metadata.icc)) not in wanted:
        colours = "grey" if is_grey else "RGB"
        notices = (f"its colour profile is one for {space} colours, not {colours}: left out",)
        metadata = replace(metadata, icc=b"")
    described = described_colours(image, is_grey=is_grey)
    if not metadata.icc:
        icc = described.icc
        if not icc and not described.notices and _names_adobe_rgb(image):
            icc = adobe_rgb(is_grey=is_grey)
        return replace(metadata, icc=icc), notices + described.notices
    if not described.goes_first:
        # A profile goes before all else that a file says, but for cICP, of which that is lost.
        said = described.notices if "cicp" in image.info and image.format == "PNG" else ()
        return metadata, notices + said
    notices += ("its colour profile is replaced by what its cICP chunk says, which goes first",)
    return replace(metadata, icc=described.icc), notices


def _names_adobe_rgb(image: Image.Image) -> bool:
    """Tell whether EXIF names Adobe RGB, as cameras do (DCF 2.0: interoperability index R03)."""
    if image.format not in ("JPEG", "MPO"):
        return False
    try:
        index = image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # Pillow's parser raises whatever damage runs it into
        return False
    return str(cast("object", index)).rstrip("\0") == "R03"
