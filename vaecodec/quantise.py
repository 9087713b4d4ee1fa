"""Rounding that weighs what a symbol costs against the error that it saves.

A residual r is coded as the nearest integer q, or as the next one towards zero where the bits saved
are worth the error added (rate-distortion-optimised quantisation; Sullivan & Wiegand 1998). Files
stay ordinary files: which integer the encoder chose is no matter of the decoder's.

With a squared error of one step worth w bits, the cost of q is ``bits(q) + w (r - q)^2``. At high
rates the learned steps are near ``5 / sqrt(lmbda)`` grey levels, and lmbda weighs the mean squared
error of three samples a pixel: w is then ``25 / 3``. DISTORTION_WEIGHT is what measured best.

Another weight makes a file somewhat smaller or larger, which leads it to a size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecodec.budget import Allowance
from vaecodec.tables import Tables

DISTORTION_WEIGHT = 12.0
"""Bits that the squared error of one quantiser step is worth; training rounds with the same."""
_LEAST_WEIGHT = 5.0
_MOST_CHANGE = 0.09
"""What a size may make of it, and of the bits. Where only a quarter of the latents is rounded so,
it is 2% of a file, and at such an end a file of Kodak is larger by 0.5% (quality 40) to 1% (quality
75) than that of another level with the same fidelity."""


class Quantiser:
    """Rounds residuals for the tables of one bundle."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __call__(
        self,
        residual: NDArray[np.float32],
        scale: NDArray[np.uint8],
        allowance: Allowance | None = None,
    ) -> NDArray[np.int32]:
        """Return the symbols of residuals ``(n,)``, whose scale indices are 1 to 63.

        Where an allowance is given, they keep to it, unless that takes too odd a rounding.
        """
        symbol = np.rint(residual).astype(np.int32)
        magnitude = np.abs(symbol)
        # Beyond its table's reach a symbol escapes, and stays what it is.
        inside = np.flatnonzero((magnitude > 0) & (magnitude <= self._tables.reach[scale]))
        magnitude = magnitude[inside]
        dearer = self._tables.zeros[scale[inside]] + magnitude
        saved = self._tables.bits[dearer] - self._tables.bits[dearer - 1]
        added = 2 * (np.abs(residual[inside]) - magnitude) + 1
        weight = DISTORTION_WEIGHT
        if allowance is not None:
            nearest_bits = _sum(self._tables.cost_bits(symbol, scale))
            weight = _weight(nearest_bits, saved, added, allowance)
        smaller = inside[saved > weight * added]
        symbol[smaller] -= np.sign(symbol[smaller])
        return symbol


def _weight(
    nearest_bits: float,
    saved: NDArray[np.float32],
    added: NDArray[np.float32],
    allowance: Allowance,
) -> float:
    """Return the weight nearest to the usual one with which the symbols keep to an allowance.

    Args:
        nearest_bits: what they take if each is the nearest integer.
        saved: bits that each symbol could save, ``(n,)``.
        added: squared error that this would add.
        allowance: what they are to take.

    Returns:
        The usual one, if none within bounds does.
    """
    usual_bits = nearest_bits - _sum(saved[saved > DISTORTION_WEIGHT * added])
    least = max(allowance.least, usual_bits * (1 - _MOST_CHANGE))
    most = min(allowance.most, usual_bits * (1 + _MOST_CHANGE))
    if least <= usual_bits <= most:
        return DISTORTION_WEIGHT
    able = np.flatnonzero(saved > _LEAST_WEIGHT * added)
    with np.errstate(divide="ignore"):  # a tie adds no error
        weights = saved[able] / added[able]
    order = np.argsort(-weights)
    # With the weight of one, those before it save their bits.
    bits = nearest_bits - np.cumsum(saved[able[order]], dtype=np.float64) + saved[able[order]]
    fitting = np.flatnonzero((bits >= least) & (bits <= most))
    if not fitting.size:
        return DISTORTION_WEIGHT
    return float(weights[order][fitting[np.abs(bits[fitting] - usual_bits).argmin()]])


def _sum(bits: NDArray[np.float32]) -> float:
    return float(bits.sum(dtype=np.float64))
