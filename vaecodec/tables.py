"""Integer frequency tables: what the entropy coder knows of the symbols, the same everywhere.

A bundle's `tables.npz` holds

    reach          (64,) uint16      R of each scale index; 0 for index 0, which is never coded
    frequencies    (total,) uint32   for each index from 1 on, its 2R + 2 frequencies in turn:
                                     residuals -R .. R, then the escape; each >= 1, sum 2^24
    scales         (64,) float64     the standard deviations behind them, for estimates alone
    z_scale_index  (64, Nz) uint8        scale index of each hyper-latent's channel
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import ANCHORS
from vaecodec.errors import ModelError

FREQUENCY_BITS = 24
FREQUENCY_SUM = 1 << FREQUENCY_BITS
SCALE_COUNT = 64

_NAMES = ("reach", "frequencies", "scales", "z_scale_index")
_KINDS = (np.uint16, np.uint32, np.float64)
# All frequencies there can be are 63 * (2 * 65,535 + 2) * 4 bytes: half of it.
_MEMBER_BYTES = 2**26


@dataclass(frozen=True)
class Tables:
    """The tables of one bundle, checked.

    Attributes:
        reach: ``(64,)`` int32, R of each scale index.
        frequencies: for each scale index, ``(2R + 2,)`` uint32 (empty for index 0).
        scales: ``(64,)`` float64.
        z_scale_index: ``(64, Nz)`` uint8, in 1..63, a row for each anchor.
    """

    reach: NDArray[np.int32]
    frequencies: tuple[NDArray[np.uint32], ...]
    scales: NDArray[np.float64]
    z_scale_index: NDArray[np.uint8]

    @cached_property
    def bits(self) -> NDArray[np.float32]:
        """What each symbol costs the coder, the tables one after the other."""
        frequencies = np.concatenate(self.frequencies)
        return (FREQUENCY_BITS - np.log2(frequencies)).astype(np.float32)

    @cached_property
    def zeros(self) -> NDArray[np.int64]:
        """Where in `bits` the residual 0 of each scale index is, ``(64,)``; none of index 0 is."""
        sizes = [len(table) for table in self.frequencies]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64) + self.reach

    def cost_bits(
        self, residuals: NDArray[np.int32], index: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Return what each symbol costs the coder, its escape bytes included.

        Args:
            residuals: ``(n,)``.
            index: ``(n,)``; symbols of index 0 cost nothing.
        """
        reach = self.reach[index]
        escaped = np.flatnonzero(np.abs(residuals) > reach)
        places = self.zeros[index] + residuals
        places[escaped] = (self.zeros[index] + reach + 1)[escaped]
        bits = np.where(index > 0, self.bits[places], np.float32(0))
        # LEB128: seven bits a byte.
        rest = escape_value(residuals[escaped], reach[escaped])
        bits[escaped] += 8 * (
            1 + sum((rest >> shift > 0).astype(np.float32) for shift in (7, 14, 21))
        )
        return bits

    def least_bits(self, index: NDArray[np.uint8]) -> float:
        """Return the bits that symbols of these scale indices take if each is the likeliest."""
        likeliest = np.array([table.max(initial=1) for table in self.frequencies])
        bits = FREQUENCY_BITS - np.log2(likeliest)
        return float(bits[index].sum())

    def ideal_bits(self, residuals: NDArray[np.int32], index: NDArray[np.uint8]) -> float:
        """Return the bits that the model itself expects the symbols to cost.

        The model is a Gaussian of the index's scale, integrated over unit intervals; index 0
        costs nothing. Tables and coder do not enter, so this is what a file is compared with.
        """
        total = 0.0
        for i in range(1, SCALE_COUNT):
            values, counts = np.unique(np.abs(residuals[index == i]), return_counts=True)
            inverse = math.sqrt(0.5) / float(self.scales[i])
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                mass = math.erfc((value - 0.5) * inverse) - math.erfc((value + 0.5) * inverse)
                total -= count * math.log2(max(mass / 2, 2.0**-40))
        return total


def escape_value(residual: Any, reach: Any) -> Any:
    """Return what the bytes of an escape spell: how far beyond reach, doubled, and the sign.

    Args:
        residual: whole numbers beyond their tables' reach, or one of them.
        reach: that of each.
    """
    return 2 * (abs(residual) - reach - 1) + (residual < 0)


def load_tables(data: bytes, hyper_channels: int) -> Tables:
    """Parse and check the bytes of a `tables.npz`.

    Raises:
        ModelError: something in it breaks the rules above.
    """
    reach, flat, scales, z_scale_index = _read_arrays(data)
    kinds = (reach.dtype, flat.dtype, scales.dtype)
    if reach.shape != (SCALE_COUNT,) or scales.shape != (SCALE_COUNT,) or kinds != _KINDS:
        raise ModelError("the bundle's tables have the wrong shape or type")
    reach = reach.astype(np.int32)
    if z_scale_index.shape != (ANCHORS, hyper_channels) or z_scale_index.dtype != np.uint8:
        raise ModelError("the bundle's tables of hyper-latents have the wrong shape or type")
    if not (np.isfinite(scales).all() and (scales[1:] > 0).all()):
        raise ModelError("the bundle's tables have scales that are none")
    if reach[0] != 0 or z_scale_index.min() < 1 or z_scale_index.max() >= SCALE_COUNT:
        raise ModelError("the bundle's tables use scale indices out of range")
    sizes = np.where(np.arange(SCALE_COUNT) > 0, 2 * reach + 2, 0)
    if flat.shape != (int(sizes.sum()),):
        raise ModelError("the bundle's frequency tables have the wrong length")
    frequencies = tuple(np.split(flat, np.cumsum(sizes)[:-1]))
    for i, table in enumerate(frequencies[1:], start=1):
        if table.min() < 1 or int(table.sum(dtype=np.int64)) != FREQUENCY_SUM:
            raise ModelError(f"the frequencies of scale index {i} do not sum to 2^24")
    return Tables(reach, frequencies, scales, z_scale_index)


def _read_arrays(data: bytes) -> list[NDArray[Any]]:
    """Return the arrays of the archive, whatever they are, but no objects: nothing is unpickled.

    Raises:
        ModelError: there is no such archive, or one that would take more memory than tables can.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [_read_array(archive, f"{name}.npy") for name in _NAMES]
    except Exception as error:  # on damage zipfile and NumPy raise whatever they run into
        raise ModelError(f"the bundle's tables cannot be read: {error}") from error


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    size = archive.getinfo(name).file_size
    if size > _MEMBER_BYTES:
        raise ValueError(f"{name} has {size:,} bytes")
    with warnings.catch_warnings(action="ignore"):  # NumPy's, of headers that are odd
        return np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
