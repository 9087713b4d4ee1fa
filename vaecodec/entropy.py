"""Symbols to words and back: the only user of constriction. FORMAT.md specifies the payload.

    payload  crc32 of the symbols u32 | word count u32 | words u32 ... | escape bytes

Symbols arrive in groups (z, then each pass). Within a group they are coded scale index by scale
index, in raster order within an index. An ANS coder is a stack, so the writer keeps the groups and
pushes all of them in reverse at the end. Grouping by index means one table and one call for
thousands of symbols: milliseconds for millions of latents.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any, cast

import constriction  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import ChecksumError, CorruptError, TruncatedError
from vaecodec.tables import FREQUENCY_SUM, SCALE_COUNT, Tables, escape_value

RESIDUAL_MAX = 1 << 20
"""No latent of any image is further from its mean: an encoder clips, a reader refuses."""

# The package carries no type stubs.
_stream: Any = cast("Any", constriction).stream
_PREFIX = struct.Struct("<II")
_WORD_BITS = 32

Residuals = NDArray[np.int32]
Indices = NDArray[np.uint8]


class SymbolModels:
    """One entropy model for each scale index, made when first needed and kept."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._models: list[Any] = [None] * SCALE_COUNT

    def __getitem__(self, index: int) -> Any:
        """Return the model of a scale index from 1 to 63.

        With `perfect`, constriction keeps every boundary of a table whose probabilities are
        multiples of 2^-24; `verify` in the factory probes them all.
        """
        if self._models[index] is None:
            probabilities = self.tables.frequencies[index] / np.float64(FREQUENCY_SUM)
            self._models[index] = _stream.model.Categorical(probabilities, perfect=True, lazy=False)
        return self._models[index]


class SymbolWriter:
    """Collects groups of symbols in the order of decoding, and codes them all at the end."""

    def __init__(self, models: SymbolModels) -> None:
        self._models = models
        self._groups: list[tuple[Residuals, NDArray[np.int64]]] = []
        self.seconds = 0.0
        """Time spent here so far."""

    def add(self, residuals: Residuals, index: Indices) -> None:
        """Add one group, both ``(n,)`` in raster order; symbols of index 0 are not coded.

        Magnitudes are at most `RESIDUAL_MAX`.
        """
        start = time.perf_counter()
        order, counts = _order(index)
        self._groups.append((residuals[order], counts))
        self.seconds += time.perf_counter() - start

    def ideal_bits(self) -> float:
        """Return the model's own estimate of the rate; see `Tables.ideal_bits`."""
        tables = self._models.tables
        return sum(tables.ideal_bits(residuals, index) for residuals, index in self._coded())

    def payload_bits(self) -> float:
        """Return what the payload of all groups so far would take, within some 50 bits."""
        tables = self._models.tables
        costs = (tables.cost_bits(*group).sum(dtype=np.float64) for group in self._coded())
        return 8 * _PREFIX.size + _WORD_BITS + float(sum(costs))

    def _coded(self) -> Iterator[tuple[Residuals, Indices]]:
        """Yield the coded symbols of each group, and their scale indices."""
        indices = np.arange(SCALE_COUNT, dtype=np.uint8)
        for residuals, counts in self._groups:
            yield residuals, np.repeat(indices, counts)

    def finish(self) -> bytes:
        """Return the payload of all groups."""
        start = time.perf_counter()
        crc = 0
        runs: list[tuple[int, Residuals]] = []
        escapes = bytearray()
        for residuals, counts in self._groups:
            crc = _crc32(residuals, crc)
            limits = np.repeat(self._models.tables.reach, counts)
            symbols = residuals + limits
            for place in np.flatnonzero(np.abs(residuals) > limits):
                limit = int(limits[place])
                symbols[place] = 2 * limit + 1
                _write_escape(escapes, int(residuals[place]), limit)
            runs += [(index, symbols[run]) for index, run in _runs(counts)]
        coder = _stream.stack.AnsCoder()
        for index, symbols in reversed(runs):
            coder.encode_reverse(symbols, self._models[index])
        words = np.asarray(coder.get_compressed(), dtype="<u4")
        self.seconds += time.perf_counter() - start
        return _PREFIX.pack(crc, len(words)) + words.tobytes() + bytes(escapes)


