"""Deterministic damage: `.vaec` files bent by a seed, their checksums mostly made right again.

A checksum that does not match ends the reading at once, and hides the parser behind it. So most
files get theirs recomputed after the damage is done. The CRC of the symbols is another matter: it
cannot be made right without decoding. `forge` does the reverse, and encodes latents that no image
has: such files are valid to the last bit, and nonsense.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hostile.oracle import GOLDEN

from vaecodec.alpha import pack_plane
from vaecodec.bundle import HYPER_STRIDE, PATCH, Bundle, find_bundle
from vaecodec.container import (
    ALPHA,
    BIT_DEPTHS,
    HEADER_BYTES,
    LATENTS,
    MAX_LEVEL,
    Container,
    Header,
    Mode,
    pack,
)
from vaecodec.entropy import RESIDUAL_MAX
from vaecodec.latents import LatentCoder
from vaecodec.segments import Box, latent_box, segments
from vaecodec.trace import Trace

Rng = np.random.Generator

_COUNT_OFFSET = 22
_CHUNK_HEAD = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_TELLING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
"""Bytes at which a reader may turn one way or the other."""
_TELLING_U32 = (
    *(0, 1, 2, 63, 64, 65, 1023, 1024, 1025, 2**15, 2**16 - 1, 2**16, 2**24, 2**26),
    *(2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1),
)
_TELLING_U16 = (0, 1, 2, 127, 128, 255, 256, 2**14, MAX_LEVEL, MAX_LEVEL + 1, 2**15, 2**16 - 1)
_REPAIRED = 0.8
BOMB_BYTES = 100_000_000


@dataclass
class Piece:
    """A chunk as it stands in a file, true or not."""

    fourcc: bytes
    payload: bytes
    crc: int = 0
    length: int | None = None
    """What it says of itself; the length of the payload where it is None."""

    @property
    def head(self) -> bytes:
        length = len(self.payload) if self.length is None else self.length
        return _CHUNK_HEAD.pack(self.fourcc, length)

    def sealed(self) -> bytes:
        return _CRC.pack(zlib.crc32(self.payload, zlib.crc32(self.head)))


@dataclass
class Parts:
    """A file taken apart as far as it goes; `rest` is what follows the last whole chunk."""

    header: bytearray
    pieces: list[Piece] = field(default_factory=list)
    rest: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> Parts:
        parts = cls(bytearray(data[:HEADER_BYTES]))
        place = HEADER_BYTES
        while place + _CHUNK_HEAD.size <= len(data):
            fourcc, length = _CHUNK_HEAD.unpack_from(data, place)
            start = place + _CHUNK_HEAD.size
            end = start + length
            if end + _CRC.size > len(data):
                break
            crc = _CRC.unpack_from(data, end)[0]
            parts.pieces.append(Piece(fourcc, data[start:end], crc))
            place = end + _CRC.size
        parts.rest = data[place:]
        return parts

    def joined(self, *, count: bool = True) -> bytes:
        """Return the file, its chunks sealed; with `count`, the header says how many there are."""
        if count and len(self.header) == HEADER_BYTES:
            number = min(len(self.pieces), 2**16 - 1)
            struct.pack_into("<H", self.header, _COUNT_OFFSET, number)
        chunks = [p.head + p.payload + p.sealed() for p in self.pieces]
        return b"".join((_sealed_header(self.header), *chunks, self.rest))

    def of_kind(self, *kinds: bytes) -> list[Piece]:
        return [piece for piece in self.pieces if piece.fourcc in kinds]


def repair(data: bytes) -> bytes:
    """Return the same file with every CRC of the container right, whatever it now covers."""
    return Parts.of(data).joined(count=False)


def mutation(seed: int, index: int) -> bytes:
    """Return the file of that number in the series of that seed."""
    rng = np.random.default_rng((seed, index))
    data = forge(rng) if rng.random() < 0.1 else _pick(rng, list(goldens().values()))
    return data if rng.random() < 0.02 else mutate(rng, data)


def mutate(rng: Rng, data: bytes) -> bytes:
    """Return a file with one to three damages, and most often all CRCs right."""
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.5:
            data = _pick(rng, _ON_BYTES)(rng, data)
        else:
            parts = Parts.of(data)
            if len(parts.header) == HEADER_BYTES:
                _pick(rng, _ON_PARTS)(rng, parts)
                data = parts.joined(count=rng.random() < 0.7)
    return repair(data) if rng.random() < _REPAIRED else data


@cache
def goldens() -> dict[str, bytes]:
    """Return the golden files by name, smallest first."""
    found = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.vaec"))}
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def forge(
    rng: Rng, folder: Path = GOLDEN / "bundle", *, reach: float | None = None, longest: int = 90
) -> bytes:
    """Return a valid file of latents that no image has.

    Args:
        rng: decides everything else.
        folder: the bundle whose file it is; that of the goldens by default.
        reach: how far latents are from zero, in steps; by chance if None.
        longest: the longest side of most images; some are 3,000 by 1.
    """
    bundle, coder = _coder(folder)
    width, height = (int(side) for side in rng.integers(1, longest + 1, 2))
    if rng.random() < 0.05:
        width, height = 3000, 1
    level = int(rng.integers(0, MAX_LEVEL + 1))
    mode, depth = Mode(int(rng.integers(1, 5))), _pick(rng, BIT_DEPTHS)
    header = Header(width, height, mode, depth, level, bundle.model_id)
    reach = 10 ** rng.uniform(-1, 6.2) if reach is None else reach
    grid = latent_box(width, height)
    latents: list[bytes] = []
    alpha: list[bytes] = []
    for _, segment in segments(grid, grid):
        rows, columns = (side + -side % HYPER_STRIDE for side in segment.shape)
        y = rng.normal(0, reach, (1, bundle.latent_channels, rows, columns))
        z = rng.normal(0, min(reach, 64), (1, bundle.hyper_channels, rows // 4, columns // 4))
        gained = y.astype(np.float32)
        z = np.rint(z.clip(-RESIDUAL_MAX, RESIDUAL_MAX)).astype(np.float32)
        covered = gained[:, :, : segment.shape[0], : segment.shape[1]]

        def hyper(*_: object, gained=gained, z=z) -> list[np.ndarray]:
            return [gained, z]

        latents.append(coder.write(hyper, covered, level, Trace(estimates=False)))
        if mode.has_alpha:
            pixels = segment.scaled(PATCH).within(Box(0, 0, height, width))
            plane = rng.integers(0, 2**depth, pixels.shape)
            alpha.append(pack_plane(plane.astype(np.dtype(f"u{depth // 8}"))))
    return pack(Container(header, tuple(latents), tuple(alpha)))


@cache
def bomb(size: int = BOMB_BYTES, predictor: int = 0) -> bytes:
    """Return an ALPH payload of a few kilobytes that inflates to so many zeros."""
    stream = zlib.compressobj(9)
    block = bytes(1_000_000)
    parts = [stream.compress(block[: min(len(block), size - done)]) for done in _steps(size)]
    return bytes((predictor,)) + b"".join((*parts, stream.flush()))


def _steps(size: int) -> range:
    return range(0, size, 1_000_000)


@cache
def _coder(folder: Path) -> tuple[Bundle, LatentCoder]:
    bundle = find_bundle(folder)
    return bundle, LatentCoder(bundle, 1)


def _sealed_header(header: bytes | bytearray) -> bytes:
    if len(header) < HEADER_BYTES:
        return bytes(header)
    covered = bytes(header[: -_CRC.size])
    return covered + _CRC.pack(zlib.crc32(covered))


def _pick(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _place(rng: Rng, data: bytes | bytearray) -> int:
    return int(rng.integers(len(data))) if data else 0


def _bytes(rng: Rng, size: int) -> bytes:
    return rng.bytes(size)


# Damage to a file's bytes, of which the structure knows nothing.


def flip_bits(rng: Rng, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if out else 0):
        out[_place(rng, out)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def set_bytes(rng: Rng, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5)) if out else 0):
        out[_place(rng, out)] = _pick(rng, (*_TELLING, int(rng.integers(256))))
    return bytes(out)


def set_number(rng: Rng, data: bytes) -> bytes:
    out = bytearray(data)
    if len(out) >= 4:
        struct.pack_into("<I", out, int(rng.integers(len(out) - 3)), _number(rng))
    return bytes(out)


def truncate(rng: Rng, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def insert(rng: Rng, data: bytes) -> bytes:
    place = _place(rng, data)
    junk = _bytes(rng, int(rng.integers(1, 65)))
    return (
        data[:place] + _pick(rng, (junk, bytes(len(junk)), data[place : place + 40])) + data[place:]
    )


def delete(rng: Rng, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + data[place + int(rng.integers(1, 65)) :]


def splice(rng: Rng, data: bytes) -> bytes:
    other = _pick(rng, list(goldens().values()))
    return data[: _place(rng, data)] + other[_place(rng, other) :]


# Damage to a file's structure.


def duplicate_chunk(rng: Rng, parts: Parts) -> None:
    if parts.pieces:
        piece = _pick(rng, parts.pieces)
        times = _pick(rng, (1, 1, 1, 2, 300))
        parts.pieces[_place_in(rng, parts) : 0] = [Piece(piece.fourcc, piece.payload)] * times


def drop_chunk(rng: Rng, parts: Parts) -> None:
    if parts.pieces:
        del parts.pieces[int(rng.integers(len(parts.pieces)))]


def shuffle_chunks(rng: Rng, parts: Parts) -> None:
    order = rng.permutation(len(parts.pieces))
    parts.pieces = [parts.pieces[i] for i in order]


def swap_payloads(rng: Rng, parts: Parts) -> None:
    if parts.pieces:
        one, other = _pick(rng, parts.pieces), _pick(rng, parts.pieces)
        one.payload, other.payload = other.payload, one.payload


def transplant(rng: Rng, parts: Parts) -> None:
    """Put another file's chunk into this one."""
    donors = Parts.of(_pick(rng, list(goldens().values()))).pieces
    donor = _pick(rng, donors)
    same = parts.of_kind(donor.fourcc)
    if same and rng.random() < 0.8:
        _pick(rng, same).payload = donor.payload
    else:
        parts.pieces.insert(_place_in(rng, parts), Piece(donor.fourcc, donor.payload))


