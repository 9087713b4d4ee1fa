"""The transforms of a bundle on a device: samples to y, and y_hat to samples."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import PATCH, Bundle
from vaecodec.container import Mode
from vaecodec.errors import RuntimeUnavailableError
from vaecodec.raster import Samples, from_planes, padded_shape, to_planes
from vaecodec.runtime import Network, scalar_inputs
from vaecodec.scratch import Scratch
from vaecodec.trace import Trace

Window = tuple[slice, slice]
"""Rows and columns of an array of pixels."""
_Kind = type[np.uint8] | type[np.uint16]
"""Of pixels."""


class Transforms:
    """Float networks of one bundle, each loaded when it is first needed."""

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        """Set up; see `Network` for the arguments."""
        self.bundle = bundle
        self._device, self._threads = device, threads
        self._networks: dict[tuple[str, _Kind | None], Network] = {}
        self._loading = threading.Lock()
        self.scratch = Scratch()

    def network(self, name: str, kind: _Kind | None = None) -> Network:
        """Return the network of a graph of the bundle.

        Args:
            name: of the graph.
            kind: of the pixels that it takes or gives, where it was rewritten for them.

        Raises:
            RuntimeUnavailableError: what the device needs is not installed.
            ModelError: the graph is missing, damaged or not valid.
        """
        with self._loading:
            if (name, kind) not in self._networks:
                model = self.bundle.read(f"{name}.onnx")
                if kind is not None:
                    model = _of_pixels(name, model, kind)
                self._networks[name, kind] = Network(model, self._device, self._threads)
            return self._networks[name, kind]

    def analyse(self, samples: Samples, level: int, trace: Trace) -> NDArray[np.float32]:
        """Return y, ``(1, M, h, w)``, of samples as `Raster.read` gives them."""
        with self.scratch.array("planes", padded_shape(*samples.shape[:2])) as planes:
            with trace.stage("image"):
                to_planes(samples, planes)
            with trace.stage("analysis"):
                (y,) = self.network("encoder")(
                    {"x": planes, **scalar_inputs(level)}, self._of_y(*planes.shape[2:])
                )
        return y

    def synthesise(
        self, y_hat: NDArray[np.float32], level: int, window: Window, out: Samples, trace: Trace
    ) -> None:
        """Write what y_hat, ``(1, M, h, w)``, decodes to.

        Args:
            y_hat: latents.
            level: 0 to 63 * 256.
            window: of the ``(16h, 16w)`` pixels, those that are wanted.
            out: where to: ``(*window, 1 or 3)`` uint8 or uint16; grey is the mean of the colours.
            trace: gets times.
        """
        rows, columns = (PATCH * side for side in y_hat.shape[2:])
        with self.scratch.array("planes", (1, 3, rows, columns)) as x_hat:
            with trace.stage("synthesis"):
                # Latents that no image has may lead anywhere, which is no fault of the graph.
                (decoded,) = self.network("decoder")(
                    {"y_hat": y_hat, **scalar_inputs(level)},
                    (np.float32, x_hat.shape),
                    finite=False,
                    out=x_hat,
                )
            with trace.stage("image"):
                from_planes(decoded[0][:, *window], out)

    def _of_y(self, height: int, width: int) -> tuple[type[np.float32], tuple[int, ...]]:
        return np.float32, (1, self.bundle.latent_channels, height // PATCH, width // PATCH)


class PixelTransforms(Transforms):
    """The same, as a GPU runs them best; see `vaecodec.gpu`."""

    def analyse(self, samples: Samples, level: int, trace: Trace) -> NDArray[np.float32]:
        """Return what `Transforms.analyse` does, within the error of float16 where that is used."""
        with trace.stage("image"):
            pixels = _to_pixels(samples)
        with trace.stage("analysis"):
            (y,) = self.network("encoder", pixels.dtype.type)(
                {"pixels": pixels, **scalar_inputs(level)}, self._of_y(*pixels.shape[:2])
            )
        return y

    def synthesise(
        self, y_hat: NDArray[np.float32], level: int, window: Window, out: Samples, trace: Trace
    ) -> None:
        """Write what `Transforms.synthesise` does, within the error of float16."""
        with trace.stage("synthesis"):
            rows, columns = (PATCH * side for side in y_hat.shape[2:])
            kind = out.dtype.type
            (pixels,) = self.network("decoder", kind)(
                {"y_hat": y_hat, **scalar_inputs(level)}, (kind, (rows, columns, 3))
            )
        with trace.stage("image"):
            wanted = pixels[window]
            if out.shape[2] == 1:
                wanted = np.rint(wanted.mean(axis=2, keepdims=True))
            out[...] = wanted


def _of_pixels(name: str, model: bytes, kind: _Kind) -> bytes:
    """Return a transform's graph, rewritten for pixels."""
    try:
        from vaecodec import gpu
    except ImportError as error:
        raise RuntimeUnavailableError(
            "the package onnx is not installed, which prepares graphs for a GPU",
            "pip install 'vaecodec[cuda]'",
        ) from error
    rewrite = {"encoder": gpu.encoder_of_pixels, "decoder": gpu.decoder_of_pixels}[name]
    return rewrite(model, kind)


def _to_pixels(samples: Samples) -> Samples:
    """Return samples as pixels ``(h, w, 3)``, padded as `to_planes` does, hidden ones filled."""
    height, width, channels = samples.shape
    if Mode(channels).has_alpha:
        planes = to_planes(samples)[0]
        pixels = np.empty((*planes.shape[1:], 3), samples.dtype)
        from_planes(planes, pixels)
        return pixels
    edges = ((0, -height % PATCH), (0, -width % PATCH), (0, 0))
    padded = np.pad(samples, edges, mode="edge")
    return np.ascontiguousarray(np.broadcast_to(padded, (*padded.shape[:2], 3)))
