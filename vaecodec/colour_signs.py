"""Descriptions of colours that are no ICC profiles, and the profiles that say the same.

cICP chunks of PNG and nclx boxes of AVIF and HEIC give code points of ITU-T H.273; gAMA and cHRM
chunks give numbers. Where a profile of a matrix and a curve is exact, it is made; where it is not,
a notice says what is lost. PQ and HLG are meant for displays of great brightness, which no such
profile speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from PIL import Image

from vaecodec.icc import (
    BT709_CURVE,
    BT2020_CURVE,
    D65,
    SRGB_CURVE,
    Curve,
    Primaries,
    grey_profile,
    rgb_profile,
)

CODES_KEY = "cicp"
"""Where in `image.info` the code points of a file stand: primaries, transfer, matrix, range."""
_ILLUMINANT_C, _DCI = (0.310, 0.316), (0.314, 0.351)
_BT709 = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_BT601 = Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_ADOBE = Primaries((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
_PRIMARIES = {
    1: ("BT.709", _BT709),
    4: ("BT.470 M", Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _ILLUMINANT_C)),
    5: ("BT.470 B/G", Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))),
    6: ("BT.601", _BT601),
    7: ("SMPTE 240M", _BT601),
    8: ("film", Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _ILLUMINANT_C)),
    9: ("BT.2020", Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    11: ("DCI P3", Primaries(*_P3, _DCI)),
    12: ("Display P3", Primaries(*_P3)),
    22: ("EBU 3213", Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077))),
}
_CURVES = {
    1: BT709_CURVE,
    4: Curve(2.2),
    5: Curve(2.8),
    6: BT709_CURVE,
    8: Curve(1.0),
    13: SRGB_CURVE,
    14: BT709_CURVE,
    15: BT2020_CURVE,
}
_UNSPECIFIED, _SRGB_CODES = 2, (1, 13)
_NAMES = {16: "PQ", 18: "HLG"}
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.01
_POINT_TOLERANCE = 0.002
_ADOBE_GAMMA = 563 / 256


@dataclass(frozen=True, slots=True)
class Colours:
    """What to keep of a description.

    Attributes:
        icc: a profile that says the same; empty where there is none, or sRGB is meant.
        notices: what is lost, a sentence each.
        goes_first: whether it counts even where the file has a profile.
    """

    icc: bytes = b""
    notices: tuple[str, ...] = ()
    goes_first: bool = False


def described_colours(image: Image.Image, *, is_grey: bool) -> Colours:
    """Return what an image's file says of its colours, its profile left aside.

    Args:
        image: as Pillow has opened it; `CODES_KEY` may be among its `info`.
        is_grey: whether it is stored as grey.
    """
    info = cast("dict[str, Any]", image.info)
    codes = info.get(CODES_KEY) or _codes_of_heif(info)
    if codes is not None:
        return _of_codes(codes, image.format == "PNG", is_grey)
    if image.format == "PNG" and "srgb" not in info:
        return _of_numbers(info.get("gamma"), info.get("chromaticity"), is_grey)
    return Colours()


def adobe_rgb(*, is_grey: bool) -> bytes:
    """Return the profile of Adobe RGB, which cameras name in EXIF, by a number."""
    if is_grey:
        return grey_profile("Adobe RGB grey", D65, Curve(_ADOBE_GAMMA))
    return rgb_profile("Adobe RGB (1998) compatible", _ADOBE, Curve(_ADOBE_GAMMA))


def _codes_of_heif(info: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the code points that pillow-heif gives."""
    found = info.get("nclx_profile")
    if not isinstance(found, dict):
        return None
    values = cast("dict[str, Any]", found)
    names = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
    return (*(int(values.get(name, _UNSPECIFIED)) for name in names), 1)


def _of_codes(codes: tuple[int, ...], is_png: bool, is_grey: bool) -> Colours:
    primaries, transfer, _, full = codes
    if is_png and not full:
        return Colours(notices=("its narrow range of samples (cICP) is taken for the full one",))
    # What is not specified is sRGB's, as readers of AVIF and HEIC have it.
    primaries = 1 if primaries == _UNSPECIFIED else primaries
    transfer = 13 if transfer == _UNSPECIFIED else transfer
    sign = "cICP" if is_png else "nclx"
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        named = _NAMES.get(transfer, f"{sign} {primaries}/{transfer}")
        return Colours(
            notices=(
                f"its description of HDR or wide colours ({sign}) is not kept: no profile "
                f"is exact for {named}, and its colours will look different",
            )
        )
    if (primaries, transfer) == _SRGB_CODES:
        return Colours(goes_first=is_png)
    name, points = _PRIMARIES[primaries]
    shown = name if transfer == 13 else f"{name}, H.273 transfer {transfer}"
    icc = _made(shown, points, _CURVES[transfer], is_grey)
    return Colours(icc, goes_first=is_png)


def _of_numbers(gamma: float | None, points: tuple[float, ...] | None, is_grey: bool) -> Colours:
    """Return what gAMA and cHRM chunks of a PNG come to."""
    is_srgb_gamma = gamma is None or abs(gamma - _SRGB_GAMMA) <= _GAMMA_TOLERANCE
    usual = points is None or _is_near(points, _BT709) or is_grey
    if is_srgb_gamma and usual:
        return Colours()
    white, red, green, blue = (
        [(points[at], points[at + 1]) for at in (0, 2, 4, 6)]
        if points is not None
        else [_BT709.white, _BT709.red, _BT709.green, _BT709.blue]
    )
    notices: tuple[str, ...] = ()
    if gamma is None:
        notices = ("its primaries (cHRM) come without a gamma: sRGB's curve is assumed",)
    curve = SRGB_CURVE if gamma is None else None
    try:
        curve = curve or Curve(1 / cast("float", gamma))
        name = "PNG colours" if gamma is None else f"PNG colours, gamma {1 / gamma:.4g}"
        return Colours(_made(name, Primaries(red, green, blue, white), curve, is_grey), notices)
    except (ValueError, ZeroDivisionError):
        said = "gAMA" if points is None else "gAMA, cHRM"
        return Colours(notices=(f"its description of colours ({said}) makes no sense: not kept",))


def _is_near(points: tuple[float, ...], primaries: Primaries) -> bool:
    wanted = (*primaries.white, *primaries.red, *primaries.green, *primaries.blue)
    return all(abs(a - b) <= _POINT_TOLERANCE for a, b in zip(points, wanted, strict=True))


def _made(name: str, primaries: Primaries, curve: Curve, is_grey: bool) -> bytes:
    if not 1e-3 < curve.gamma < 1e3:
        raise ValueError(f"a gamma of {curve.gamma:g} is none")
    if is_grey:
        return grey_profile(name, primaries.white, curve)
    return rgb_profile(name, primaries, curve)