def rename_chunk(rng: Rng, parts: Parts) -> None:
    if parts.pieces:
        names = (LATENTS, ALPHA, b"latn", b"NEWS", b"news", b"exif", b"L\0TN", _bytes(rng, 4))
        _pick(rng, parts.pieces).fourcc = _pick(rng, names)


def set_size(rng: Rng, parts: Parts) -> None:
    """Change width or height, most often to one that the limits let pass."""
    near = int(rng.integers(1, 2200))
    value = near if rng.random() < 0.6 else _number(rng)
    struct.pack_into("<I", parts.header, _pick(rng, (12, 16)), value)


def set_kind(rng: Rng, parts: Parts) -> None:
    """Change mode or bit depth."""
    values = {10: (1, 2, 3, 4, 0, 5, 255), 11: (8, 16, 8, 16, 0, 1, 24, 32, 255)}
    offset = _pick(rng, (10, 11))
    parts.header[offset] = _pick(rng, values[offset])


def set_level(rng: Rng, parts: Parts) -> None:
    near = int(rng.integers(0, MAX_LEVEL + 1))
    value = near if rng.random() < 0.6 else _pick(rng, _TELLING_U16)
    struct.pack_into("<H", parts.header, 20, value)


def set_count(rng: Rng, parts: Parts) -> None:
    """Say another number of chunks, which later damage or `joined` may set right."""
    struct.pack_into("<H", parts.header, _COUNT_OFFSET, _pick(rng, _TELLING_U16))


