"""The exact prior: what each latent is expected to be, identical on every machine.

Latent (c, i, j) is coded in pass ``(c mod 4) xor (2 (i mod 2) + (j mod 2))``. So each pass codes,
at every place, a quarter of the channels, and sees those coded before, here and at neighbours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import HYPER_STRIDE, PASSES, Bundle
from vaecodec.entropy import RESIDUAL_MAX, SymbolReader, SymbolWriter
from vaecodec.runtime import Network, Tensor, scalar_inputs

KNOWN_ANSWER_SIDE = 64
"""Latents a side of the known-answer input: a segment of 1,024 pixels."""


@dataclass(frozen=True)
class Prediction:
    """Mean and scale index of the latents of one pass, each ``(n,)`` in raster order."""

    places: NDArray[np.intp]
    """Indices into the flattened ``(M, h, w)`` latents."""
    mean: NDArray[np.float32]
    scale: NDArray[np.uint8]


class Prior:
    """Hyper-synthesis and context passes of one bundle."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Load the graphs, on the CPU; see `Network` for the errors."""
        self._bundle = bundle
        self._features = Network(bundle.read("prior.onnx"), threads=threads)
        self._passes = [
            Network(bundle.read(f"context_{index}.onnx"), threads=threads)
            for index in range(PASSES)
        ]

    def features(self, z_hat: NDArray[np.float32], level: int, shape: tuple[int, int]) -> Tensor:
        """Return features ``(1, P, h, w)`` for latents of this shape, from z_hat."""
        height, width = shape
        (features,) = self._features({"z_hat": z_hat, **scalar_inputs(level)})
        return np.ascontiguousarray(features[:, :, :height, :width])

    def write(
        self, y: NDArray[np.float32], features: Tensor, level: int, writer: SymbolWriter
    ) -> None:
        """Add the residuals of gained latents ``(1, M, h, w)`` to `writer`, pass by pass."""
        y_hat = np.zeros_like(y)
        flat, flat_hat = y.reshape(-1), y_hat.reshape(-1)
        for index in range(PASSES):
            expected = self._predict(index, features, y_hat, level)
            residual = np.rint(flat[expected.places] - expected.mean)
            residual[expected.scale == 0] = 0
            residual = residual.clip(-RESIDUAL_MAX, RESIDUAL_MAX)
            flat_hat[expected.places] = expected.mean + residual
            writer.add(residual.astype(np.int32), expected.scale)

    def read(
        self, shape: tuple[int, int], features: Tensor, level: int, reader: SymbolReader
    ) -> NDArray[np.float32]:
        """Return y_hat ``(1, M, h, w)``, its residuals taken from `reader`."""
        y_hat = np.zeros((1, self._bundle.latent_channels, *shape), np.float32)
        flat_hat = y_hat.reshape(-1)
        for index in range(PASSES):
            expected = self._predict(index, features, y_hat, level)
            flat_hat[expected.places] = expected.mean + reader.take(expected.scale)
        return y_hat

    def known_answer(self) -> str:
        """Return the sha256 of all outputs on a fixed input of a whole segment's shape."""
        side, level = KNOWN_ANSWER_SIDE, 32 * 256
        shape = (1, self._bundle.hyper_channels, side // HYPER_STRIDE, side // HYPER_STRIDE)
        z_hat = (_pattern(shape) % 65 - 32).astype(np.float32)
        features = self.features(z_hat, level, (side, side))
        y_hat = (_pattern((1, self._bundle.latent_channels, side, side)) % 8001 - 4000) / 8
        digest = hashlib.sha256()
        digest.update(_value_bytes(features))
        for network in self._passes:
            inputs = {"features": features, "y_hat": y_hat.astype(np.float32)}
            for output in network({**inputs, **scalar_inputs(level)}):
                digest.update(_value_bytes(output))
        return digest.hexdigest()

    def _predict(self, index: int, features: Tensor, y_hat: Tensor, level: int) -> Prediction:
        inputs = {"features": features, "y_hat": y_hat, **scalar_inputs(level)}
        mean, scale = self._passes[index](inputs)
        places = pass_places(index, y_hat.shape[1:])
        return Prediction(places, mean.reshape(-1)[places], scale.reshape(-1)[places])


def pass_places(index: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the flat indices, ascending, of the latents ``(M, h, w)`` that a pass codes."""
    channels, height, width = shape
    rows, columns = np.arange(height) % 2, np.arange(width) % 2
    parity = (2 * rows[:, None] + columns).astype(np.uint8)
    group = (np.arange(channels) % PASSES).astype(np.uint8)
    return np.flatnonzero((group[:, None, None] ^ parity) == index)


def _value_bytes(values: Tensor) -> bytes:
    """Return the bytes of numbers whose zeros may have come with either sign."""
    return (values + values.dtype.type(0)).tobytes()


def _pattern(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return whole numbers below 2^16 that look random and are the same everywhere."""
    count = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (count * np.uint64(2654435761)) % np.uint64(2**32)
    return (mixed >> np.uint64(16)).astype(np.int64).reshape(shape)
