"""Where the bits of a file went: what the symbols of each place cost the entropy coder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaecodec.bundle import HYPER_STRIDE, PASSES, Bundle
from vaecodec.container import unpack
from vaecodec.entropy import Indices, Residuals, SymbolModels, SymbolReader
from vaecodec.latents import LatentCoder
from vaecodec.prior import scatter
from vaecodec.segments import latent_box, segments
from vaecodec.trace import Trace


class BitCounter:
    """Decodes the symbols of files once more, and adds up what they cost."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the prior and tables; see `Network` and `Bundle.read` for the errors."""
        self._bundle = bundle
        self._coder = LatentCoder(bundle)

    def of_file(self, data: bytes) -> NDArray[np.float64]:
        """Return the bits of each place on the grid of latents, ``(h / 16, w / 16)``, rounded up.

        The bits of a hyper-latent are spread evenly over the places that it stands for. Header,
        chunks, checksums, alpha and metadata belong to no place.

        Raises:
            FormatError: If the file is damaged.
        """
        container = unpack(data)
        header = container.header
        grid = latent_box(header.width, header.height)
        bits = np.empty(grid.shape)
        for number, segment in segments(grid, grid):
            rows, columns = segment.slices(grid)
            payload = container.latents[number]
            bits[rows, columns] = self._of_segment(payload, segment.shape, header.level)
        return bits

    def _of_segment(
        self, payload: bytes, shape: tuple[int, int], level: int
    ) -> NDArray[np.float64]:
        reader = _CountingReader(self._coder.models, payload)
        self._coder.read_symbols(reader, shape, level, Trace())
        of_z, *of_passes = reader.costs
        rows, columns = (-(-side // HYPER_STRIDE) for side in shape)
        padded = (HYPER_STRIDE * rows, HYPER_STRIDE * columns)
        bits = np.zeros((1, self._bundle.latent_channels, *padded), np.float32)
        for index, costs in enumerate(of_passes):
            halves = (padded[0] // 2, padded[1] // 2)
            scatter(bits, index, costs.reshape(PASSES, -1, *halves))
        total = bits.sum(axis=(0, 1), dtype=np.float64)[: shape[0], : shape[1]]
        return total + _spread(of_z.reshape(-1, rows, columns).sum(axis=0), shape)


class _CountingReader(SymbolReader):
    """Remembers what every symbol of every group cost."""

    def __init__(self, models: SymbolModels, payload: bytes) -> None:
        super().__init__(models, payload)
        self._tables = models.tables
        self.costs: list[NDArray[np.float32]] = []

    def take(self, index: Indices) -> Residuals:
        """Decode a group, and keep the cost of each symbol, in raster order."""
        residuals = super().take(index)
        self.costs.append(self._tables.cost_bits(residuals, index))
        return residuals


def _spread(bits: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Spread what squares of places cost evenly over those of them that the image covers."""
    spread = [np.arange(side) // HYPER_STRIDE for side in shape]
    counts = np.outer(*(np.bincount(places) for places in spread))
    return (bits / counts)[np.ix_(*spread)]
