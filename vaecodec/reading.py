"""Files to samples, whole or in part."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vaecodec.alpha import average_plane, unpack_plane
from vaecodec.bundle import PATCH, PREVIEW_SCALE, Bundle
from vaecodec.container import Container, Data, read_header, unpack
from vaecodec.errors import FormatError, ModelMismatchError
from vaecodec.latents import LatentCoder
from vaecodec.limits import Limits
from vaecodec.metadata import from_chunks
from vaecodec.raster import SAMPLE_TYPES, Raster, Samples, from_array, from_planes
from vaecodec.runtime import scalar_inputs
from vaecodec.salvage import Losses, unpack_damaged
from vaecodec.segments import SEGMENT, TILE_PIXELS, Box, latent_box, segments, tiles
from vaecodec.trace import Trace
from vaecodec.transforms import Transforms

_AVERAGED_BYTES_PER_PIXEL = 8
"""What alpha takes for a preview: 16-bit samples, a copy with whole squares, one as float32."""
_TILE_BYTES_PER_PIXEL = 144
"""What a transform's activations take at their peak, halo and a strip that joined included, by
measurement, rounded up."""


class FileReader:
    """What of one bundle decodes."""

    def __init__(self, bundle: Bundle, latents: LatentCoder, transforms: Transforms) -> None:
        self.bundle = bundle
        self._latents, self._transforms = latents, transforms

    def decode(
        self,
        data: Data,
        limits: Limits,
        region: Box | None,
        strip: Collection[str],
        trace: Trace,
        losses: Losses | None = None,
    ) -> Raster:
        """Return an image, or a rectangle of it; see `Codec.decode`.

        With `losses`, which is filled in, damage costs the segments that it lies in and no more.
        """
        container = self._open(data, limits, region, losses)
        header = container.header
        wanted = region or Box(0, 0, header.height, header.width)
        grid = latent_box(header.width, header.height)
        image_bytes = wanted.area * header.mode * header.bit_depth // 8
        check_memory(limits, image_bytes, self._kept_bytes(wanted, grid))
        out = np.empty((*wanted.shape, header.mode), SAMPLE_TYPES[header.bit_depth])
        if header.mode.has_alpha:
            with trace.stage("alpha"):
                _read_alpha(container, wanted, grid, out, losses)
        self._read_colours(container, wanted, grid, out, trace, losses)
        metadata = from_chunks(container.ancillary).upright().without(strip)
        raster = from_array(out, metadata)
        return raster if losses is None else losses.told(raster, header, wanted)

    def preview(self, data: Data, limits: Limits, strip: Collection[str], trace: Trace) -> Raster:
        """Return a small image; see `Codec.preview`."""
        container = self._open(data, limits)
        header = container.header
        grid = latent_box(header.width, header.height)
        shape = Box(0, 0, header.height, header.width).outward(PREVIEW_SCALE).shape
        out = np.empty((*shape, header.mode), SAMPLE_TYPES[header.bit_depth])
        if header.mode.has_alpha:
            pixels = header.width * header.height
            limits.check_memory_bytes(pixels * _AVERAGED_BYTES_PER_PIXEL)
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

    def _open(
        self,
        data: Data,
        limits: Limits,
        region: Box | None = None,
        losses: Losses | None = None,
    ) -> Container:
        """Read a file, or what of it a region needs, as `decode` does."""
        header = read_header(data)
        limits.check_size(header.width, header.height)
        numbers = None
        if region is not None:
            if not isinstance(region, Box):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"the region must be a vaecodec.Box, not {type(region)}")
            if region.within(Box(0, 0, header.height, header.width)) != region or not region.area:
                raise ValueError(f"the region is not within {header.width}x{header.height} pixels")
            grid = latent_box(header.width, header.height)
            needed = region.outward(PATCH).grown(self.bundle.halo)
            numbers = frozenset(number for number, _ in segments(needed, grid))
        if losses is None:
            container = unpack(data, limits, numbers)
        else:
            container = unpack_damaged(data, limits, losses)
        if header.model_id != self.bundle.model_id:
            raise ModelMismatchError(
                f"the file needs the model {header.model_id.hex()}, and the bundle "
                f"{self.bundle.name} is {self.bundle.model_id.hex()}"
            )
        return container

    def _kept_bytes(self, wanted: Box, grid: Box) -> int:
        """Return what the latents of all segments take that a row of tiles sees."""
        halo, area = self.bundle.halo, wanted.outward(PATCH)
        rows = max(tile.grown(halo).within(grid).outward(SEGMENT).shape[0] for tile in tiles(area))
        columns = area.grown(halo).within(grid).outward(SEGMENT).shape[1]
        return 4 * self.bundle.latent_channels * SEGMENT**2 * rows * columns

    def _read_colours(
        self,
        container: Container,
        wanted: Box,
        grid: Box,
        out: Samples,
        trace: Trace,
        losses: Losses | None,
    ) -> None:
        """Decode the colours of a rectangle into an array of its size, tile by tile."""
        header = container.header
        decoded: dict[int, NDArray[np.float32]] = {}
        for tile in trace.steps(tiles(wanted.outward(PATCH))):
            seen = tile.grown(self.bundle.halo).within(grid)
            touched = dict(segments(seen, grid))
            # Tiles come in raster order: what this one does not see, and lies above, none will.
            for number in [n for n in decoded if n < min(touched)]:
                del decoded[number]
            shape = (1, self.bundle.latent_channels, *seen.shape)
            with self._transforms.scratch.array("y_hat", shape) as y_hat:
                for number, segment in touched.items():
                    if number not in decoded:
                        decoded[number] = self._latents_of(
                            container, number, segment, trace, losses
                        )
                    shared = segment.within(seen)
                    to, of = shared.slices(seen), shared.slices(segment)
                    y_hat[:, :, *to] = decoded[number][:, :, *of]
                if losses is not None:
                    _fill_lost(y_hat)
                shared = tile.scaled(PATCH).within(wanted)
                window = shared.slices(seen.scaled(PATCH))
                colours = out[*shared.slices(wanted)][:, :, : header.mode.colours]
                self._transforms.synthesise(y_hat, header.level, window, colours, trace)

    def _latents_of(
        self,
        container: Container,
        number: int,
        segment: Box,
        trace: Trace,
        losses: Losses | None,
    ) -> NDArray[np.float32]:
        """Return y_hat of a segment, NaN if it is lost."""
        payload, level = container.latents[number], container.header.level
        if losses is None:
            return self._latents.read(payload, segment.shape, level, trace)
        if number not in losses.colours:
            try:
                return self._latents.read(payload, segment.shape, level, trace)
            except FormatError:
                losses.is_damaged = True
                losses.colours.add(number)
        return np.full((1, self.bundle.latent_channels, *segment.shape), np.nan, np.float32)


def _fill_lost(y_hat: NDArray[np.float32]) -> None:
    """Repeat the nearest latents, of the row if it has some, where they are lost: NaN.

    What is lost is grey in the end; this is for its neighbours, which see a margin of it.
    """
    known = ~np.isnan(y_hat[0, 0])
    if known.all():
        return
    if not known.any():
        y_hat[...] = 0
        return
    for row in np.flatnonzero(known.any(1)):
        y_hat[:, :, row] = y_hat[:, :, row, _nearest(known[row])]
    y_hat[...] = y_hat[:, :, _nearest(known.any(1))]


def _nearest(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the index of the nearest known element to each one; some are known."""
    places = np.flatnonzero(known)
    distances = np.abs(places[:, np.newaxis] - np.arange(len(known)))
    return places[distances.argmin(axis=0)]


