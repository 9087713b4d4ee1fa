import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaecodec import container, errors
from vaecodec.container import Chunk, Container, Header, Mode, pack, read_header, unpack
from vaecodec.limits import Limits

HEADER = Header(7, 5, Mode.RGB, 8, 0x1234, bytes(range(1, 9)))
CONTAINER = Container(HEADER, (b"\xde\xad\xbe\xef",), (), (Chunk(b"teST", b"hi"),))

# Written out by hand from FORMAT.md, so that a slip in reader and writer alike is noticed.
HEADER_FILE = bytes.fromhex(
    "8b 56414543 0d0a 1a"  # magic
    "01 00"  # version 1.0
    "03 08"  # RGB, 8 bits
    "07000000 05000000"  # 7x5
    "3412"  # level
    "0200"  # two chunks
    "0102030405060708"  # model id
    "931668c7"  # crc
)
TEST_CHUNK = bytes.fromhex("74655354 02000000 6869 a6296dd2")
ALPH_CHUNK = bytes.fromhex("414c5048 02000000 cafe f77d4eae")
LATN_CHUNK = bytes.fromhex("4c41544e 04000000 deadbeef 2a764726")
FILE = HEADER_FILE + TEST_CHUNK + LATN_CHUNK


def with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def header_bytes(changes: dict[int, bytes]) -> bytes:
    """The sample header with bytes replaced at some offsets, under a right CRC."""
    raw = bytearray(HEADER_FILE[:-4])
    for offset, replacement in changes.items():
        raw[offset : offset + len(replacement)] = replacement
    return with_crc(bytes(raw))


def file_of(*chunks: bytes) -> bytes:
    return header_bytes({22: struct.pack("<H", len(chunks))}) + b"".join(chunks)


def chunk_bytes(fourcc: bytes, payload: bytes = b"") -> bytes:
    return with_crc(fourcc + struct.pack("<I", len(payload)) + payload)


def test_pack_writes_the_bytes_of_the_specification():
    assert pack(CONTAINER) == FILE


def test_unpack_reads_the_bytes_of_the_specification():
    assert unpack(FILE) == CONTAINER


def test_sizes_of_the_layout():
    assert container.HEADER_BYTES == 36
    assert container.CHUNK_OVERHEAD_BYTES == 12
    assert len(pack(Container(HEADER, (b"",)))) == 36 + 12


def test_ancillary_chunks_may_follow_the_latents_and_repeat():
    read = unpack(file_of(LATN_CHUNK, TEST_CHUNK, TEST_CHUNK))
    assert read.latents == CONTAINER.latents
    assert read.ancillary == CONTAINER.ancillary * 2


def test_a_later_minor_version_is_read():
    assert unpack(header_bytes({9: b"\xff"}) + TEST_CHUNK + LATN_CHUNK) == CONTAINER


def test_read_header_needs_no_chunk_and_no_limits():
    assert read_header(HEADER_FILE) == HEADER
    assert read_header(FILE) == HEADER
    huge = read_header(header_bytes({12: b"\xff" * 8}))
    assert (huge.width, huge.height) == (2**32 - 1, 2**32 - 1)


def test_chunk_knows_its_kind_and_name():
    assert Chunk(b"LATN", b"").critical
    assert not Chunk(b"lATN", b"").critical
    assert Chunk(b"iccp", b"").name == "iccp"


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b"abc",
        b"\x8bVAEC\n\x1a",  # a newline conversion took the CR
        b"\x0bVAEC\r\n\x1a" + FILE[8:],  # a 7-bit channel took the high bit
        b"\x00" * 100,
    ],
)
def test_wrong_magic(data: bytes):
    for read in (unpack, read_header):
        with pytest.raises(errors.NotVaecError, match=r"not a \.vaec file"):
            read(data)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "inside the magic"),
        (b"\x8bVAEC\r\n", "inside the magic"),
        (b"\x8bVAEC\r\n\x1a", "inside the header"),
        (b"\x8bVAEC\r\n\x1a\x01", "inside the header"),
        (HEADER_FILE[:-1], "inside the header"),
        (HEADER_FILE, "inside chunk 0"),
        (HEADER_FILE + b"teST\x02\x00\x00", "inside chunk 0"),
        (HEADER_FILE + TEST_CHUNK[:-1], "inside chunk 0"),
        (HEADER_FILE + TEST_CHUNK, "inside chunk 1"),
        (HEADER_FILE + TEST_CHUNK + b"LATN\xff\xff\x00\x00" + b"\x00" * 8, "inside chunk 1"),
    ],
)
def test_truncated(data: bytes, where: str):
    with pytest.raises(errors.TruncatedError, match=where):
        unpack(data)


