"""Encode and decode, step by step.

encode  image -> planes -> y -> (gain, hyper-analysis) -> z, residuals -> words -> file
decode  file -> words -> z -> residuals + means = y_hat -> planes -> image
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.bundle import HYPER_STRIDE, PATCH, Bundle, find_bundle
from vaecodec.container import BIT_DEPTH, Container, Header, pack, unpack
from vaecodec.entropy import SymbolModels, SymbolReader, SymbolWriter
from vaecodec.errors import ModelMismatchError
from vaecodec.image import from_planes, to_array, to_planes
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import attach, from_chunks, read_metadata, to_chunks
from vaecodec.prior import Prior
from vaecodec.quantise import Quantiser
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality
from vaecodec.runtime import (
    Network,
    load_onnxruntime,
    memory_errors,
    nearest_anchor,
    scalar_inputs,
)
from vaecodec.tables import load_tables


@dataclass
class Trace:
    """What an encoding or decoding cost, for those who measure.

    Attributes:
        seconds: by stage: "image", "analysis", "prior", "entropy", "synthesis".
        estimated_bits: the model's own estimate of the latents' rate; set by `encode`.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    estimated_bits: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count a part of one stage's time under another."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds


class Codec:
    """A loaded bundle: images to `.vaec` bytes and back.

    The networks of one direction are loaded when it is first used.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle = "base",
        device: str = "cpu",
        *,
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Open a bundle.

        Args:
            bundle: an installed bundle's name, or the folder of one.
            device: "cpu" or "cuda".
            threads: threads of one operator; None uses every core.
            limits: sizes beyond which images and files are refused.

        Raises:
            ModelError: the bundle is missing or damaged.
            RuntimeUnavailableError: ONNX Runtime or the device is missing.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else find_bundle(bundle)
        self.limits = limits
        self._device, self._threads = device, threads
        load_onnxruntime(device)
        tables = load_tables(self.bundle.read("tables.npz"), self.bundle.hyper_channels)
        self._models = SymbolModels(tables)
        self._quantise = Quantiser(tables)
        # Small, and on a CPU exact for images of every shape.
        self._prior = Prior(self.bundle, threads)
        self._networks: dict[str, Network] = {}

    def encode(
        self,
        image: Image.Image,
        *,
        quality: float = DEFAULT_QUALITY,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> bytes:
        """Compress an image to the bytes of a `.vaec` file, its metadata included.

        Args:
            image: of mode RGB or L.
            quality: 0 (smallest file) to 100 (best image).
            strip: metadata to leave out: any of "exif", "icc", "xmp", "dpi".
            trace: filled with times and the estimated rate, if given.

        Raises:
            ImageError: the image is of a kind that cannot be encoded.
            LimitError: it is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can encode.
            TypeError: `image` is not a PIL image.
            ValueError: `quality` is out of range.
        """
        if not isinstance(image, Image.Image):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"image must be a PIL image, as Image.open gives, not {type(image)}")
        with memory_errors():
            return self._encode(image, quality, strip, trace)

    def decode(
        self, data: bytes, *, strip: Collection[str] = (), trace: Trace | None = None
    ) -> Image.Image:
        """Decompress the bytes of a `.vaec` file to an image, its metadata in `image.info`.

        Args:
            data: a whole file.
            strip: metadata to leave out; see `encode`.
            trace: filled with times, if given.

        Raises:
            FormatError: the data is damaged or not a `.vaec` file.
            LimitError: the image is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can decode.
            ModelMismatchError: the file was made with another bundle.
            TypeError: `data` is not bytes.
        """
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"data must be the bytes of a file, not {type(data)}")
        with memory_errors():
            return self._decode(data, strip, trace or Trace())

    def _encode(
        self, image: Image.Image, quality: float, strip: Collection[str], trace: Trace | None
    ) -> bytes:
        measured = trace is not None
        trace = trace or Trace()
        level = level_of_quality(quality)
        self.limits.check_size(*image.size)
        with trace.stage("image"):
            pixels, mode = to_array(image)
            planes = to_planes(pixels)
            metadata = read_metadata(image).upright().without(strip)
        with trace.stage("analysis"):
            scalars = scalar_inputs(level)
            (y,) = self._network("encoder")({"x": planes, **scalars})
            gained, z = self._network("hyper")({"y": _pad_latents(y), **scalars})
        shape: tuple[int, int] = y.shape[2:]
        writer = SymbolWriter(self._models)
        with trace.stage("prior"):
            writer.add(z.reshape(-1).astype(np.int32), self._z_scale_index(level, z.shape))
            features = self._prior.features(z, level)
            self._prior.write(gained, shape, features, level, self._quantise, writer)
            payload = writer.finish()
        trace.move("prior", "entropy", writer.seconds)
        trace.estimated_bits = writer.ideal_bits() if measured else 0.0
        height, width = pixels.shape[:2]
        header = Header(width, height, mode, BIT_DEPTH, level, self.bundle.model_id)
        return pack(Container(header, payload, to_chunks(metadata)), self.limits)

    def _decode(self, data: bytes, strip: Collection[str], trace: Trace) -> Image.Image:
        container = unpack(data, self.limits)
        header = container.header
        if header.model_id != self.bundle.model_id:
            raise ModelMismatchError(
                f"the file needs the model {header.model_id.hex()}, and the bundle "
                f"{self.bundle.name} is {self.bundle.model_id.hex()}"
            )
        metadata = from_chunks(container.ancillary).upright().without(strip)
        shape = (-(-header.height // PATCH), -(-header.width // PATCH))
        y_hat = self._read_latents(container.latents, header.level, shape, trace)
        with trace.stage("synthesis"):
            inputs = {"y_hat": y_hat, **scalar_inputs(header.level)}
            (planes,) = self._network("decoder")(inputs)
        with trace.stage("image"):
            image = from_planes(planes, header.width, header.height, header.mode)
            attach(image, metadata)
        return image

    def _read_latents(
        self, payload: bytes, level: int, shape: tuple[int, int], trace: Trace
    ) -> NDArray[np.float32]:
        """Return y_hat ``(1, M, h, w)``; every symbol of it is checked."""
        reader = SymbolReader(self._models, payload)
        z_shape = (1, self.bundle.hyper_channels, *(-(-side // HYPER_STRIDE) for side in shape))
        with trace.stage("prior"):
            least = self._models.tables.least_bits(self._z_row(level))
            reader.require(z_shape[2] * z_shape[3] * least)
            z = reader.take(self._z_scale_index(level, z_shape)).reshape(z_shape)
            features = self._prior.features(z.astype(np.float32), level)
            y_hat = self._prior.read(shape, features, level, reader)
            reader.close()
        trace.move("prior", "entropy", reader.seconds)
        return y_hat

    def _z_row(self, level: int) -> NDArray[np.uint8]:
        """Return the scale index of each channel of hyper-latents, ``(Nz,)``."""
        return self._models.tables.z_scale_index[nearest_anchor(level)]

    def _z_scale_index(self, level: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the scale index of every hyper-latent ``(1, Nz, h, w)``, flat."""
        return np.repeat(self._z_row(level), shape[2] * shape[3])

    def _network(self, name: str) -> Network:
        if name not in self._networks:
            model = self.bundle.read(f"{name}.onnx")
            self._networks[name] = Network(model, self._device, self._threads)
        return self._networks[name]


def _pad_latents(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat the last row and column up to multiples of the hyper-latent's stride."""
    bottom, right = (-side % HYPER_STRIDE for side in y.shape[2:])
    return np.pad(y, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge")