class SymbolReader:
    """Decodes groups of symbols, in the order in which they were added."""

    def __init__(self, models: SymbolModels, payload: bytes) -> None:
        """Open a payload.

        Raises:
            TruncatedError: it is shorter than it says.
        """
        if len(payload) < _PREFIX.size:
            raise TruncatedError("the latents end before their first symbol")
        word_count: int
        self._crc_stored, word_count = _PREFIX.unpack_from(payload)
        end = _PREFIX.size + _WORD_BITS // 8 * word_count
        if end > len(payload):
            raise TruncatedError("the latents end inside their words")
        words = np.frombuffer(payload, "<u4", word_count, _PREFIX.size).astype(np.uint32)
        if word_count and words[-1] == 0:
            raise CorruptError("the latents' last word is zero, which no coder writes")
        self._coder = _stream.stack.AnsCoder(words)
        self._escapes = _read_escapes(payload[end:])
        self._models = models
        self._word_count = word_count
        self._crc = 0
        self.seconds = 0.0
        """Time spent here so far."""

    def require(self, bits: float) -> None:
        """Refuse a payload whose words hold less than half of what the symbols take at least.

        An exhausted coder gives symbols without end. This is seen before anything is set aside
        for an image that a few bytes claim to hold.

        Raises:
            CorruptError: they do.
        """
        if 2 * _WORD_BITS * (self._word_count + 2) < bits:
            raise CorruptError("the latents are too short for an image of this size")

    def take(self, index: Indices) -> Residuals:
        """Decode the group whose scale indices, ``(n,)`` in raster order, are these.

        Returns:
            ``(n,)`` int32 residuals, 0 where the index is 0.

        Raises:
            CorruptError: the escape bytes do not fit the symbols.
        """
        start = time.perf_counter()
        order, counts = _order(index)
        coded = np.empty(len(order), np.int32)
        for i, run in _runs(counts):
            coded[run] = self._coder.decode(self._models[i], run.stop - run.start)
        limits = np.repeat(self._models.tables.reach, counts)
        coded -= limits
        for place in np.flatnonzero(coded > limits):
            coded[place] = self._next_escape(int(limits[place]))
        self._crc = _crc32(coded, self._crc)
        residuals = np.zeros(len(index), np.int32)
        residuals[order] = coded
        self.seconds += time.perf_counter() - start
        return residuals

    def _next_escape(self, limit: int) -> int:
        value = next(self._escapes, None)
        if value is None:
            raise CorruptError("the latents' escape bytes end too early")
        magnitude = limit + 1 + (value >> 1)
        if magnitude > RESIDUAL_MAX:
            raise CorruptError("an escaped latent is out of range")
        return -magnitude if value & 1 else magnitude

    def close(self) -> None:
        """Check that everything was consumed and that the symbols are those that were coded.

        Raises:
            CorruptError: words or escape bytes are left.
            ChecksumError: the symbols' CRC does not match.
        """
        if not self._coder.is_empty() or next(self._escapes, None) is not None:
            raise CorruptError("the latents hold more than the image needs")
        if self._crc != self._crc_stored:
            raise ChecksumError("the decoded symbols do not match their checksum")


def _crc32(residuals: Residuals, crc: int) -> int:
    return zlib.crc32(residuals.astype("<i4", copy=False).data, crc)


def _order(index: Indices) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the places of a group's coded symbols, in the order of coding, and how many of each.

    Most latents are not coded at all: to sort the others only takes a quarter of the time.
    """
    coded = np.flatnonzero(index != 0)
    index = index[coded]
    return coded[np.argsort(index, kind="stable")], np.bincount(index, minlength=SCALE_COUNT)


def _runs(counts: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Yield each coded scale index and the slice of its symbols, in ascending order."""
    start = 0
    for index in range(1, SCALE_COUNT):
        stop = start + int(counts[index])
        if stop > start:
            yield index, slice(start, stop)
        start = stop


def _write_escape(out: bytearray, value: int, limit: int) -> None:
    """Append LEB128 of `escape_value`."""
    rest: int = escape_value(value, limit)
    while rest > 0x7F:
        out.append(0x80 | (rest & 0x7F))
        rest >>= 7
    out.append(rest)


def _read_escapes(data: bytes) -> Iterator[int]:
    """Yield the LEB128 integers of `data`, of at most four bytes each."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 28:
            raise CorruptError("an escaped latent is out of range")
        if byte < 0x80:
            yield value
            value = shift = 0
    if shift:
        raise CorruptError("the latents' escape bytes end inside a number")
