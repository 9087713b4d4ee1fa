"""What is left of a damaged file: each segment whose chunk is whole, at its place.

Chunks carry checksums, and segments are independent, so damage costs the segments that it lies in.
The header must be whole. Where the head of a chunk is damaged, too, the next whole chunk is looked
for. What lies before the first such gap is numbered from the first segment on, and what lies behind
the last one from the last segment back. Between two gaps nobody knows which segment is which, if
any is missing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vaecodec.bundle import PATCH
from vaecodec.container import (
    ALPHA,
    CHUNK_OVERHEAD_BYTES,
    HEADER_BYTES,
    LATENTS,
    Chunk,
    Container,
    Data,
    Header,
    as_view,
    read_header,
    unpack,
)
from vaecodec.errors import FormatError, LimitError, UnsupportedVersionError
from vaecodec.limits import Limits
from vaecodec.metadata import METADATA_CHUNKS
from vaecodec.raster import Raster, Samples
from vaecodec.segments import Box, latent_box, segments

_SEGMENT = re.compile(LATENTS + b"|" + ALPHA)
_SEARCH = 4
"""So many times the bytes of a file may be summed up while whole chunks are searched for: a file
made to cost time has heads everywhere."""


@dataclass
class Losses:
    """What of a file is damaged, filled in while it is read.

    Attributes:
        colours: Numbers of the segments whose latents are lost.
        alpha: Numbers of the segments whose alpha is lost.
        others: What else is, a sentence each.
        is_damaged: Whether a strict reader would refuse the file.
    """

    colours: set[int] = field(default_factory=set[int])
    alpha: set[int] = field(default_factory=set[int])
    others: list[str] = field(default_factory=list[str])
    is_damaged: bool = False

    def boxes(self, header: Header) -> tuple[Box, ...]:
        """Return the rectangles that are lost, wholly or but for their alpha, in pixels."""
        found = self.colours | self.alpha
        return tuple(box for number, box in _places(header) if number in found)

    def told(self, raster: Raster, header: Header, wanted: Box) -> Raster:
        """Return a raster of a rectangle with what it lacks said of it, and grey put there.

        Args:
            raster: What was read, an array.
            header: Of the file.
            wanted: The rectangle.
        """
        boxes: list[Box] = []
        said = list(self.others)
        if self.is_damaged and not (self.colours or self.alpha or said):
            said.append("the file is damaged, but nothing that is read of it is lost")
        for number, box in _places(header):
            shared = box.within(wanted)
            if not shared.area or number not in self.colours | self.alpha:
                continue
            boxes.append(shared)
            if number in self.colours:
                _paint(raster, shared, wanted)
                said.append(f"the pixels of {named(shared)} are lost: they are grey")
            if number in self.alpha:
                said.append(f"the alpha of {named(shared)} is lost: it is opaque there")
        return replace(raster, lost=tuple(boxes), notices=raster.notices + tuple(said))


def rectangle(box: Box) -> tuple[int, int, int, int]:
    """Return a rectangle as `--region` takes it: left, top, width and height."""
    height, width = box.shape
    return box.left, box.top, width, height


def named(box: Box) -> str:
    """Return the same as text."""
    return ",".join(map(str, rectangle(box)))


def unpack_damaged(data: Data, limits: Limits, losses: Losses) -> Container:
    """Read a file as `unpack` does, and what is damaged as empty payloads, which `losses` tells.

    Raises:
        FormatError: The header is damaged, or the file is none that this version reads.
        LimitError: A size is over its limit.
    """
    header = read_header(data)
    limits.check_file_bytes(len(data))
    limits.check_size(header.width, header.height)
    try:
        return unpack(data, limits)
    except UnsupportedVersionError:
        raise
    except (FormatError, LimitError):  # the latter of a length that damage has made up
        losses.is_damaged = True
    runs: list[dict[bytes, list[bytes | None]]] = [{LATENTS: [], ALPHA: []}]
    ancillary: list[Chunk] = []
    for index, (fourcc, payload) in enumerate(_chunks(as_view(data), limits), 1):
        limits.check_chunk_count(index)
        if fourcc in (LATENTS, ALPHA):
            runs[-1][fourcc].append(payload)
        elif payload is not None:
            ancillary.append(Chunk(fourcc, payload))
        elif fourcc in METADATA_CHUNKS:
            losses.others.append(f"its {METADATA_CHUNKS[fourcc]} is damaged: left out")
        else:
            runs.append({LATENTS: [], ALPHA: []})
    latents = _numbered([run[LATENTS] for run in runs], header.segments)
    count = header.segments if header.mode.has_alpha else 0
    alpha = _numbered([run[ALPHA] for run in runs], count)
    losses.colours |= {number for number, payload in enumerate(latents) if payload is None}
    losses.alpha |= {number for number, payload in enumerate(alpha) if payload is None}
    whole, planes = (tuple(payload or b"" for payload in found) for found in (latents, alpha))
    return Container(header, whole, planes, tuple(ancillary))


def _numbered(runs: list[list[bytes | None]], count: int) -> list[bytes | None]:
    """Return the payload of each segment, None where it is lost.

    Args:
        runs: What was found between gaps, in order; None is damaged.
        count: The number of segments.
    """
    found = sum(map(len, runs))
    if found == count:
        return [payload for run in runs for payload in run]
    first, last = runs[0][:count], runs[-1] if len(runs) > 1 else []
    if found > count:  # a rule is broken, and not by damage
        last = []
    return [*first, *[None] * (count - len(first) - len(last)), *last]


def _chunks(data: memoryview, limits: Limits) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the chunks of a file, each with its payload, or None if that is damaged.

    A gap, behind which the count goes on anywhere, has no fourcc.

    Raises:
        UnsupportedVersionError: A whole chunk is critical and unknown.
    """
    offset, left = HEADER_BYTES, _SEARCH * len(data)
    while offset < len(data):
        end = _end(data, offset, limits)
        if end is not None and _is_whole(data[offset:end]):
            chunk = Chunk(bytes(data[offset : offset + 4]), bytes(data[offset + 8 : end - 4]))
            if chunk.critical and chunk.fourcc not in (LATENTS, ALPHA):
                raise UnsupportedVersionError(f"critical chunk {chunk.name} is unknown")
            yield chunk.fourcc, chunk.payload
            offset = end
            continue
        fourcc = bytes(data[offset : offset + 4])
        known = fourcc in (LATENTS, ALPHA) or fourcc in METADATA_CHUNKS
        if known and end is not None and (end == len(data) or _end(data, end, limits)):
            yield fourcc, None
            offset = end
            continue
        yield b"", None
        offset, left = _next_whole(data, offset + 1, limits, left)