def set_identity(rng: Rng, parts: Parts) -> None:
    """Change magic, version or model id."""
    offset = _pick(rng, (0, 5, 8, 9, 9, 24, 31))
    parts.header[offset] = _pick(rng, _TELLING)


def lie_about_length(rng: Rng, parts: Parts) -> None:
    if parts.pieces:
        piece = _pick(rng, parts.pieces)
        near = max(0, len(piece.payload) + int(rng.integers(-5, 20)))
        piece.length = near if rng.random() < 0.6 else _number(rng)


def edit_latents(rng: Rng, parts: Parts) -> None:
    """Change what a LATN payload says of itself, its words or its escapes."""
    found = parts.of_kind(LATENTS)
    if not found:
        return
    piece = _pick(rng, found)
    out = bytearray(piece.payload)
    words = max(0, len(out) - 8) // 4
    kind = int(rng.integers(8))
    if kind == 0 and len(out) >= 8:
        struct.pack_into("<I", out, 4, _pick(rng, (0, 1, words + 1, words * 2, _number(rng))))
    elif kind == 1 and len(out) >= 4:
        struct.pack_into("<I", out, 0, _number(rng))
    elif kind == 2:
        out += _pick(rng, (b"\0", b"\x80", b"\xff" * 4, b"\x80" * 5 + b"\0", _bytes(rng, 30)))
    elif kind == 3:
        del out[_place(rng, out) :]
    elif kind == 4 and words:
        out[8:] = _bytes(rng, 4 * words)
    elif kind == 5:
        out = bytearray(_pick(rng, (b"", bytes(8), bytes(12), b"\xff" * 8, bytes(4))))
    elif kind == 6:
        # Words without end and with none of them missed: what is decoded is pure chance.
        count = int(rng.integers(1, 3000))
        out = bytearray(struct.pack("<II", 0, count) + _bytes(rng, 4 * count))
    elif out:
        out[_place(rng, out)] ^= 1 << int(rng.integers(8))
    piece.payload = bytes(out)


