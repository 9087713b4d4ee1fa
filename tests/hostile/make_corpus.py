"""Write the corpus of damaged files: `python tests/hostile/make_corpus.py`.

One archive holds them all, as they are mostly copies of one another: `index.json` says what each
must come to, "image" or the name of an error. What is made by hand says so here, and nothing is
written where the codec disagrees; of mutations at random the codec's own word is kept, so that
later versions keep to it.

    truncated/   golden files cut short
    bitflip/     one bit of a golden file changed, no checksum repaired
    hostile/     made by hand, or mutated at random, most checksums right
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.mutate import Parts, Piece, bomb, forge, goldens, mutation, repair
from hostile.oracle import GOLDEN, verdict

from vaecodec.bundle import find_bundle
from vaecodec.container import ALPHA, CHUNK_OVERHEAD_BYTES, HEADER_BYTES, LATENTS
from vaecodec.entropy import SymbolModels, SymbolWriter
from vaecodec.tables import load_tables

ARCHIVE = Path(__file__).parent / "corpus" / "damaged.tar.xz"
INDEX = "index.json"
RANDOM_SEED = 20_260_101
RANDOM_FILES, RANDOM_OF_A_KIND, RANDOM_BYTES = 260, 70, 3000

SMALL = ("one-pixel", "grey", "escapes", "rgb-alpha", "grey-alpha")
IMAGE, ANY_ERROR = "image", ""
CHECKSUM, CORRUPT, LIMIT, MISMATCH = (
    "ChecksumError",
    "CorruptError",
    "LimitError",
    "ModelMismatchError",
)
NOT_VAEC, TRUNCATED, UNSUPPORTED = "NotVaecError", "TruncatedError", "UnsupportedVersionError"


@dataclass(frozen=True)
class Entry:
    """A damaged file and what decoding it comes to."""

    data: bytes
    expected: str


def read_corpus() -> dict[str, Entry]:
    """Return the stored files by name."""
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        members = {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    index: dict[str, str] = json.loads(members.pop(INDEX))
    if set(index) != set(members):
        raise ValueError("the index of the corpus names other files than there are")
    return {name: Entry(members[name], expected) for name, expected in index.items()}


def write_corpus(entries: dict[str, Entry]) -> None:
    """Write them, the same bytes each time."""
    index = {name: entry.expected for name, entry in entries.items()}
    stored = {INDEX: json.dumps(index, indent=0).encode()}
    stored |= {name: entry.data for name, entry in entries.items()}
    ARCHIVE.parent.mkdir(exist_ok=True)
    with tarfile.open(
        ARCHIVE, "w:xz", format=tarfile.USTAR_FORMAT, preset=9 | lzma.PRESET_EXTREME
    ) as archive:
        for name, data in stored.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def truncated() -> Iterator[tuple[str, bytes, str]]:
    """Cut at and around every boundary, and at some other places."""
    rng = np.random.default_rng(1)
    for name, data in goldens().items():
        edges = {0, 8, 9, 12, 20, 32, HEADER_BYTES}
        place = HEADER_BYTES
        for piece in Parts.of(data).pieces:
            edges |= {place, place + 4, place + 8, place + 8 + len(piece.payload)}
            place += CHUNK_OVERHEAD_BYTES + len(piece.payload)
        near = {edge + step for edge in edges for step in (-1, 0, 1)} if name in SMALL else set()
        some = set(rng.integers(HEADER_BYTES, len(data), 6).tolist()) | {len(data) - 1}
        whole = edges if name == "one-pixel" else {edge for edge in edges if edge > HEADER_BYTES}
        for size in sorted(size for size in near | some | whole if 0 <= size < len(data)):
            yield f"{name}-{size:04}", data[:size], TRUNCATED


def bitflips() -> Iterator[tuple[str, bytes, str]]:
    """Flip single bits: of each field of a header, and anywhere."""
    rng = np.random.default_rng(2)
    for name in SMALL:
        data = goldens()[name]
        bits = set(rng.integers(0, 8 * len(data), 25).tolist())
        if name == "one-pixel":
            bits |= set(range(0, 8 * len(data), 9))
        for bit in sorted(bits):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"{name}-{bit:05}", bytes(flipped), ANY_ERROR


def by_hand() -> Iterator[tuple[str, bytes, str]]:
    """Break one rule at a time, the checksums right."""
    for part in (_headers, _chunks, _latents, _alpha, _metadata, _nonsense):
        for number, (name, data, expected) in enumerate(part()):
            yield f"{part.__name__[1:]}-{number:02}-{name}", data, expected


def _headers() -> Iterator[tuple[str, bytes, str]]:
    rgb = goldens()["rgb"]

    def changed(offset: int, value: bytes, source: bytes = rgb) -> bytes:
        return repair(source[:offset] + value + source[offset + len(value) :])

    def sized(width: int, height: int, source: bytes = rgb) -> bytes:
        return changed(12, struct.pack("<2I", width, height), source)

    yield "empty", b"", TRUNCATED
    yield "zeros", bytes(100), NOT_VAEC
    yield "png", b"\x89PNG\r\n\x1a\n" + rgb[8:], NOT_VAEC
    yield "seven-bits", b"\x0b" + rgb[1:], NOT_VAEC
    yield "newline", rgb.replace(b"\r\n", b"\n", 1), NOT_VAEC
    for version in (0, 2, 255):
        yield f"version-{version}", changed(8, bytes((version,))), UNSUPPORTED
    yield "minor-255", changed(9, b"\xff"), IMAGE
    for mode in (0, 5, 255):
        yield f"mode-{mode}", changed(10, bytes((mode,))), CORRUPT
    for depth in (0, 1, 12, 32, 255):
        yield f"depth-{depth}", changed(11, bytes((depth,))), CORRUPT
    yield "depth-16", changed(11, b"\x10"), IMAGE
    yield "grey-for-rgb", changed(10, b"\x01"), IMAGE
    yield "alpha-that-is-not-there", changed(10, b"\x04"), CORRUPT
    yield "alpha-not-spoken-of", changed(10, b"\x03", goldens()["rgb-alpha"]), CORRUPT
    yield "alpha-depth-16", changed(11, b"\x10", goldens()["rgb-alpha"]), TRUNCATED
    yield "alpha-depth-8", changed(11, b"\x08", goldens()["rgb-alpha-16"]), CORRUPT
    for width, height in ((0, 50), (67, 0), (0, 0)):
        yield f"empty-{width}x{height}", sized(width, height), CORRUPT
    top = 2**32 - 1
    for width, height in ((top, top), (top, 1), (1, top), (2**16 + 1, 1), (2**16, 2**16)):
        yield f"huge-{width}x{height}", sized(width, height), LIMIT
    yield "over-the-pixels", sized(2048, 2049), LIMIT
    yield "at-the-limit", sized(2048, 2048), CORRUPT
    yield "one-segment", sized(1024, 1024), CORRUPT
    yield "one-segment-of-a-pixel", sized(1024, 1024, goldens()["one-pixel"]), CORRUPT
    yield "a-second-segment", sized(1025, 1), CORRUPT
    yield "a-row", sized(2**16, 1), CORRUPT
    yield "one-pixel-of-many", sized(1, 1), CORRUPT
    yield "segments-exchanged", sized(40, 1100, goldens()["two-segments"]), ANY_ERROR
    yield "a-pixel-wider", sized(68, 50), IMAGE
    for level in (63 * 256 + 1, 2**15, 2**16 - 1):
        yield f"level-{level}", changed(20, struct.pack("<H", level)), CORRUPT
    for level in (0, 63 * 256):
        yield f"level-{level}", changed(20, struct.pack("<H", level)), ANY_ERROR
    for count, expected in ((0, CORRUPT), (1, CORRUPT), (6, TRUNCATED), (2**16 - 1, LIMIT)):
        yield f"count-{count}", changed(22, struct.pack("<H", count)), expected
    yield "another-model", changed(24, bytes(8)), MISMATCH
    yield "another-bit-of-the-model", changed(31, bytes((rgb[31] ^ 1,))), MISMATCH


def _chunks() -> Iterator[tuple[str, bytes, str]]:
    source = goldens()["grey"]

    def made(*pieces: Piece, rest: bytes = b"", of: bytes = source) -> bytes:
        return Parts(Parts.of(of).header, list(pieces), rest).joined()

    (latn,) = Parts.of(source).pieces
    other = Parts.of(goldens()["one-pixel"]).pieces[0]
    first, second = Parts.of(goldens()["two-segments"]).pieces
    payload = latn.payload
    yield "none", made(), CORRUPT
    yield "twice", made(latn, latn), CORRUPT
    yield "of-another-image", made(other), ANY_ERROR
    yield "swapped", made(second, first, of=goldens()["two-segments"]), ANY_ERROR
    yield "first-alone", made(first, of=goldens()["two-segments"]), CORRUPT
    yield "alpha-in-grey", made(latn, Piece(ALPHA, b"")), CORRUPT
    for name in (b"NEWS", b"LATn", b"Latn", b"IHDR"):
        yield f"critical-{name.decode()}", made(latn, Piece(name, b"new")), UNSUPPORTED
    for number, name in enumerate((b"\0\0\0\0", b"L\0TN", b"te5t", b"\xff\xff\xff\xff", b"abc ")):
        yield f"no-name-{number}", made(latn, Piece(name, b"")), CORRUPT
    yield "small-letters", made(Piece(b"latn", payload)), CORRUPT
    yield "unknown-ancillary", made(Piece(b"abCD", b"whatever"), latn), IMAGE
    yield "a-byte-behind", made(latn, rest=b"\0"), CORRUPT
    yield "a-chunk-behind", made(latn) + source[HEADER_BYTES:], CORRUPT
    yield "half-a-chunk-behind", made(latn, rest=b"LATN\0\0"), CORRUPT
    for length, expected in (
        (2**32 - 1, LIMIT),
        (2**31, LIMIT),
        (2**26 + 1, LIMIT),
        (2**26, TRUNCATED),
        (len(payload) + 1, TRUNCATED),
    ):
        yield f"length-{length}", made(Piece(LATENTS, payload, length=length)), expected
    for length in (0, len(payload) - 1):
        # What follows the shorter chunk is taken for its CRC, or for the next chunk.
        yield f"length-{length}", made(Piece(LATENTS, payload, length=length)), ANY_ERROR
        yield (
            f"length-{length}-sealed",
            repair(made(Piece(LATENTS, payload, length=length))),
            (ANY_ERROR),
        )
    empty = Piece(b"abcd", b"")
    yield "as-many-as-may-be", made(*[empty] * (2**14 - 1), latn), IMAGE
    yield "one-more", made(*[empty] * 2**14, latn), LIMIT
    yield "zeros-for-chunks", made(rest=bytes(40)), CORRUPT


def _latents() -> Iterator[tuple[str, bytes, str]]:
    for source in ("grey", "escapes"):
        parts = Parts.of(goldens()[source])
        (piece,) = parts.pieces
        crc, count = struct.unpack_from("<II", piece.payload)
        words = np.frombuffer(piece.payload, "<u4", count, 8)
        tail = piece.payload[8 + 4 * count :]

        def payload(
            words: np.ndarray = words,
            tail: bytes = tail,
            crc: int = crc,
            count: int | None = None,
            parts: Parts = parts,
        ) -> bytes:
            prefix = struct.pack("<II", crc, len(words) if count is None else count)
            own = Piece(LATENTS, prefix + words.astype("<u4").tobytes() + tail)
            return Parts(parts.header, [own]).joined()

        zeros, random = np.zeros_like(words), np.random.default_rng(3)
        yield f"{source}-empty", Parts(parts.header, [Piece(LATENTS, b"")]).joined(), TRUNCATED
        yield (
            f"{source}-prefix-cut",
            Parts(parts.header, [Piece(LATENTS, bytes(7))]).joined(),
            (TRUNCATED),
        )
        # A state of zero gives symbols without end and stays zero: only their CRC is wrong.
        yield f"{source}-no-words", payload(words[:0], b""), CHECKSUM
        yield f"{source}-nothing", payload(words[:0], b"", 0), CHECKSUM
        for wrong in (count + len(tail) // 4 + 1, 2**24, 2**30, 2**32 - 1):
            yield f"{source}-words-{wrong}", payload(count=wrong), TRUNCATED
        for wrong in (0, 1, count - 1):
            yield f"{source}-words-{wrong}", payload(count=wrong), CORRUPT
        yield f"{source}-wrong-symbols", payload(crc=crc ^ 1), CHECKSUM
        yield f"{source}-zero-words", payload(zeros), CORRUPT
        yield f"{source}-last-word-zero", payload(np.append(words, 0)), CORRUPT
        yield f"{source}-a-word-more", payload(np.append(words, 1)), ANY_ERROR
        yield f"{source}-a-word-before", payload(np.insert(words, 0, 1)), CORRUPT
        yield f"{source}-a-word-less", payload(words[1:]), ANY_ERROR
        yield f"{source}-reversed", payload(words[::-1]), ANY_ERROR
        yield f"{source}-high-words", payload(zeros + (2**32 - 1)), ANY_ERROR
        for number in range(6):
            chance = random.integers(1, 2**32, 4 + 40 * number)
            yield f"{source}-words-by-chance-{number}", payload(chance), ANY_ERROR
        for number, more in enumerate((b"\0", b"\x80", b"\xff" * 9, b"\x80\x80\x80\x80\0")):
            yield f"{source}-escapes-behind-{number}", payload(tail=tail + more), CORRUPT
        yield f"{source}-endless-escapes", payload(tail=tail + b"\x80" * 2000), CORRUPT


def _alpha() -> Iterator[tuple[str, bytes, str]]:
    for source in ("rgb-alpha", "rgb-alpha-16"):
        parts = Parts.of(goldens()[source])
        latn, alph = parts.pieces
        predictor, stream = alph.payload[:1], alph.payload[1:]
        plane = 50 * 67 * (2 if source.endswith("16") else 1)

        def made(payload: bytes, parts: Parts = parts, latn: Piece = latn) -> bytes:
            return Parts(parts.header, [latn, Piece(ALPHA, payload)]).joined()

        dictionary = zlib.compressobj(zdict=b"vaec" * 8)
        wants = dictionary.compress(b"vaec" * 100) + dictionary.flush()
        raw = zlib.compressobj(wbits=-15)
        gzip = zlib.compressobj(wbits=31)
        zeros = zlib.compress(bytes(plane))
        yield f"{source}-empty", made(b""), TRUNCATED
        yield f"{source}-no-stream", made(predictor), TRUNCATED
        for wrong in (4, 5, 128, 255):
            yield f"{source}-predictor-{wrong}", made(bytes((wrong,)) + stream), CORRUPT
        for other in range(4):
            yield f"{source}-predictor-{other}", made(bytes((other,)) + stream), IMAGE
        yield f"{source}-bomb", made(bomb()), CORRUPT
        yield f"{source}-small-bomb", made(bomb(1_000_000, 3)), CORRUPT
        for size, expected in ((plane - 1, TRUNCATED), (plane, IMAGE), (plane + 1, CORRUPT)):
            yield f"{source}-{size}", made(predictor + zlib.compress(bytes(size))), expected
        yield f"{source}-nothing", made(predictor + zlib.compress(b"")), TRUNCATED
        yield f"{source}-cut", made(alph.payload[:-5]), TRUNCATED
        yield f"{source}-no-adler", made(alph.payload[:-4]), TRUNCATED
        yield f"{source}-wrong-adler", made(predictor + zeros[:-1] + b"\x55"), CORRUPT
        yield f"{source}-a-byte-behind", made(alph.payload + b"\0"), CORRUPT
        yield f"{source}-twice", made(alph.payload + stream), CORRUPT
        yield f"{source}-garbage", made(predictor + b"garbage" * 20), CORRUPT
        yield f"{source}-dictionary", made(predictor + wants), CORRUPT
        yield f"{source}-raw", made(predictor + raw.compress(bytes(plane)) + raw.flush()), CORRUPT
        yield (
            f"{source}-gzip",
            made(predictor + gzip.compress(bytes(plane)) + gzip.flush()),
            (CORRUPT),
        )
        empty_blocks = b"\x78\x01" + b"\0\0\0\xff\xff" * 50_000
        yield f"{source}-blocks-of-nothing", made(predictor + empty_blocks), TRUNCATED
        yield f"{source}-latents-for-alpha", made(latn.payload), ANY_ERROR


def _metadata() -> Iterator[tuple[str, bytes, str]]:
    """None of it decides a pixel: every file is an image."""
    source = Parts.of(goldens()["one-pixel"])

    def made(*pairs: tuple[bytes, bytes]) -> bytes:
        return Parts(source.header, [*(Piece(*pair) for pair in pairs), *source.pieces]).joined()

    nan, inf = float("nan"), float("inf")
    for number, pair in enumerate(
        (
            *((nan, 72), (72, nan), (inf, inf), (-inf, 1), (0, 0), (-0.0, 1), (-1, -1)),
            *((1e308, 1e308), (5e-324, 5e-324), (65_535, 65_535), (65_535.1, 72), (1e-9, 1e9)),
        )
    ):
        yield f"dpi-{number}", made((b"dpis", struct.pack("<2d", *pair))), IMAGE
    for size in (0, 1, 8, 15, 17, 32):
        yield f"dpi-of-{size}-bytes", made((b"dpis", b"\x40" * size)), IMAGE
    for fill in (b"\0", b"\xff", b"a", b"\x80"):
        for name in (b"iccp", b"xmpp", b"exif"):
            junk = fill * 100_000 if fill == b"\0" else fill * 200
            yield f"{name.decode()}-{fill.hex()}", made((name, junk)), IMAGE
    yield "all-empty", made(*((name, b"") for name in (b"iccp", b"xmpp", b"exif", b"dpis"))), IMAGE
    yield (
        "some-twice",
        made((b"iccp", b"a"), (b"iccp", b"b"), (b"exif", b""), (b"exif", b"II")),
        IMAGE,
    )
    entry = struct.pack("<HHII", 0x112, 3, 1, 6)
    loop = struct.pack("<HHII", 0x8769, 4, 1, 8)
    below = struct.pack("<HHII", 0x8769, 9, 1, 2**32 - 1)
    far = struct.pack("<HHII", 0x10E, 2, 2**31, 2**31)
    for number, (count, entries) in enumerate(
        (
            (0, b""),
            (1, entry),
            (2**16 - 1, entry),
            (2, loop + entry),
            (1, below),
            (1, far),
            (3, far + below + loop),
            (4000, entry * 4000),
            (1, entry[:-1]),
        )
    ):
        exif = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)
        yield f"exif-{number}", made((b"exif", exif)), IMAGE
    for number, first in enumerate((0, 4, 7, 2**31, 2**32 - 1)):
        exif = b"MM\0*" + struct.pack(">IH", first, 1) + entry
        yield f"exif-first-{number}", made((b"exif", exif)), IMAGE
    xmp = b"<x tiff:Orientation='6' tiff:Orientation=\"99\">\xff\0</x>" * 30
    yield "xmp-that-turns", made((b"xmpp", xmp)), IMAGE


def _nonsense() -> Iterator[tuple[str, bytes, str]]:
    """Encode latents that no image has, and hyper-latents that no file may hold."""
    for number, reach in enumerate((0.0, 0.5, 2, 10, 100, 1e3, 1e4, 1e5, 1e6, 3e6)):
        for again in range(2):
            rng = np.random.default_rng((4, number, again))
            yield f"reach-{reach:g}-{again}", forge(rng, reach=reach, longest=40), IMAGE
    bundle = find_bundle(GOLDEN / "bundle")
    tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
    source = Parts.of(goldens()["one-pixel"])
    (level,) = struct.unpack_from("<H", source.header, 20)
    index = tables.z_scale_index[(level + 128) >> 8]
    for number, value in enumerate((2**20 + 1, -(2**20) - 1, 2**21, 2**26)):
        writer = SymbolWriter(SymbolModels(tables))
        writer.add(np.full(len(index), value, np.int32), index)
        piece = Piece(LATENTS, writer.finish())
        yield f"out-of-range-{number}", Parts(source.header, [piece]).joined(), CORRUPT


def by_chance(known: set[bytes]) -> Iterator[tuple[str, bytes, str]]:
    """Pick mutations, none of their outcomes too often."""
    found: Counter[str] = Counter()
    number = 0
    while found.total() < RANDOM_FILES:
        data = mutation(RANDOM_SEED, number)
        number += 1
        if len(data) > RANDOM_BYTES or data in known:
            continue
        known.add(data)
        outcome = verdict(data)
        if found[outcome] < RANDOM_OF_A_KIND:
            found[outcome] += 1
            yield f"random-{number - 1:04}", data, outcome


def collect() -> dict[str, Entry]:
    """Return all files; raise where the codec and what is written here disagree."""
    entries: dict[str, Entry] = {}
    seen: set[bytes] = set(goldens().values())
    disagreements: list[str] = []
    for folder, source in (("truncated", truncated), ("bitflip", bitflips), ("hostile", by_hand)):
        for name, data, expected in source():
            if data in seen:
                continue
            seen.add(data)
            outcome = verdict(data)
            if outcome != expected and (expected or outcome == IMAGE):
                disagreements.append(f"{name}: {expected or 'an error'}, and not {outcome}")
            entries[f"{folder}/{name}.vaec"] = Entry(data, outcome)
    if disagreements:
        raise ValueError("\n".join(["the codec disagrees:", *disagreements]))
    for name, data, outcome in by_chance(seen):
        entries[f"hostile/{name}.vaec"] = Entry(data, outcome)
    return entries


def main() -> None:
    entries = collect()
    write_corpus(entries)
    outcomes = Counter(entry.expected for entry in entries.values())
    folders = Counter(name.partition("/")[0] for name in entries)
    sys.stdout.write(f"{len(entries)} files, {ARCHIVE.stat().st_size:,} bytes\n")
    sys.stdout.write(f"{dict(folders)}\n{dict(outcomes)}\n")


if __name__ == "__main__":
    main()