def test_another_major_version_is_named_before_its_header_is_understood():
    for data in (b"\x8bVAEC\r\n\x1a\x02", b"\x8bVAEC\r\n\x1a\x02" + b"\x00" * 100):
        with pytest.raises(errors.UnsupportedVersionError, match="version 2 is not the 1"):
            unpack(data)


def test_wrong_header_checksum():
    data = HEADER_FILE[:-4] + b"\x93\x16\x68\xc6" + TEST_CHUNK + LATN_CHUNK
    with pytest.raises(errors.ChecksumError, match="header"):
        unpack(data)


def test_wrong_chunk_checksum():
    data = HEADER_FILE + TEST_CHUNK + LATN_CHUNK[:-4] + b"\x2a\x76\x47\x27"
    with pytest.raises(errors.ChecksumError, match="chunk 1"):
        unpack(data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({10: b"\x00"}, "0 is not a valid Mode"),
        ({10: b"\x05"}, "5 is not a valid Mode"),
        ({11: b"\x0c"}, "bit depth 12"),
        ({12: b"\x00"}, "0x5 pixels is empty"),
        ({16: b"\x00"}, "7x0 pixels is empty"),
        ({20: b"\x01\x3f"}, "level 16129"),
        ({20: b"\xff\xff"}, "level 65535"),
    ],
)
def test_corrupt_header(changes: dict[int, bytes], reason: str):
    for read in (unpack, read_header):
        with pytest.raises(errors.CorruptError, match=reason):
            read(header_bytes(changes) + TEST_CHUNK + LATN_CHUNK)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (file_of(), "0 LATN chunks, not 1"),
        (file_of(TEST_CHUNK), "0 LATN chunks, not 1"),
        (file_of(LATN_CHUNK, LATN_CHUNK), "2 LATN chunks, not 1"),
        (file_of(LATN_CHUNK, ALPH_CHUNK), "1 ALPH chunks, not 0"),
        (FILE + b"\x00", "1 bytes follow"),
        (file_of(LATN_CHUNK) + TEST_CHUNK, "14 bytes follow"),
        (file_of(LATN_CHUNK, chunk_bytes(b"te5T")), "chunk 1 .* four ASCII letters"),
        (file_of(LATN_CHUNK, chunk_bytes(b"\xe9tes")), "chunk 1 .* four ASCII letters"),
    ],
)
def test_corrupt_chunks(data: bytes, reason: str):
    with pytest.raises(errors.CorruptError, match=reason):
        unpack(data)


def test_unknown_critical_chunk_is_named():
    with pytest.raises(errors.UnsupportedVersionError, match="NEWS"):
        unpack(file_of(LATN_CHUNK, chunk_bytes(b"NEWS", b"later")))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(max_side=6), "width"),
        (Limits(max_side=6, max_pixels=34), "width"),
        (Limits(max_pixels=34), "size in pixels"),
        (Limits(max_chunks=1), "chunks"),
        (Limits(max_chunk_bytes=3), "chunk size"),
        (Limits(max_file_bytes=len(FILE) - 1), "file size"),
    ],
)
def test_limits_hold_for_reading_and_writing(limits: Limits, what: str):
    with pytest.raises(errors.LimitError, match=what):
        unpack(FILE, limits)
    with pytest.raises(errors.LimitError, match=what):
        pack(CONTAINER, limits)


def test_a_file_that_meets_its_limits_exactly_is_written_and_read():
    limits = Limits(7, 35, 2, 4, len(FILE))
    assert unpack(pack(CONTAINER, limits), limits) == CONTAINER


def test_sizes_in_the_file_are_judged_before_its_length():
    """A hostile claim is refused for what it says, with nothing there to back it."""
    with pytest.raises(errors.LimitError, match="width"):
        unpack(header_bytes({12: b"\xff" * 4}))
    with pytest.raises(errors.LimitError, match="chunks"):
        unpack(header_bytes({22: b"\xff\xff"}))
    with pytest.raises(errors.LimitError, match="chunk size"):
        unpack(HEADER_FILE + b"teST\xff\xff\xff\xff" + b"\x00" * 4)


def test_every_truncation_is_noticed():
    for length in range(len(FILE)):
        with pytest.raises(errors.TruncatedError):
            unpack(FILE[:length])


