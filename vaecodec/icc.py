"""ICC profiles of a matrix and a curve, made as ICC.1:2010 (version 4.3) lays them out.

A profile depends on its colours alone, to the byte: it has a fixed date and no ID.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
"""Chromaticity, x and y."""
D65: Point = (0.3127, 0.3290)

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_VERSION, _DATE = 0x04300000, (2000, 1, 1, 0, 0, 0)
_COPYRIGHT = "No copyright, use freely"
_SPACE_AT, _SIGNATURE_AT = 16, 36
_SPACES = {
    b"CMYK": "CMYK",
    b"GRAY": "grey",
    b"Lab ": "Lab",
    b"RGB ": "RGB",
    b"CMY ": "CMY",
    b"HSV ": "HSV",
    b"XYZ ": "XYZ",
    b"YCbr": "YCbCr",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """How samples become light: `(a x + b)^g` from d on, `c x` below.

    Attributes:
        gamma: g.
        linear: a, b, c and d; empty for a power alone.
    """

    gamma: float
    linear: tuple[float, ...] = ()


SRGB_CURVE = Curve(2.4, (1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
BT709_CURVE = Curve(1 / 0.45, (1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081))
# ITU-R BT.2020, with the constants to as many digits as 12 bits need.
BT2020_CURVE = Curve(1 / 0.45, (1 / 1.0992968, 0.0992968 / 1.0992968, 1 / 4.5, 4.5 * 0.018053969))


@dataclass(frozen=True, slots=True)
class Primaries:
    """Chromaticities of red, green, blue and white."""

    red: Point
    green: Point
    blue: Point
    white: Point = D65

    def matrix(self) -> NDArray[np.float64]:
        """Return what takes linear RGB to XYZ under D50, by Bradford's adaptation.

        Raises:
            ValueError: The primaries span no colours.
        """
        points = (self.red, self.green, self.blue, self.white)
        if not all(0 < y <= 1 and abs(x) <= 1 for x, y in points):
            raise ValueError(f"these are no chromaticities: {points}")
        red, green, blue, white = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
        columns = np.stack((red, green, blue), axis=1)
        if abs(np.linalg.det(columns)) < 1e-3:
            raise ValueError(f"these primaries span no colours: {points}")
        scaled = columns * np.linalg.solve(columns, white)
        return adaptation(self.white) @ scaled


def adaptation(white: Point) -> NDArray[np.float64]:
    """Return the matrix that takes XYZ under a white point to XYZ under D50."""
    x, y = white
    seen = _BRADFORD @ np.array([x / y, 1.0, (1 - x - y) / y])
    scaled = np.diag((_BRADFORD @ _D50) / seen) @ _BRADFORD
    return np.linalg.solve(_BRADFORD, scaled).astype(np.float64)


def rgb_profile(name: str, primaries: Primaries, curve: Curve) -> bytes:
    """Return a profile of RGB colours.

    Raises:
        ValueError: The primaries span no colours, or are beyond what a profile holds.
    """
    matrix = primaries.matrix()
    if np.abs(matrix).max() >= 2**15:
        raise ValueError("the primaries are beyond what a profile holds")
    tags = _shared_tags(name, primaries.white)
    tags |= {key: _xyz(matrix[:, index]) for index, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve))
    return _profile(b"RGB ", tags)


def grey_profile(name: str, white: Point, curve: Curve) -> bytes:
    """Return a profile of grey."""
    return _profile(b"GRAY", _shared_tags(name, white) | {b"kTRC": _curve(curve)})


def space_of(profile: bytes) -> str:
    """Return which colours a profile is for; empty where it does not say so."""
    if profile[_SIGNATURE_AT : _SIGNATURE_AT + 4] != b"acsp":
        return ""
    return _SPACES.get(profile[_SPACE_AT : _SPACE_AT + 4], "other")


def _shared_tags(name: str, white: Point) -> dict[bytes, bytes]:
    numbers = adaptation(white).reshape(-1)
    return {
        b"desc": _text(name),
        b"cprt": _text(_COPYRIGHT),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + b"".join(_fixed(value) for value in numbers),
    }


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Lay tags out; those of equal content share it."""
    directory, body = [struct.pack(">I", len(tags))], b""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for key, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        directory.append(key + struct.pack(">2I", places[content], len(content)))
    head = struct.pack(
        ">I4xI4s4s4s6H4s", start + len(body), _VERSION, b"mntr", space, b"XYZ ", *_DATE, b"acsp"
    )
    white = b"".join(_fixed(value) for value in _D50)
    header = head.ljust(68, b"\0") + white
    return header.ljust(128, b"\0") + b"".join(directory) + body


def _text(text: str) -> bytes:
    """Return a text of one language: type mluc."""
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4x2I4s2I", 1, 12, b"enUS", len(encoded), 28) + encoded


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _curve(curve: Curve) -> bytes:
    kind = 3 if curve.linear else 0
    return (
        b"para" + struct.pack(">4xH2x", kind) + b"".join(map(_fixed, (curve.gamma, *curve.linear)))
    )


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65_536))
