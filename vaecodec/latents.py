"""Latents of a segment to its payload and back: but for the hyper-analysis all of it is exact."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vaecodec.budget import Allowance
from vaecodec.bundle import HYPER_STRIDE, Bundle
from vaecodec.entropy import RESIDUAL_MAX, SymbolModels, SymbolReader, SymbolWriter
from vaecodec.errors import FormatError, ModelError
from vaecodec.prior import Prior
from vaecodec.quantise import Quantiser
from vaecodec.runtime import Network, Tensor, nearest_anchor, scalar_inputs
from vaecodec.tables import load_tables
from vaecodec.trace import Trace


class LatentCoder:
    """The prior, tables and rounding of one bundle."""

    def __init__(self, bundle: Bundle, threads: int | None = None, device: str = "cpu") -> None:
        """Load them; see `Network` and `Bundle.read` for the arguments and errors."""
        tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
        self.models = SymbolModels(tables)
        self._quantise = Quantiser(tables)
        # Small, and on a CPU exact for images of every shape.
        self._prior = Prior(bundle, threads)
        self._bundle, self._device = bundle, device
        self._hyper_channels = bundle.hyper_channels

    def write(
        self,
        hyper: Network,
        y: NDArray[np.float32],
        level: int,
        trace: Trace,
        allowance: Allowance | None = None,
    ) -> bytes:
        """Return the payload of a segment.

        Args:
            hyper: the graph that scales y to steps of the quantiser, and finds z.
            y: ``(1, M, h, w)``.
            level: 0 to 63 * 256.
            trace: gets times, and the bits that were estimated.
            allowance: what the payload is to take, if rounding can do that.

        Raises:
            ModelError: the bundle's graphs do not give what they should.
        """
        writer = SymbolWriter(self.models)
        gained, features = self._begin(hyper, y, level, writer, trace)
        with trace.stage("prior"):
            self._prior.write(
                gained, y.shape[2:], features, level, self._quantise, writer, allowance
            )
            payload = writer.finish()
        trace.move("prior", "entropy", writer.seconds)
        if trace.estimates:
            trace.estimated_bits += writer.ideal_bits()
        return payload

    def begin_bits(
        self, hyper: Network, y: NDArray[np.float32], level: int, trace: Trace
    ) -> tuple[float, float]:
        """Return what hyper-latents and first pass of a segment cost; see `write`."""
        writer = SymbolWriter(self.models)
        gained, features = self._begin(hyper, y, level, writer, trace)
        with trace.stage("prior"):
            z_bits = writer.payload_bits()
            self._prior.write(
                gained, y.shape[2:], features, level, self._quantise, writer, passes=1
            )
            return z_bits, writer.payload_bits() - z_bits

    def _begin(
        self,
        hyper: Network,
        y: NDArray[np.float32],
        level: int,
        writer: SymbolWriter,
        trace: Trace,
    ) -> tuple[NDArray[np.float32], Tensor]:
        """Write the hyper-latents; return gained latents, and what z_hat tells of them."""
        with trace.stage("analysis"):
            inputs = {"y": pad_latents(y), **scalar_inputs(level)}
            shape = inputs["y"].shape
            sides = (side // HYPER_STRIDE for side in shape[2:])
            z_shape = (1, self._hyper_channels, *sides)
            gained, z = hyper(inputs, (np.float32, shape), (np.float32, z_shape))
        if np.abs(z).max() > RESIDUAL_MAX:
            raise ModelError("a graph of the bundle gives hyper-latents out of range")
        with trace.stage("prior"):
            writer.add(z.reshape(-1).astype(np.int32), self._z_scale_index(level, z.shape))
            return gained, self._prior.features(z, level)

    def read(
        self, payload: bytes, shape: tuple[int, int], level: int, trace: Trace
    ) -> NDArray[np.float32]:
        """Return y_hat ``(1, M, *shape)``, every symbol of it checked.

        A device other than the CPU is let try first: if its sums were not exact for this shape, the
        symbols' checksum tells, and the CPU reads the segment again. What is written has no such
        check, and is left to the CPU.

        Raises:
            FormatError: the payload is damaged, or not one of such a segment.
            ModelError: the bundle's graphs do not give what they should.
        """
        if self._device_prior is not None:
            with suppress(FormatError, ModelError):
                reader = SymbolReader(self.models, payload)
                return self._read(self._device_prior, reader, shape, level, trace)
        return self.read_symbols(SymbolReader(self.models, payload), shape, level, trace)

    def read_symbols(
        self, reader: SymbolReader, shape: tuple[int, int], level: int, trace: Trace
    ) -> NDArray[np.float32]:
        """Return what `read` does, on the CPU; the payload is the reader's."""
        return self._read(self._prior, reader, shape, level, trace)

    @cached_property
    def _device_prior(self) -> Prior | None:
        """The prior on a device other than the CPU, if it gives the known answer there."""
        if self._device == "cpu":
            return None
        prior = Prior(self._bundle, device=self._device)
        return prior if prior.known_answer() == self._bundle.known_answer else None

    def _read(
        self,
        prior: Prior,
        reader: SymbolReader,
        shape: tuple[int, int],
        level: int,
        trace: Trace,
    ) -> NDArray[np.float32]:
        z_shape = (1, self._hyper_channels, *(-(-side // HYPER_STRIDE) for side in shape))
        with trace.stage("prior"):
            least = self.models.tables.least_bits(self._z_row(level))
            reader.require(z_shape[2] * z_shape[3] * least)
            z = reader.take(self._z_scale_index(level, z_shape)).reshape(z_shape)
            features = prior.features(z.astype(np.float32), level)
            y_hat = prior.read(shape, features, level, reader)
            reader.close()
        trace.move("prior", "entropy", reader.seconds)
        return y_hat

    def _z_row(self, level: int) -> NDArray[np.uint8]:
        """Return the scale index of each channel of hyper-latents, ``(Nz,)``."""
        return self.models.tables.z_scale_index[nearest_anchor(level)]

    def _z_scale_index(self, level: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the scale index of every hyper-latent ``(1, Nz, h, w)``, flat."""
        return np.repeat(self._z_row(level), shape[2] * shape[3])


def pad_latents(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat the last row and column up to multiples of the hyper-latent's stride."""
    bottom, right = (-side % HYPER_STRIDE for side in y.shape[2:])
    return np.pad(y, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge")
