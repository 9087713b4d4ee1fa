"""Alpha: lossless planes, and colours for the pixels that nobody sees.

A plane is predicted, and the differences, modulo 2 to the bit depth, are deflated:

    payload   predictor u8 | zlib stream of the differences, row by row
    predictor 0 none   1 left   2 above   3 left + above - above left       zero outside

Of 16-bit planes all high bytes come first, then all low bytes.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import CorruptError, TruncatedError

Plane = NDArray[np.uint8 | np.uint16]

_LEFT, _ABOVE = 1, 2
"""Bits of a predictor: along which axes differences are taken. Both make the third."""
_PREDICTORS = range(4)
_HASTY, _THOROUGH = 3, 9
"""Levels of zlib: to compare predictors, and for the file."""


def pack_plane(plane: Plane) -> bytes:
    """Return the payload of a plane ``(h, w)``, uint8 or uint16.

    The predictor is the one whose differences deflate best in a hurry.
    """
    best = min(_PREDICTORS, key=lambda predictor: len(_pack(plane, predictor, _HASTY)))
    return _pack(plane, best, _THOROUGH)


def unpack_plane(payload: bytes, shape: tuple[int, int], bit_depth: int) -> Plane:
    """Undo `pack_plane`.

    Args:
        payload: what it returned.
        shape: rows and columns.
        bit_depth: 8 or 16.

    Raises:
        TruncatedError: the payload ends too early.
        CorruptError: it breaks another rule of the format.
    """
    size = shape[0] * shape[1] * bit_depth // 8
    if not payload:
        raise TruncatedError("the alpha of a segment is empty")
    predictor = payload[0]
    if predictor not in _PREDICTORS:
        raise CorruptError(f"alpha has the unknown predictor {predictor}")
    stream = zlib.decompressobj()
    try:
        # One byte more than there should be shows a stream that is too long.
        raw = stream.decompress(memoryview(payload)[1:], size + 1)
    except zlib.error as error:
        raise CorruptError(f"the alpha of a segment cannot be inflated: {error}") from error
    if len(raw) > size or stream.unused_data:
        raise CorruptError("the alpha of a segment is longer than the segment")
    if len(raw) < size or not stream.eof:
        raise TruncatedError("the alpha of a segment ends too early")
    return _undo(_from_bytes(raw, shape, bit_depth), predictor)


def average_plane(plane: Plane, side: int) -> Plane:
    """Return the rounded means over squares of `side` pixels.

    The last row and column are repeated where squares reach beyond them.
    """
    edges = [(0, -length % side) for length in plane.shape]
    padded = np.pad(plane, edges, mode="edge").astype(np.float32)
    rows, columns = (length // side for length in padded.shape)
    means = padded.reshape(rows, side, columns, side).mean(axis=(1, 3))
    return np.rint(means).astype(plane.dtype)


def fill_hidden(colours: NDArray[np.float32], alpha: Plane) -> None:
    """Give pixels of zero alpha a colour that costs little and spoils no neighbour.

    Colours of what is seen spread over what is not, through averages over ever larger squares
    (pull-push; Gortler et al. 1996, section 3.4).

    Args:
        colours: ``(c, h, w)``, changed in place.
        alpha: ``(h, w)``.
    """
    hidden = alpha == 0
    if hidden.any() and not hidden.all():
        seen = np.where(hidden, np.float32(0), np.float32(1))
        colours[:, hidden] = _spread(colours * seen, seen)[:, hidden]


def _spread(weighted: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return averages ``(c, h, w)`` where the weight ``(h, w)`` is positive, else coarser ones."""
    height, width = weight.shape
    known = weight > 0
    average = weighted / np.where(known, weight, np.float32(1))
    if not known.all():
        edges = ((0, height % 2), (0, width % 2))
        coarse = _spread(
            _halved(np.pad(weighted, ((0, 0), *edges))), _halved(np.pad(weight, edges))
        )
        doubled = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
        average = np.where(known, average, doubled)
    return average.astype(np.float32, copy=False)


def _halved(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum 2x2 squares of the last two axes, whose sides are even."""
    rows = np.add(t[..., 0::2, :], t[..., 1::2, :], dtype=np.float32)
    return np.add(rows[..., 0::2], rows[..., 1::2], dtype=np.float32)


def _pack(plane: Plane, predictor: int, level: int) -> bytes:
    rest = plane
    if predictor & _LEFT:
        rest = np.diff(rest, axis=1, prepend=rest.dtype.type(0))
    if predictor & _ABOVE:
        rest = np.diff(rest, axis=0, prepend=rest.dtype.type(0))
    return bytes((predictor,)) + zlib.compress(_to_bytes(rest), level)


def _undo(rest: Plane, predictor: int) -> Plane:
    """Sum differences up again; sums wrap as they did."""
    if predictor & _LEFT:
        rest = np.cumsum(rest, axis=1, dtype=rest.dtype)
    if predictor & _ABOVE:
        rest = np.cumsum(rest, axis=0, dtype=rest.dtype)
    return rest


def _to_bytes(plane: Plane) -> bytes:
    if plane.dtype == np.uint8:
        return plane.tobytes()
    return (plane >> 8).astype(np.uint8).tobytes() + plane.astype(np.uint8).tobytes()


def _from_bytes(raw: bytes, shape: tuple[int, int], bit_depth: int) -> Plane:
    planes = np.frombuffer(raw, np.uint8).reshape(-1, *shape)
    if bit_depth == 8:
        return planes[0]
    return planes[0].astype(np.uint16) << 8 | planes[1]