def check_memory(limits: Limits, image_bytes: int, kept_bytes: int = 0) -> None:
    """Hold what an image is going to take against the limit, by an estimate.

    Counted are the samples, a copy of them in Pillow, a tile, and what else is kept.

    Raises:
        LimitError: it is more.
    """
    tile_bytes = TILE_PIXELS * _TILE_BYTES_PER_PIXEL
    limits.check_memory_bytes(3 * image_bytes + tile_bytes + kept_bytes)


def _read_alpha(
    container: Container, wanted: Box, grid: Box, out: Samples, losses: Losses | None = None
) -> None:
    """Inflate the alpha of a rectangle into the last channel of an array of its size."""
    header = container.header
    image = Box(0, 0, header.height, header.width)
    for number, segment in segments(wanted.outward(PATCH), grid):
        pixels = segment.scaled(PATCH).within(image)
        shared = pixels.within(wanted)
        alpha = out[*shared.slices(wanted)][:, :, -1]
        try:
            plane = unpack_plane(container.alpha[number], pixels.shape, header.bit_depth)
            alpha[...] = plane[shared.slices(pixels)]
        except FormatError:
            if losses is None:
                raise
            losses.is_damaged = True
            losses.alpha.add(number)
            alpha[...] = np.iinfo(out.dtype).max
