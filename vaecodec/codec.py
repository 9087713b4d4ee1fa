"""Encode and decode, step by step.

encode  image -> tiles of planes -> y -> of each segment z and residuals -> words -> file
decode  file -> words -> z and residuals -> y_hat of each segment -> tiles of planes -> image
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.alpha import average_plane, pack_plane, unpack_plane
from vaecodec.budget import Budget
from vaecodec.bundle import PATCH, PREVIEW_SCALE, Bundle, find_bundle
from vaecodec.container import Container, Header, pack, read_header, unpack
from vaecodec.denoising import (
    Denoiser,
    Restoration,
    check_colours,
    denoise_colours,
    denoise_raster,
    planes_of,
)
from vaecodec.errors import ModelMismatchError
from vaecodec.latents import LatentCoder
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import attach, from_chunks, to_chunks
from vaecodec.raster import Raster, Samples, as_raster, from_array, from_planes
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality
from vaecodec.runtime import load_onnxruntime, memory_errors, scalar_inputs
from vaecodec.segments import TILE_PIXELS, Box, latent_box, segments, tiles
from vaecodec.trace import Trace
from vaecodec.transforms import PixelTransforms, Transforms

Denoisable = TypeVar("Denoisable", Image.Image, Raster, NDArray[Any])
Analysed = tuple[Box, NDArray[np.float32]]
"""A tile, in latents, and its y ``(1, M, h, w)``."""
_TRANSFORMS = {"cpu": Transforms, "cuda": PixelTransforms}
_SAMPLE_TYPES = {8: np.uint8, 16: np.uint16}
_AVERAGED_BYTES_PER_PIXEL = 8
"""What alpha takes for a preview: 16-bit samples, a copy with whole squares, one as float32."""
_TILE_BYTES_PER_PIXEL = 144
"""What a transform's activations take at their peak, halo and a strip that joined included, by
measurement, rounded up."""


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
        load_onnxruntime(device)
        self._latents = LatentCoder(self.bundle, threads, device)
        self._transforms = _TRANSFORMS[device](self.bundle, device, threads)

    def encode(
        self,
        image: Image.Image | Samples | Raster,
        *,
        quality: float = DEFAULT_QUALITY,
        denoise: bool = False,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> bytes:
        """Compress an image to the bytes of a `.vaec` file, its metadata included.

        Args:
            image: a Pillow image, a raster, or an array ``(h, w)`` or ``(h, w, c)`` of uint8 or
                uint16, where c is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
            quality: 0 (smallest file) to 100 (best image).
            denoise: whether the file is to hold the image without its noise.
            strip: metadata to leave out: any of "exif", "icc", "xmp", "dpi".
            trace: filled with times and the estimated rate, if given.

        Raises:
            ImageError: the image is of a kind that cannot be encoded.
            LimitError: it is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can encode.
            ModelError: the bundle has no denoiser, and one was asked for.
            TypeError: `image` is none.
            ValueError: `quality` is out of range.
        """
        level = level_of_quality(quality)
        raster = self.admit(image)
        trace = trace or Trace(estimates=False)
        with memory_errors():
            frame = self.frame(raster, strip, trace)
            analysed = self.analyse(raster, level, trace, denoise=denoise)
            return self.fill(frame, level, analysed, trace)

    def decode(
        self,
        data: bytes | memoryview,
        *,
        region: Box | None = None,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> Image.Image:
        """Decompress a `.vaec` file to a Pillow image, its metadata in `image.info`.

        Args:
            data: a whole file.
            region: the rectangle to decode, in pixels; all by default. Only the segments that it
                needs are read.
            strip: metadata to leave out; see `encode`.
            trace: filled with times, if given.

        Raises:
            FormatError: the data is damaged or not a `.vaec` file.
            LimitError: the image is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can decode.
            ModelMismatchError: the file was made with another bundle.
            ImageError: it has 16 bits per sample and more than grey, which Pillow has not:
                see `decode_raster`.
            TypeError: `data` is not bytes.
            ValueError: the region is not within the image, or empty.
        """
        raster = self.decode_raster(data, region=region, strip=strip, trace=trace)
        image = raster.to_pillow()
        attach(image, raster.metadata)
        return image

    def decode_raster(
        self,
        data: bytes | memoryview,
        *,
        region: Box | None = None,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> Raster:
        """Decompress a `.vaec` file; see `decode`.

        Returns:
            What holds the samples, ``(h, w, c)`` uint8 or uint16, as `pixels`.
        """
        if not isinstance(data, bytes | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"data must be the bytes of a file, not {type(data)}")
        with memory_errors():
            return self._decode(data, region, strip, trace or Trace())

    def preview(
        self, data: bytes | memoryview, *, strip: Collection[str] = (), trace: Trace | None = None
    ) -> Raster:
        """Return about what averaging squares of 8 x 8 pixels would make of the decoded image.

        Synthesis is spared: of the transform's linear path, the means over squares are a small
        matrix product. A file holds no thumbnail, which would cost bytes in every one.

        Args:
            data: a whole file.
            strip: metadata to leave out; see `encode`.
            trace: filled with times, if given.

        Returns:
            Width and height are an eighth of the image's, rounded up.

        Raises:
            VaecodecError: as `decode`.
        """
        with memory_errors():
            container = self._open(data)
            header, trace = container.header, trace or Trace()
            grid = latent_box(header.width, header.height)
            shape = Box(0, 0, header.height, header.width).outward(PREVIEW_SCALE).shape
            out = np.empty((*shape, header.mode), _SAMPLE_TYPES[header.bit_depth])
            if header.mode.has_alpha:
                pixels = header.width * header.height
                self.limits.check_memory_bytes(pixels * _AVERAGED_BYTES_PER_PIXEL)
                with trace.stage("alpha"):
                    alpha = np.empty((header.height, header.width, 1), out.dtype)
                    _read_alpha(container, Box(0, 0, header.height, header.width), grid, alpha)
                    out[:, :, -1] = average_plane(alpha[:, :, 0], PREVIEW_SCALE)
            for number, segment in segments(grid, grid):
                payload = container.latents[number]
                y_hat = self._latents.read(payload, segment.shape, header.level, trace)
                with trace.stage("synthesis"):
                    inputs = {"y_hat": y_hat, **scalar_inputs(header.level)}
                    rows, columns = (PATCH // PREVIEW_SCALE * side for side in segment.shape)
                    expected = (np.float32, (1, 3, rows, columns))
                    (x,) = self._transforms.network("preview")(inputs, expected, finite=False)
                place = segment.scaled(PATCH // PREVIEW_SCALE).within(Box(0, 0, *shape))
                rows, columns = place.shape
                target = out[place.top : place.bottom, place.left : place.right]
                from_planes(x[0, :, :rows, :columns], target[:, :, : header.mode.colours])
            return from_array(out, from_chunks(container.ancillary).upright().without(strip))

    def denoise(
        self,
        image: Denoisable,
        *,
        strength: float = 1.0,
        refine: bool = True,
        strip: Collection[str] = (),
        trace: Trace | None = None,
    ) -> Denoisable:
        """Return an image without its noise: all that `encode` keeps stays, alpha as it is.

        Args:
            image: what `encode` takes, or colours ``(h, w, 3)`` float32 in [0, 1], which noise may
                leave.
            strength: share of what is taken for noise that is removed, 0 to 1.
            refine: whether a network at full resolution mends what the autoencoder made; without
                it, the result is what a file of the best quality is nearly opened as.
            strip: metadata to leave out; see `encode`.
            trace: filled with times, if given.

        Returns:
            The same kind as the image, its values within [0, 1]; of a Pillow image one of the modes
            that files have.

        Raises:
            ImageError: the image is of a kind that cannot be denoised, or has values that are no
                numbers.
            LimitError: it is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can denoise.
            ModelError: the bundle has no denoiser.
            TypeError: `image` is none.
            ValueError: `strength` is out of range.
        """
        how = Restoration(strength, refine)
        trace = trace or Trace()
        with memory_errors():
            if isinstance(image, np.ndarray) and image.dtype == np.float32:
                check_colours(image)
                height, width = image.shape[:2]
                self.limits.check_size(width, height)
                self._check_memory(image.nbytes, self.latent_bytes(width, height))
                return denoise_colours(self._denoiser, image, how, trace)
            raster = as_raster(image)
            raster = self.admit(raster, self.latent_bytes(raster.width, raster.height))
            clean = denoise_raster(self._denoiser, raster, how, trace).without(strip)
            if isinstance(image, Raster):
                return clean
            if isinstance(image, np.ndarray):
                return clean.read().reshape(image.shape)
            restored = clean.to_pillow()
            attach(restored, clean.metadata)
            return restored

    def admit(self, image: Image.Image | Samples | Raster, kept_bytes: int = 0) -> Raster:
        """Take an image for the steps of `encode`, which may be taken one by one.

        Args:
            image: as `encode` takes it.
            kept_bytes: memory that the caller is going to need besides, counted with the rest.

        Raises:
            VaecodecError: as `encode`.
        """
        raster = as_raster(image)
        self.limits.check_size(raster.width, raster.height)
        image_bytes = raster.width * raster.height * raster.mode * raster.bit_depth // 8
        self._check_memory(image_bytes, kept_bytes)
        return raster

    def latent_bytes(self, width: int, height: int) -> int:
        """Return what y of a whole image takes, sizes in pixels."""
        return 4 * self.bundle.latent_channels * latent_box(width, height).area

    def frame(self, raster: Raster, strip: Collection[str], trace: Trace) -> Container:
        """Return an image's file at level 0, its latents left empty: what no level changes."""
        size = (raster.width, raster.height)
        header = Header(*size, raster.mode, raster.bit_depth, 0, self.bundle.model_id)
        alpha: list[bytes] = []
        if raster.mode.has_alpha:
            grid = latent_box(*size)
            with trace.stage("alpha"):
                for _, segment in segments(grid, grid):
                    pixels = segment.scaled(PATCH).within(raster.box)
                    alpha.append(pack_plane(raster.read(pixels)[:, :, -1]))
        chunks = to_chunks(raster.metadata.without(strip))
        return Container(header, (b"",) * header.segments, tuple(alpha), chunks)

    def analyse(
        self, raster: Raster, level: int, trace: Trace, *, denoise: bool = False
    ) -> Iterator[Analysed]:
        """Yield y of an image, or of that image without noise, tile by tile, when asked for."""
        if denoise:
            yield from self._denoiser.analyse(raster.box, planes_of(raster), level, trace)
            return
        grid = latent_box(raster.width, raster.height)
        for tile in tiles(grid):
            seen = tile.grown(self.bundle.halo).within(grid)
            with trace.stage("image"):
                samples = raster.read(seen.scaled(PATCH).within(raster.box))
            y = self._transforms.analyse(samples, level, trace)
            yield tile, y[:, :, *tile.slices(seen)]

    def fill(
        self,
        frame: Container,
        level: int,
        analysed: Iterable[Analysed],
        trace: Trace,
        budget: Budget | None = None,
    ) -> bytes:
        """Return a whole file.

        Args:
            frame: what `frame` returned.
            level: 0 to `MAX_LEVEL`.
            analysed: what `analyse` yields, for this level or one near it.
            trace: gets times, and the bits that were estimated.
            budget: what the latents are to take, if rounding can do that.
        """
        header = replace(frame.header, level=level)
        hyper = self._transforms.network("hyper")
        latents: dict[int, bytes] = {}
        for index, part in _of_segments(frame, analysed):
            allowance = budget and budget.allow(index)
            latents[index] = self._latents.write(hyper, part, level, trace, allowance)
            if budget:
                budget.spend(index, latents[index])
        payloads = tuple(latents[index] for index in sorted(latents))
        with trace.stage("container"):
            return pack(replace(frame, header=header, latents=payloads), self.limits)

    def begin_bits(
        self, frame: Container, level: int, analysed: Iterable[Analysed], trace: Trace
    ) -> dict[int, tuple[float, float]]:
        """Return the bits of each segment's hyper-latents, and of its first pass; see `fill`."""
        hyper = self._transforms.network("hyper")
        return {
            index: self._latents.begin_bits(hyper, part, level, trace)
            for index, part in _of_segments(frame, analysed)
        }

    def _decode(
        self, data: bytes | memoryview, region: Box | None, strip: Collection[str], trace: Trace
    ) -> Raster:
        container = self._open(data, region)
        header = container.header
        wanted = region or Box(0, 0, header.height, header.width)
        grid = latent_box(header.width, header.height)
        self._check_memory(wanted.area * header.mode * header.bit_depth // 8)
        out = np.empty((*wanted.shape, header.mode), _SAMPLE_TYPES[header.bit_depth])
        if header.mode.has_alpha:
            with trace.stage("alpha"):
                _read_alpha(container, wanted, grid, out)
        self._read_colours(container, wanted, grid, out, trace)
        metadata = from_chunks(container.ancillary).upright().without(strip)
        return from_array(out, metadata)

    def _open(self, data: bytes | memoryview, region: Box | None = None) -> Container:
        """Read a file, or what of it a region needs, as `decode` does."""
        header = read_header(data)
        self.limits.check_size(header.width, header.height)
        numbers = None
        if region is not None:
            if region.within(Box(0, 0, header.height, header.width)) != region or not region.area:
                raise ValueError(f"the region is not within {header.width}x{header.height} pixels")
            grid = latent_box(header.width, header.height)
            needed = region.outward(PATCH).grown(self.bundle.halo)
            numbers = frozenset(number for number, _ in segments(needed, grid))
        container = unpack(data, self.limits, numbers)
        if header.model_id != self.bundle.model_id:
            raise ModelMismatchError(
                f"the file needs the model {header.model_id.hex()}, and the bundle "
                f"{self.bundle.name} is {self.bundle.model_id.hex()}"
            )
        return container

    def _read_colours(
        self, container: Container, wanted: Box, grid: Box, out: Samples, trace: Trace
    ) -> None:
        """Decode the colours of a rectangle into an array of its size, tile by tile."""
        header = container.header
        decoded: dict[int, NDArray[np.float32]] = {}
        for tile in tiles(wanted.outward(PATCH)):
            seen = tile.grown(self.bundle.halo).within(grid)
            touched = dict(segments(seen, grid))
            # Tiles come in raster order: what this one does not see, and lies above, none will.
            for number in [n for n in decoded if n < min(touched)]:
                del decoded[number]
            shape = (1, self.bundle.latent_channels, *seen.shape)
            with self._transforms.scratch.array("y_hat", shape) as y_hat:
                for number, segment in touched.items():
                    if number not in decoded:
                        payload = container.latents[number]
                        decoded[number] = self._latents.read(
                            payload, segment.shape, header.level, trace
                        )
                    shared = segment.within(seen)
                    to, of = shared.slices(seen), shared.slices(segment)
                    y_hat[:, :, *to] = decoded[number][:, :, *of]
                shared = tile.scaled(PATCH).within(wanted)
                window = shared.slices(seen.scaled(PATCH))
                colours = out[*shared.slices(wanted)][:, :, : header.mode.colours]
                self._transforms.synthesise(y_hat, header.level, window, colours, trace)

    @cached_property
    def _denoiser(self) -> Denoiser:
        return Denoiser(self.bundle, self._transforms)

    def _check_memory(self, image_bytes: int, kept_bytes: int = 0) -> None:
        """Hold what an image is going to take against the limit, by an estimate.

        Counted are the samples, a copy of them in Pillow, a tile, and what else is kept.
        """
        tile_bytes = TILE_PIXELS * _TILE_BYTES_PER_PIXEL
        self.limits.check_memory_bytes(3 * image_bytes + tile_bytes + kept_bytes)


def _of_segments(
    frame: Container, analysed: Iterable[Analysed]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each segment's number and its y, ``(1, M, h, w)``."""
    grid = latent_box(frame.header.width, frame.header.height)
    for tile, y in analysed:
        for index, segment in segments(tile, grid):
            yield index, y[:, :, *segment.slices(tile)]


def _read_alpha(container: Container, wanted: Box, grid: Box, out: Samples) -> None:
    """Inflate the alpha of a rectangle into the last channel of an array of its size."""
    header = container.header
    image = Box(0, 0, header.height, header.width)
    for number, segment in segments(wanted.outward(PATCH), grid):
        pixels = segment.scaled(PATCH).within(image)
        plane = unpack_plane(container.alpha[number], pixels.shape, header.bit_depth)
        shared = pixels.within(wanted)
        out[*shared.slices(wanted)][:, :, -1] = plane[shared.slices(pixels)]
