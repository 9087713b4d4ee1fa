"""Rounding that weighs what a symbol costs against the error that it saves.

A residual r is coded as the nearest integer q, or as the next one towards zero where the bits saved
are worth the error added (rate-distortion-optimised quantisation; Sullivan & Wiegand 1998). Files
stay ordinary files: which integer the encoder chose is no matter of the decoder's.

With a squared error of one step worth w bits, the cost of q is ``bits(q) + w (r - q)^2``. At high
rates the learned steps are near ``5 / sqrt(lmbda)`` grey levels, and lmbda weighs the mean squared
error of three samples a pixel: w is then ``25 / 3``. DISTORTION_WEIGHT is what measured best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecodec.tables import FREQUENCY_BITS, Tables

DISTORTION_WEIGHT = 12.0
"""Bits that the squared error of one quantiser step is worth; training rounds with the same."""


class Quantiser:
    """Rounds residuals for the tables of one bundle."""

    def __init__(self, tables: Tables) -> None:
        sizes = [len(table) for table in tables.frequencies]
        starts = np.cumsum([0, *sizes[:-1]])
        self._zero = starts + tables.reach
        self._reach = tables.reach
        frequencies = np.concatenate(tables.frequencies)
        self._bits = (FREQUENCY_BITS - np.log2(frequencies)).astype(np.float32)

    def __call__(
        self, residual: NDArray[np.float32], scale: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Return the symbols of residuals ``(n,)``, whose scale indices are 1 to 63."""
        symbol = np.rint(residual).astype(np.int32)
        magnitude = np.abs(symbol)
        # Beyond its table's reach a symbol escapes, and stays what it is.
        inside = np.flatnonzero((magnitude > 0) & (magnitude <= self._reach[scale]))
        magnitude = magnitude[inside]
        dearer = self._zero[scale[inside]] + magnitude
        saved = self._bits[dearer] - self._bits[dearer - 1]
        added = 2 * (np.abs(residual[inside]) - magnitude) + 1
        smaller = inside[saved > DISTORTION_WEIGHT * added]
        symbol[smaller] -= np.sign(symbol[smaller])
        return symbol
