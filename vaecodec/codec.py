"""Encode, decode and denoise, step by step.

encode  image -> tiles of planes -> y -> of each segment z and residuals -> words -> file
decode  file -> words -> z and residuals -> y_hat of each segment -> tiles of planes -> image
denoise image -> tiles of planes -> y -> tiles of planes, seen beside the image's own -> image
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaecodec.alpha import pack_plane
from vaecodec.budget import Budget
from vaecodec.bundle import PATCH, Bundle, find_bundle
from vaecodec.container import Container, Data, Header, pack
from vaecodec.denoising import (
    DENOISER_BYTES,
    DenoiseOptions,
    Denoiser,
    check_floats,
    denoise_floats,
    denoise_raster,
    planes_of,
)
from vaecodec.latents import LatentCoder
from vaecodec.limits import DEFAULT_LIMITS, Limits
from vaecodec.metadata import attach, to_chunks
from vaecodec.raster import Raster, Samples, as_raster
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality
from vaecodec.reading import FileReader, check_memory
from vaecodec.runtime import load_onnxruntime, memory_errors
from vaecodec.salvage import Losses
from vaecodec.segments import Box, latent_box, segments, tiles
from vaecodec.trace import Trace
from vaecodec.transforms import PixelTransforms, Transforms

Denoisable = TypeVar("Denoisable", Image.Image, Raster, NDArray[Any])
Analysed = tuple[Box, NDArray[np.float32]]
"""A tile, in latents, and its y ``(1, M, h, w)``."""
_TRANSFORMS = {"cpu": Transforms, "cuda": PixelTransforms}


class Codec:
    """A loaded bundle: images to `.vaec` bytes and back, and noisy images to clean ones.

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
            ValueError: no device has that name, or `threads` is less than 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, or None for every core, not {threads}")
        self.bundle = bundle if isinstance(bundle, Bundle) else find_bundle(bundle)
        self.limits = limits
        self._device, self._threads = device, threads
        load_onnxruntime(device)
        self._latents = LatentCoder(self.bundle, threads, device)
        self._transforms = _TRANSFORMS[device](self.bundle, device, threads)
        self._reader = FileReader(self.bundle, self._latents, self._transforms)

    def __reduce__(self) -> tuple[Callable[[], Codec], tuple[()]]:
        """Have another process, as those of joblib and pools, open the same bundle by its folder.

        Networks are not copied: there they are loaded when they are first used.
        """
        settings = {"threads": self._threads, "limits": self.limits}
        return partial(type(self), self.bundle.path.absolute(), self._device, **settings), ()

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
            strip: metadata to leave out: any of "exif", "icc", "xmp", "dpi", "iptc", "text" and
                "comment", or "all".
            trace: filled with times and the estimated rate, if given.

        Raises:
            ImageError: the image is of a kind that cannot be encoded.
            LimitError: it is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can encode.
            ModelError: the bundle has no denoiser, and one was asked for.
            TypeError: `image` is none.
            ValueError: `quality` is out of range, or there is no such metadata.
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
        data: Data,
        *,
        region: Box | None = None,
        strip: Collection[str] = (),
        salvage: bool = False,
        trace: Trace | None = None,
    ) -> Image.Image:
        """Decompress a `.vaec` file to a Pillow image, its metadata in `image.info`.

        Args:
            data: a whole file.
            region: the rectangle to decode, in pixels, as `vaecodec.Box(top, left, bottom, right)`;
                all by default. Only the segments that it needs are read.
            strip: metadata to leave out; see `encode`.
            salvage: take what is whole of damaged data, or of data that ends too early: the
                segments of 1,024 x 1,024 pixels that are lost are grey, and `image.info["lost"]`
                has their rectangles. The header must be whole.
            trace: filled with times, if given.

        Raises:
            FormatError: the data is damaged or not a `.vaec` file.
            LimitError: the image is larger than the limits.
            InsufficientMemoryError: it is larger than this machine can decode.
            ModelMismatchError: the file was made with another bundle.
            ImageError: it has 16 bits per sample and more than grey, which Pillow has not:
                see `decode_raster`.
            TypeError: `data` is not bytes, or `region` no `Box`.
            ValueError: the region is not within the image, or empty.
        """
        raster = self.decode_raster(data, region=region, strip=strip, salvage=salvage, trace=trace)
        image = raster.to_pillow()
        attach(image, raster.metadata)
        if salvage:
            image.info["lost"] = raster.lost
        return image

    def decode_raster(
        self,
        data: Data,
        *,
        region: Box | None = None,
        strip: Collection[str] = (),
        salvage: bool = False,
        trace: Trace | None = None,
    ) -> Raster:
        """Decompress a `.vaec` file; see `decode`.

        Returns:
            What holds the samples, ``(h, w, c)`` uint8 or uint16, as `pixels`; where `salvage`
            lost some, their rectangles as `lost`, and sentences about all that is missing as
            `notices`, which is empty only if the data was whole.
        """
        losses = Losses() if salvage else None
        with memory_errors():
            return self._reader.decode(data, self.limits, region, strip, trace or Trace(), losses)

    def preview(
        self, data: Data, *, strip: Collection[str] = (), trace: Trace | None = None
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
            return self._reader.preview(data, self.limits, strip, trace or Trace())

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
            image: what `encode` takes, or an array ``(h, w)`` or ``(h, w, 3)`` of floats in [0, 1],
                which noise may leave.
            strength: share of what is taken for noise that is removed, 0 to 1.
            refine: whether a network at full resolution mends what the autoencoder made; without
                it, the result is nearly what a file of the best quality opens as.
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
        how = DenoiseOptions(strength, refine)
        trace = trace or Trace()
        with memory_errors():
            if isinstance(image, np.ndarray) and image.dtype.kind == "f":
                check_floats(image)
                height, width = image.shape[:2]
                self.limits.check_size(width, height)
                check_memory(self.limits, image.nbytes, self._denoising_bytes(width, height))
                return denoise_floats(self._denoiser, image, how, trace)
            raster = as_raster(image)
            raster = self.admit(raster, self._denoising_bytes(raster.width, raster.height))
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
        with memory_errors():
            raster = as_raster(image)
        self.limits.check_size(raster.width, raster.height)
        image_bytes = raster.width * raster.height * raster.mode * raster.bit_depth // 8
        check_memory(self.limits, image_bytes, kept_bytes)
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
        for tile in trace.steps(tiles(grid)):
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

    def _denoising_bytes(self, width: int, height: int) -> int:
        """Return what denoising takes besides the image and a tile of the codec's."""
        return self.latent_bytes(width, height) + DENOISER_BYTES

    @cached_property
    def _denoiser(self) -> Denoiser:
        return Denoiser(self.bundle, self._transforms)


def _of_segments(
    frame: Container, analysed: Iterable[Analysed]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each segment's number and its y, ``(1, M, h, w)``."""
    grid = latent_box(frame.header.width, frame.header.height)
    for tile, y in analysed:
        for index, segment in segments(tile, grid):
            yield index, y[:, :, *segment.slices(tile)]
