"""Noisy pixels to clean ones, through the autoencoder and without a file.

    x --denoiser--> y --gain of the top level--> decoder --> x_hat --refiner (sees x)--> restored

Tiles are smaller than those of the codec: half of the networks see half of the resolution, where
activations are large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import PATCH, Bundle
from vaecodec.container import MAX_LEVEL
from vaecodec.errors import ImageError
from vaecodec.latents import pad_latents
from vaecodec.raster import Raster, from_array, from_planes, pad_mirrored, to_planes
from vaecodec.runtime import scalar_inputs
from vaecodec.segments import SEGMENT, Box, latent_box, tiles
from vaecodec.trace import Trace
from vaecodec.transforms import Transforms

DENOISER_BYTES = 350_000_000
"""What a tile's activations take beyond those of the codec's tiles, by measurement, rounded up."""
_COLOUR_MAX = 8.0
Planes = NDArray[np.float32]
"""Colours, ``(1, 3, h, w)``, nominally in [0, 1]."""
Read = Callable[[Box], Planes]
"""Returns a rectangle of an image, mirrored at its end to multiples of `PATCH`."""


@dataclass(frozen=True, slots=True)
class DenoiseOptions:
    """How to denoise; see `Codec.denoise`.

    Raises:
        ValueError: the strength is not from 0 to 1.
    """

    strength: float = 1.0
    refine: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be 0 to 1, not {self.strength:g}")


class Denoiser:
    """What of one bundle denoises."""

    def __init__(self, bundle: Bundle, transforms: Transforms) -> None:
        """Take the networks of a bundle.

        Raises:
            ModelError: the bundle has no denoiser.
        """
        self._bundle, self._transforms = bundle, transforms
        self._halos = bundle.require_denoiser()

    def restore(
        self, whole: Box, read: Read, how: DenoiseOptions, trace: Trace
    ) -> Iterator[tuple[Box, Planes]]:
        """Yield rectangles of an image, in pixels, and what each is without noise, not clipped.

        Args:
            whole: the image, in pixels.
            read: what gives the noisy image.
            how: strength, and whether to refine.
            trace: gets times.
        """
        grid = latent_box(whole.right, whole.bottom)
        y = np.empty((1, self._bundle.latent_channels, *grid.shape), np.float32)
        restoring = trace.steps(tiles(grid, SEGMENT))  # all are known before analysis begins
        for tile, part in self.analyse(whole, read, MAX_LEVEL, trace):
            y[:, :, *tile.slices(grid)] = part
        for tile in restoring:
            seen = tile.grown(self._halos.refiner).within(grid)
            x_hat = self._decode(y, seen, grid, trace)
            with trace.stage("image"):
                x = read(seen.scaled(PATCH).within(whole))
            restored = x_hat
            if how.refine:
                with trace.stage("refinement"):
                    (restored,) = self._transforms.network("refiner")(
                        {"x": x, "x_hat": x_hat}, (np.float32, x.shape)
                    )
            if how.strength < 1:
                restored += np.float32(1 - how.strength) * (x - restored)
            pixels = tile.scaled(PATCH).within(whole)
            yield pixels, restored[:, :, *pixels.slices(seen.scaled(PATCH))]

    def analyse(
        self, whole: Box, read: Read, level: int, trace: Trace
    ) -> Iterator[tuple[Box, NDArray[np.float32]]]:
        """Yield tiles, in latents, and y of each, ``(1, M, h, w)``, of the image without noise."""
        grid = latent_box(whole.right, whole.bottom)
        for tile in trace.steps(tiles(grid, SEGMENT)):
            seen = tile.grown(self._halos.analysis).within(grid)
            with trace.stage("image"):
                x = read(seen.scaled(PATCH).within(whole))
            with trace.stage("analysis"):
                shape = (1, self._bundle.latent_channels, *seen.shape)
                (y,) = self._transforms.network("denoiser")(
                    {"x": x, **scalar_inputs(level)}, (np.float32, shape)
                )
            yield tile, y[:, :, *tile.slices(seen)]

    def _decode(self, y: NDArray[np.float32], wanted: Box, grid: Box, trace: Trace) -> Planes:
        """Return what the decoder makes of latents that were not rounded, of a rectangle."""
        seen = wanted.grown(self._bundle.halo).within(grid)
        level = scalar_inputs(MAX_LEVEL)
        with trace.stage("synthesis"):
            latents = pad_latents(y[:, :, *seen.slices(grid)])
            # The gains are in this graph alone. It tells hyper-latents, too, for little more.
            gained, _ = self._transforms.network("hyper")(
                {"y": latents, **level},
                (np.float32, latents.shape),
                (np.float32, (1, None, None, None)),
            )
            rows, columns = seen.shape
            pixels = seen.scaled(PATCH)
            (x_hat,) = self._transforms.network("decoder")(
                {"y_hat": np.ascontiguousarray(gained[:, :, :rows, :columns]), **level},
                (np.float32, (1, 3, *pixels.shape)),
            )
        return np.ascontiguousarray(x_hat[:, :, *wanted.scaled(PATCH).slices(pixels)])


def denoise_raster(denoiser: Denoiser, raster: Raster, how: DenoiseOptions, trace: Trace) -> Raster:
    """Return an image without noise, all else as it was."""
    out = np.empty((raster.height, raster.width, raster.mode), raster.dtype)
    parts = denoiser.restore(raster.box, planes_of(raster), how, trace)
    for box, planes in parts:
        with trace.stage("image"):
            samples = out[*box.slices(raster.box)]
            from_planes(planes[0], samples[:, :, : raster.mode.colours])
            if raster.mode.has_alpha:
                samples[:, :, -1] = raster.read(box)[:, :, -1]
    return from_array(out, raster.metadata)


def check_floats(image: NDArray[np.floating]) -> None:
    """Refuse what is no image of floats.

    Raises:
        ImageError: it has another shape, no pixels, or values that are far from [0, 1].
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3) or not image.size:
        raise ImageError(
            f"an array of floats of shape {image.shape} is no image: (h, w) and (h, w, 3) would "
            "be; alpha goes with uint8 and uint16"
        )
    if not (np.abs(image) <= _COLOUR_MAX).all():
        raise ImageError(
            f"the array has values beyond {_COLOUR_MAX:g}, or what is no number: floats are in "
            "[0, 1], and noise leaves that by little; 8-bit samples are divided by 255"
        )


def denoise_floats(
    denoiser: Denoiser, image: NDArray[np.floating], how: DenoiseOptions, trace: Trace
) -> NDArray[np.floating]:
    """Return an image that `check_floats` takes, without noise and within [0, 1]."""
    whole = Box(0, 0, *image.shape[:2])
    channels = image.reshape(*whole.shape, -1)
    is_grey = channels.shape[2] == 1
    colours = np.broadcast_to(channels, (*whole.shape, 3))

    def read(box: Box) -> Planes:
        return pad_mirrored(colours[*box.slices(whole)].transpose(2, 0, 1)[np.newaxis])

    out = np.empty_like(channels)
    for box, planes in denoiser.restore(whole, read, how, trace):
        restored = planes[0].transpose(1, 2, 0)
        out[*box.slices(whole)] = restored.mean(2, keepdims=True) if is_grey else restored
    return out.clip(0, 1, out=out).reshape(image.shape)


def planes_of(raster: Raster) -> Read:
    """Return what gives the colours of an image."""
    return lambda box: to_planes(raster.read(box), mirrored=True)
