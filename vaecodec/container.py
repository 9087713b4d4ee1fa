"""Bytes to chunks and back: the outer layer of a `.vaec` file. FORMAT.md is its specification.

    header  magic 8s | major u8 | minor u8 | mode u8 | bit depth u8 | width u32 | height u32 |
            level u16 | chunk count u16 | model id 8s | crc32 u32         36 bytes, little-endian
    chunk   fourcc 4s | length u32 | payload | crc32 u32                  12 bytes and the payload

What a reader raises, in the order in which it looks:

    LimitError               the file is over `max_file_bytes`
    TruncatedError           it ends inside the magic (an empty file does)
    NotVaecError             it does not begin with the magic
    UnsupportedVersionError  its major version is another: before the CRC, because another major
                             version may place the CRC elsewhere
    TruncatedError           it ends inside the header
    ChecksumError            the header's CRC is wrong
    CorruptError             a field of the header breaks its rule
    LimitError               width, height, their product or the chunk count is over its limit
    then for each chunk:
    TruncatedError           the file ends inside it
    LimitError               its length is over `max_chunk_bytes`
    ChecksumError            its CRC is wrong
    CorruptError             its fourcc is not four letters
    UnsupportedVersionError  it is critical and unknown: with its CRC right, a later writer is the
                             likelier cause than damage, and an upgrade the remedy
    and at the end:
    CorruptError             bytes follow the last chunk, or the LATN or ALPH chunks are not as many
                             as the image has segments

A segment is a square of 1,024 pixels, or what the right and lower edges leave of one. Each has a
chunk of latents, and a chunk of alpha where there is alpha, in raster order: reading some segments
means skipping the others by their lengths.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from vaecodec.errors import (
    ChecksumError,
    CorruptError,
    NotVaecError,
    TruncatedError,
    UnsupportedVersionError,
)
from vaecodec.limits import DEFAULT_LIMITS, Limits

# As PNG's: the high bit shows a 7-bit channel, CR LF a newline conversion, and Ctrl-Z stops
# `type` on Windows from printing the rest.
MAGIC = b"\x8bVAEC\r\n\x1a"
VERSION = (1, 0)
LATENTS = b"LATN"
ALPHA = b"ALPH"
BIT_DEPTHS = (8, 16)
SEGMENT_PIXELS = 1024
MODEL_ID_BYTES = 8
# The level counts 1/256 steps between 64 anchors, so the last anchor is the greatest level.
MAX_LEVEL = 63 * 256

_HEADER = struct.Struct("<8s4B2I2H8sI")
_CHUNK_HEAD = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size
CHUNK_OVERHEAD_BYTES = _CHUNK_HEAD.size + _CRC.size
Data = bytes | bytearray | memoryview
"""What holds a file."""


class Mode(IntEnum):
    """What the samples of a pixel are; the value is their number. Alpha comes last."""

    GREY = 1
    GREY_ALPHA = 2
    RGB = 3
    RGB_ALPHA = 4

    @property
    def has_alpha(self) -> bool:
        """Whether the last sample is alpha."""
        return self in (Mode.GREY_ALPHA, Mode.RGB_ALPHA)

    @property
    def colours(self) -> int:
        """Samples that are not alpha: 1 or 3."""
        return self - self.has_alpha


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. The version and the number of chunks are left to `pack`.

    Attributes:
        width: In pixels, at least 1.
        height: In pixels, at least 1.
        mode: Grey or RGB, with or without alpha.
        bit_depth: Bits per sample, 8 or 16.
        level: Quality, 0 to `MAX_LEVEL`, in 1/256 of an anchor.
        model_id: The first 8 bytes of the bundle's hash.

    Raises:
        ValueError: If a field breaks its rule.
    """

    width: int
    height: int
    mode: Mode
    bit_depth: int
    level: int
    model_id: bytes

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"an image of {self.width}x{self.height} pixels is empty")
        Mode(self.mode)  # raises ValueError on any other number
        if self.bit_depth not in BIT_DEPTHS:
            raise ValueError(f"bit depth {self.bit_depth} is not 8 or 16")
        if not 0 <= self.level <= MAX_LEVEL:
            raise ValueError(f"level {self.level} is not in 0 to {MAX_LEVEL}")
        if len(self.model_id) != MODEL_ID_BYTES:
            raise ValueError(f"model id has {len(self.model_id)} bytes, not {MODEL_ID_BYTES}")

    @property
    def segments(self) -> int:
        """How many segments the image has."""
        return -(-self.width // SEGMENT_PIXELS) * -(-self.height // SEGMENT_PIXELS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A named payload.

    Attributes:
        fourcc: Four ASCII letters; a capital first letter makes the chunk critical.
        payload: Any bytes.

    Raises:
        ValueError: If the fourcc is not four ASCII letters.
    """

    fourcc: bytes
    payload: bytes

    def __post_init__(self) -> None:
        if len(self.fourcc) != 4 or not self.fourcc.isalpha():
            raise ValueError(f"fourcc {self.fourcc!r} is not four ASCII letters")

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know this chunk must refuse the file."""
        return self.fourcc[:1].isupper()

    @property
    def name(self) -> str:
        """The fourcc as text."""
        return self.fourcc.decode("ascii")


@dataclass(frozen=True, slots=True)
class Container:
    """A whole file, taken apart.

    Attributes:
        header: What the file says of itself.
        latents: Payload of each segment's `LATN` chunk, in raster order, opaque at this layer.
        alpha: Payload of each segment's `ALPH` chunk; empty where the mode has no alpha.
        ancillary: Every other chunk, in the order of the file.

    Raises:
        ValueError: If there are not as many payloads as segments, or a chunk in `ancillary` is
            critical.
    """

    header: Header
    latents: tuple[bytes, ...]
    alpha: tuple[bytes, ...] = ()
    ancillary: tuple[Chunk, ...] = ()

    def __post_init__(self) -> None:
        count = self.header.segments
        planes = count if self.header.mode.has_alpha else 0
        for fourcc, payloads, wanted in (
            (LATENTS, self.latents, count),
            (ALPHA, self.alpha, planes),
        ):
            if len(payloads) != wanted:
                name = fourcc.decode("ascii")
                raise ValueError(f"there are {len(payloads)} {name} chunks, not {wanted}")
        for chunk in self.ancillary:
            if chunk.critical:
                raise ValueError(f"chunk {chunk.name} is critical, not ancillary")


def pack(container: Container, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Write a file.

    Args:
        container: What to write. Ancillary chunks go before the latents, so that a reader of
            metadata need not reach the end, and a segment's alpha beside its latents.
        limits: Those the reader will have: what it would refuse is not written.

    Raises:
        LimitError: If a size is over its limit.
    """
    header = container.header
    chunks = [(chunk.fourcc, chunk.payload) for chunk in container.ancillary]
    for index, latents in enumerate(container.latents):
        chunks.append((LATENTS, latents))
        chunks += [(ALPHA, alpha) for alpha in container.alpha[index : index + 1]]
    limits.check_size(header.width, header.height)
    limits.check_chunk_count(len(chunks))
    for _, payload in chunks:
        limits.check_chunk_bytes(len(payload))
    payload_bytes = sum(len(payload) for _, payload in chunks)
    limits.check_file_bytes(HEADER_BYTES + len(chunks) * CHUNK_OVERHEAD_BYTES + payload_bytes)

    parts = [_pack_header(header, len(chunks))]
    for fourcc, payload in chunks:
        head = _CHUNK_HEAD.pack(fourcc, len(payload))
        parts += (head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head))))
    return b"".join(parts)


def unpack(
    data: Data,
    limits: Limits = DEFAULT_LIMITS,
    segments: Collection[int] | None = None,
) -> Container:
    """Read a file.

    Args:
        data: The whole file.
        limits: Held against each field before memory is set aside for it.
        segments: The only segments to read, by number: the payloads of all others come out empty,
            and their bytes are not looked at. By default, every byte of the file is.

    Raises:
        FormatError: By cause, as the module's docstring lists them.
        LimitError: If a size is over its limit.
    """
    view = as_view(data)
    limits.check_file_bytes(len(view))
    header, chunk_count = _parse_header(view)
    limits.check_size(header.width, header.height)
    limits.check_chunk_count(chunk_count)

    payloads: dict[bytes, list[bytes]] = {LATENTS: [], ALPHA: []}
    ancillary: list[Chunk] = []
    offset = HEADER_BYTES
    for index in range(chunk_count):
        fourcc, length = _parse_chunk_head(view, offset, index, limits)
        end = offset + CHUNK_OVERHEAD_BYTES + length
        of_segments = payloads.get(fourcc)
        if of_segments is not None and segments is not None and len(of_segments) not in segments:
            of_segments.append(b"")
        else:
            chunk = _parse_chunk(view[offset:end], index)
            if of_segments is not None:
                of_segments.append(chunk.payload)
            elif chunk.critical:
                raise UnsupportedVersionError(
                    f"critical chunk {chunk.name} is unknown to container version "
                    f"{VERSION[0]}.{VERSION[1]}: a later version wrote this file"
                )
            else:
                ancillary.append(chunk)
        offset = end
    if offset != len(view):
        raise CorruptError(f"{len(view) - offset} bytes follow the last chunk")
    latents, alpha = (tuple(found) for found in payloads.values())
    try:
        return Container(header, latents, alpha, tuple(ancillary))
    except ValueError as error:
        raise CorruptError(f"the chunks do not fit the header: {error}") from error


def read_header(data: Data) -> Header:
    """Read the header alone, as `info` needs it; no limits apply, as nothing is allocated.

    Args:
        data: A file, or at least its first `HEADER_BYTES`.

    Raises:
        FormatError: By cause, as the module's docstring lists them, chunks left aside.
    """
    return _parse_header(as_view(data))[0]


def as_view(data: Data) -> memoryview:
    """Return the bytes of a file.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"data must be the bytes of a file, not {type(data)}")
    return memoryview(data)


def _pack_header(header: Header, chunk_count: int) -> bytes:
    """Serialise a header, its CRC included."""
    packed = _HEADER.pack(
        MAGIC,
        *VERSION,
        header.mode,
        header.bit_depth,
        header.width,
        header.height,
        header.level,
        chunk_count,
        header.model_id,
        0,
    )
    covered = packed[: -_CRC.size]
    return covered + _CRC.pack(zlib.crc32(covered))


def _parse_header(data: memoryview) -> tuple[Header, int]:
    """Parse and check a header; return it with the number of chunks that follow."""
    start = bytes(data[: len(MAGIC)])
    if start != MAGIC:
        if MAGIC.startswith(start):
            raise TruncatedError(f"the file ends after {len(data)} bytes, inside the magic")
        raise NotVaecError("this is not a .vaec file: it does not begin with the magic")
    # Nothing beyond the major version is fixed across versions, so it is looked at alone.
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION[0]:
        raise UnsupportedVersionError(
            f"container version {data[len(MAGIC)]} is not the {VERSION[0]} that this reader knows"
        )
    if len(data) < HEADER_BYTES:
        raise TruncatedError(f"the file ends after {len(data)} bytes, inside the header")
    fields = _HEADER.unpack_from(data)
    mode, bit_depth, width, height, level, chunk_count, model_id, crc = fields[3:]
    if zlib.crc32(data[: HEADER_BYTES - _CRC.size]) != crc:
        raise ChecksumError("the header's checksum does not match: the file is damaged")
    # The minor version is let pass: within a major one the header stays as it is.
    try:
        header = Header(width, height, Mode(mode), bit_depth, level, model_id)
    except ValueError as error:
        raise CorruptError(f"the header is invalid: {error}") from error
    return header, chunk_count


def _parse_chunk_head(
    data: memoryview, offset: int, index: int, limits: Limits
) -> tuple[bytes, int]:
    """Return name and length of the chunk that starts at `offset`, all of which is there."""
    if len(data) - offset < CHUNK_OVERHEAD_BYTES:
        raise TruncatedError(f"the file ends inside chunk {index}")
    fourcc, length = _CHUNK_HEAD.unpack_from(data, offset)
    limits.check_chunk_bytes(length)
    if len(data) - offset < CHUNK_OVERHEAD_BYTES + length:
        raise TruncatedError(f"the file ends inside chunk {index}")
    return fourcc, length


def _parse_chunk(data: memoryview, index: int) -> Chunk:
    """Return the chunk that these bytes are, its CRC checked."""
    covered = data[: -_CRC.size]
    if zlib.crc32(covered) != _CRC.unpack_from(data, len(covered))[0]:
        raise ChecksumError(f"the checksum of chunk {index} does not match: the file is damaged")
    try:
        return Chunk(bytes(data[:4]), bytes(covered[_CHUNK_HEAD.size :]))
    except ValueError as error:
        raise CorruptError(f"chunk {index} is invalid: {error}") from error