def edit_alpha(rng: Rng, parts: Parts) -> None:
    """Change a plane of alpha, or give one to a file that has none."""
    found = parts.of_kind(ALPHA)
    if not found:
        parts.pieces.append(Piece(ALPHA, _alpha_payload(rng)))
        parts.header[10] = _pick(rng, (2, 4))
    else:
        piece = _pick(rng, found)
        payload = piece.payload or b"\0"
        options: tuple[Callable[[], bytes], ...] = (
            lambda: _alpha_payload(rng),
            lambda: bytes((_pick(rng, (0, 1, 2, 3, 4, 255)),)) + payload[1:],
            lambda: payload + _pick(rng, (b"\0", payload[1:], _bytes(rng, 9))),
            lambda: payload[: _place(rng, payload)],
            lambda: flip_bits(rng, payload),
        )
        piece.payload = _pick(rng, options)()


def add_junk(rng: Rng, parts: Parts) -> None:
    """Add metadata that is none."""
    name, payload = junk(rng)
    parts.pieces.insert(_place_in(rng, parts), Piece(name, payload))


def change_junk(rng: Rng, parts: Parts) -> None:
    """Damage metadata that is there, or add some that is right but for a few bits."""
    name, payload = _pick(rng, _sound_metadata())
    found = parts.of_kind(b"iccp", b"exif", b"xmpp", b"dpis")
    if found and rng.random() < 0.7:
        piece = _pick(rng, found)
        piece.payload = _pick(rng, _ON_BYTES[:-1])(rng, piece.payload)
    else:
        payload = _pick(rng, _ON_BYTES[:-1])(rng, payload)
        parts.pieces.insert(_place_in(rng, parts), Piece(name, payload))


def junk(rng: Rng) -> tuple[bytes, bytes]:
    """Return the name and payload of an ancillary chunk that breaks what can be broken."""
    name = _pick(rng, (b"iccp", b"exif", b"xmpp", b"dpis", b"abcd"))
    if name == b"dpis" and rng.random() < 0.8:
        return name, struct.pack("<2d", _resolution(rng), _resolution(rng))
    if name == b"exif" and rng.random() < 0.8:
        return name, _exif(rng)
    if name == b"xmpp" and rng.random() < 0.5:
        return name, b"tiff:Orientation='" + _pick(rng, (b"6'", b"99'", b"\xff", b"")) * 50
    size = _pick(rng, (0, 1, 4, 16, 17, 100, 70_000))
    return name, _pick(rng, (_bytes(rng, size), bytes(size), b"\xff" * size))