def test_every_single_bit_flip_is_noticed():
    for bit in range(8 * len(FILE)):
        data = bytearray(FILE)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((errors.FormatError, errors.LimitError)):
            unpack(bytes(data))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("height", -1),
        ("mode", 5),
        ("bit_depth", 12),
        ("level", -1),
        ("level", 63 * 256 + 1),
        ("model_id", b"short"),
    ],
)
def test_an_invalid_header_cannot_be_made(field: str, value: object):
    fields = {
        "width": 1,
        "height": 1,
        "mode": Mode.GREY,
        "bit_depth": 8,
        "level": 0,
        "model_id": bytes(8),
    }
    with pytest.raises(ValueError, match=r"empty|Mode|bit depth|level|model id"):
        Header(**fields | {field: value})


@pytest.mark.parametrize("fourcc", [b"", b"abc", b"abcde", b"ab d", b"\xe9abc"])
def test_an_invalid_fourcc_cannot_be_made(fourcc: bytes):
    with pytest.raises(ValueError, match="four ASCII letters"):
        Chunk(fourcc, b"")


def test_a_critical_chunk_cannot_pass_for_ancillary():
    with pytest.raises(ValueError, match="LATN is critical"):
        Container(HEADER, (b"",), (), (Chunk(b"LATN", b""),))


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(1, 1, 1), (1024, 1024, 1), (1025, 1024, 2), (1, 1025, 2), (4000, 3000, 12)],
)
def test_segments_are_counted(width: int, height: int, count: int):
    header = Header(width, height, Mode.RGB_ALPHA, 16, 0, bytes(8))
    assert header.segments == count
    latents, alpha = ((letter,) * count for letter in (b"l", b"a"))
    assert unpack(pack(Container(header, latents, alpha))).latents == latents
    for wrong in ((latents[1:], alpha), (latents, alpha[1:]), (latents, (*alpha, b"a"))):
        with pytest.raises(ValueError, match=f"not {count}"):
            Container(header, *wrong)


def test_a_segments_alpha_stands_beside_its_latents():
    header = Header(1025, 1, Mode.GREY_ALPHA, 8, 0, bytes(8))
    data = pack(Container(header, (b"l0", b"l1"), (b"a0", b"a1"), (Chunk(b"iccp", b""),)))
    places = [data.index(name) for name in (b"iccp", b"l0", b"a0", b"l1", b"a1")]
    assert places == sorted(places)


def test_single_segments_are_read_without_a_look_at_the_others():
    header = Header(2049, 1, Mode.GREY_ALPHA, 8, 0, bytes(8))
    original = Container(header, (b"l0", b"l1", b"l2"), (b"a0", b"a1", b"a2"))
    damaged = bytearray(pack(original))
    for payload in (b"l0", b"a2"):
        damaged[damaged.index(payload)] ^= 1
    with pytest.raises(errors.ChecksumError):
        unpack(bytes(damaged))
    read = unpack(memoryview(damaged), segments={1})
    assert (read.latents, read.alpha) == ((b"", b"l1", b""), (b"", b"a1", b""))
    with pytest.raises(errors.ChecksumError):
        unpack(bytes(damaged), segments={1, 2})
    with pytest.raises(errors.TruncatedError):
        unpack(bytes(damaged[:-1]), segments={1})


LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
headers = st.builds(
    Header,
    width=st.integers(1, 2**12),
    height=st.integers(1, 2**11),
    mode=st.sampled_from(Mode),
    bit_depth=st.sampled_from(container.BIT_DEPTHS),
    level=st.integers(0, container.MAX_LEVEL),
    model_id=st.binary(min_size=8, max_size=8),
)
fourccs = st.tuples(
    st.sampled_from(LETTERS[26:]), *(st.sampled_from(LETTERS) for _ in range(3))
).map(bytes)


@st.composite
def containers(draw: st.DrawFn) -> Container:
    header = draw(headers)
    payloads = st.lists(st.binary(), min_size=header.segments, max_size=header.segments)
    return Container(
        header,
        tuple(draw(payloads)),
        tuple(draw(payloads)) if header.mode.has_alpha else (),
        draw(st.lists(st.builds(Chunk, fourccs, st.binary()), max_size=4).map(tuple)),
    )


@given(containers())
def test_round_trip(original: Container):
    data = pack(original)
    assert unpack(data) == original
    assert read_header(data[: container.HEADER_BYTES]) == original.header
    assert pack(unpack(data)) == data


@given(st.binary())
def test_arbitrary_bytes_raise_nothing_else(tail: bytes):
    for data in (tail, HEADER_FILE + tail, HEADER_FILE + TEST_CHUNK + tail):
        with pytest.raises((errors.FormatError, errors.LimitError)):
            unpack(data)