def _next_whole(data: memoryview, start: int, limits: Limits, left: int) -> tuple[int, int]:
    """Return where the next whole chunk of a segment begins, or the end, and what may be summed."""
    for found in _SEGMENT.finditer(data, start):
        place = found.start()
        end = _end(data, place, limits) or place
        left -= end - place + CHUNK_OVERHEAD_BYTES
        if left < 0:
            break
        if end > place and _is_whole(data[place:end]):
            return place, left
    return len(data), left


def _end(data: memoryview, offset: int, limits: Limits) -> int | None:
    """Return where a chunk ends by its head; None if that cannot be a head."""
    fourcc = bytes(data[offset : offset + 4])
    length = int.from_bytes(data[offset + 4 : offset + 8], "little")
    end = offset + CHUNK_OVERHEAD_BYTES + length
    fits = len(fourcc) == 4 and fourcc.isalpha() and length <= limits.max_chunk_bytes
    return end if fits and end <= len(data) else None


def _is_whole(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "little")


def _places(header: Header) -> Iterator[tuple[int, Box]]:
    """Yield the number and the pixels of each segment."""
    grid = latent_box(header.width, header.height)
    image = Box(0, 0, header.height, header.width)
    for number, segment in segments(grid, grid):
        yield number, segment.scaled(PATCH).within(image)


def _paint(raster: Raster, box: Box, origin: Box) -> None:
    """Make the colours of a rectangle grey."""
    samples: Samples = raster.read()
    samples[*box.slices(origin)][:, :, : raster.mode.colours] = 1 << (raster.bit_depth - 1)