def _place_in(rng: Rng, parts: Parts) -> int:
    return int(rng.integers(len(parts.pieces) + 1))


def _number(rng: Rng) -> int:
    return _pick(rng, (*_TELLING_U32, int(rng.integers(2**32)), int(rng.integers(2**12))))


def _resolution(rng: Rng) -> float:
    values = (0.0, -0.0, -1.0, 1.0, 72.0, 65_535.0, 65_536.0, 1e308, 5e-324, 1e-9)
    return _pick(rng, (*values, float("nan"), float("inf"), -float("inf")))


def _exif(rng: Rng) -> bytes:
    """Return an EXIF block with entries of every type, counts that lie and offsets that loop."""
    order = _pick(rng, "<>")
    entries = [
        struct.pack(
            f"{order}HHII",
            _pick(rng, (0x112, 0x10E, 0x10F, 0x110, 0x131, 0x8769, 0x8825, 0x927C, 0x100, 0xA005)),
            int(rng.integers(0, 15)),
            _pick(rng, (0, 1, 2, 3, 50, 2**16, 2**31, 2**32 - 1)),
            _pick(rng, (0, 1, 4, 6, 8, 9, 26, 60, 2**31, 2**32 - 1)),
        )
        for _ in range(int(rng.integers(0, 12)))
    ]
    count = _pick(rng, (len(entries), len(entries), len(entries) + 1, 2**16 - 1))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    first = _pick(rng, (8, 8, 8, 8, 0, 4, 2**32 - 1))
    head = mark + struct.pack(f"{order}IH", first, count)
    return head + b"".join(entries) + _bytes(rng, int(rng.integers(0, 80)))


@cache
def _sound_metadata() -> tuple[tuple[bytes, bytes], ...]:
    """Return metadata as cameras write it."""
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.ImageDescription] = "a" * 100
    exif[ExifTags.Base.Orientation] = 1
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = (1, 250)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    of_rgb = [(p.fourcc, p.payload) for p in Parts.of(goldens()["rgb"]).pieces]
    kept = tuple(pair for pair in of_rgb if pair[0] != LATENTS)
    return (*kept, (b"exif", exif.tobytes().removeprefix(b"Exif\0\0")))


def _alpha_payload(rng: Rng) -> bytes:
    """Return a payload of one of the sizes at which a reader's limits are tried."""
    predictor = bytes((int(rng.integers(0, 4)),))
    plane = 50 * 67  # of most goldens
    sizes = (0, 1, plane - 1, plane, plane + 1, 2 * plane, 2 * plane + 1, 100_000)
    kind = int(rng.integers(6))
    if kind == 0:
        return bomb()
    if kind == 1:
        return predictor + _bytes(rng, int(rng.integers(0, 300)))
    if kind == 2:  # a stream that wants a dictionary
        stream = zlib.compressobj(zdict=b"vaec" * 8)
        return predictor + stream.compress(b"vaec" * 100) + stream.flush()
    if kind == 3:  # blocks that hold nothing
        return predictor + b"\x78\x01" + b"\0\0\0\xff\xff" * int(rng.integers(1, 20_000))
    if kind == 4:  # a wrong Adler-32
        return predictor + zlib.compress(bytes(_pick(rng, sizes)))[:-1] + b"\x55"
    return predictor + zlib.compress(bytes(_pick(rng, sizes)))


_ON_BYTES = (flip_bits, set_bytes, set_number, insert, delete, truncate, splice)
_ON_PARTS = (
    duplicate_chunk,
    drop_chunk,
    shuffle_chunks,
    swap_payloads,
    transplant,
    rename_chunk,
    set_size,
    set_size,
    set_kind,
    set_level,
    set_count,
    set_identity,
    lie_about_length,
    edit_latents,
    edit_latents,
    edit_latents,
    edit_alpha,
    edit_alpha,
    add_junk,
    change_junk,
)
