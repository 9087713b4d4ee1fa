"""The exact prior: what each latent is expected to be, identical on every machine.

Latent (c, i, j) is coded in pass ``(c mod 4) xor (2 (i mod 2) + (j mod 2))``. So each pass codes,
at every place, a quarter of the channels, and sees those coded before, here and at neighbours.

The grid of latents is padded to multiples of the hyper-latent's stride. What lies outside of the
image is not coded: it is its mean.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from vaecodec.budget import Allowance
from vaecodec.bundle import HYPER_STRIDE, PASSES, Bundle
from vaecodec.entropy import RESIDUAL_MAX, SymbolReader, SymbolWriter
from vaecodec.errors import ModelError
from vaecodec.quantise import Quantiser
from vaecodec.runtime import Expected, Network, Tensor, scalar_inputs
from vaecodec.tables import SCALE_COUNT

PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column in each 2x2 square of latents, by number."""
KNOWN_ANSWER_SIDE = 64
"""Latents a side of the known-answer input: a segment of 1,024 pixels."""


class Prior:
    """Hyper-synthesis and context passes of one bundle."""

    def __init__(self, bundle: Bundle, threads: int | None = None, device: str = "cpu") -> None:
        """Load the graphs; see `Network` for the arguments and errors."""
        self._bundle = bundle
        self._features = Network(bundle.read("prior.onnx"), device, threads)
        self._passes = [
            Network(bundle.read(f"context_{index}.onnx"), device, threads)
            for index in range(PASSES)
        ]

    def features(self, z_hat: NDArray[np.float32], level: int) -> Tensor:
        """Return features ``(1, P, 4h, 4w)`` from z_hat ``(1, Nz, h, w)``."""
        sides = (HYPER_STRIDE * side for side in z_hat.shape[2:])
        expected = (np.float32, (1, None, *sides))
        (features,) = self._features({"z_hat": z_hat, **scalar_inputs(level)}, expected)
        return features

    def write(
        self,
        y: NDArray[np.float32],
        shape: tuple[int, int],
        features: Tensor,
        level: int,
        quantise: Quantiser,
        writer: SymbolWriter,
        allowance: Allowance | None = None,
        passes: int = PASSES,
    ) -> None:
        """Add the residuals of gained latents to `writer`, pass by pass.

        Args:
            y: ``(1, M, h, w)``, on the grid of the features.
            shape: rows and columns of it that the image covers.
            features: what `features` returned.
            level: 0 to 63 * 256.
            quantise: chooses the symbols of residuals.
            writer: takes the symbols.
            allowance: what the payload is to take. Only the last pass, on which no other
                depends, keeps to it, if it can.
            passes: how many of them, if not all.
        """
        y_hat = np.zeros_like(y)
        for index in range(passes):
            mean, scale = self._predict(index, features, y_hat, level, shape)
            means, scales = mean.reshape(-1), scale.reshape(-1)
            # Most latents are not coded at all, and are their means: what follows passes them over.
            coded = np.flatnonzero(scales != 0)
            scales = scales[coded]
            residual = gather(y, index).reshape(-1)[coded] - means[coded]
            left = None
            if allowance is not None and index == PASSES - 1:
                left = allowance.without(writer.payload_bits())
            symbol = quantise(residual.clip(-RESIDUAL_MAX, RESIDUAL_MAX), scales, left)
            writer.add(symbol, scales)
            means[coded] += symbol
            scatter(y_hat, index, mean)

    def read(
        self, shape: tuple[int, int], features: Tensor, level: int, reader: SymbolReader
    ) -> NDArray[np.float32]:
        """Return y_hat ``(1, M, *shape)``, its residuals taken from `reader`; see `write`."""
        y_hat = np.zeros((1, self._bundle.latent_channels, *features.shape[2:]), np.float32)
        for index in range(PASSES):
            mean, scale = self._predict(index, features, y_hat, level, shape)
            symbol = reader.take(scale.reshape(-1)).reshape(mean.shape)
            scatter(y_hat, index, mean + symbol.astype(np.float32))
        return np.ascontiguousarray(y_hat[:, :, : shape[0], : shape[1]])

    def known_answer(self) -> str:
        """Return the sha256 of all outputs on a fixed input of a whole segment's shape."""
        side, level = KNOWN_ANSWER_SIDE, 32 * 256
        shape = (1, self._bundle.hyper_channels, side // HYPER_STRIDE, side // HYPER_STRIDE)
        z_hat = (_pattern(shape) % 65 - 32).astype(np.float32)
        features = self.features(z_hat, level)
        y_hat = (_pattern((1, self._bundle.latent_channels, side, side)) % 8001 - 4000) / 8
        digest = hashlib.sha256()
        digest.update(_value_bytes(features))
        for network in self._passes:
            inputs = {"features": features, "y_hat": y_hat.astype(np.float32)}
            for output in network({**inputs, **scalar_inputs(level)}, *_of_a_pass(y_hat.shape)):
                digest.update(_value_bytes(output))
        return digest.hexdigest()

    def _predict(
        self, index: int, features: Tensor, y_hat: Tensor, level: int, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return mean and scale index of what a pass codes, ``(4, M/4, h/2, w/2)`` each."""
        inputs = {"features": features, "y_hat": y_hat, **scalar_inputs(level)}
        outputs = self._passes[index](inputs, *_of_a_pass(y_hat.shape))
        mean, scale = (output.reshape(PASSES, -1, *output.shape[2:]) for output in outputs)
        if scale.max() >= SCALE_COUNT:
            raise ModelError("a graph of the bundle gives scale indices out of range")
        for place, (row, column) in enumerate(PLACES):
            # Rows and columns of this place that the image covers: half of them, rounded up.
            scale[place, :, (shape[0] - row + 1) // 2 :] = 0
            scale[place, :, :, (shape[1] - column + 1) // 2 :] = 0
        return mean, scale


def _of_a_pass(shape: tuple[int, ...]) -> tuple[Expected, Expected]:
    """Return what a pass gives for latents of this shape: mean and scale index."""
    halved = (*shape[:2], shape[2] // 2, shape[3] // 2)
    return (np.float32, halved), (np.uint8, halved)


def gather(y: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """Return what a pass codes of latents ``(1, M, h, w)``: ``(4, M/4, h/2, w/2)``."""
    parts = [
        y[0, index ^ place :: PASSES, row::2, column::2]
        for place, (row, column) in enumerate(PLACES)
    ]
    return np.stack(parts)


def scatter(y: NDArray[np.float32], index: int, values: NDArray[np.float32]) -> None:
    """Undo `gather`: put what a pass codes where it belongs."""
    for place, (row, column) in enumerate(PLACES):
        y[0, index ^ place :: PASSES, row::2, column::2] = values[place]


def _value_bytes(values: Tensor) -> bytes:
    """Return the bytes of numbers whose zeros may have come with either sign."""
    return (values + values.dtype.type(0)).tobytes()


def _pattern(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return whole numbers below 2^16 that look random and are the same everywhere."""
    count = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (count * np.uint64(2654435761)) % np.uint64(2**32)
    return (mixed >> np.uint64(16)).astype(np.int64).reshape(shape)
