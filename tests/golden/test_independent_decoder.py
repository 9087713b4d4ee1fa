"""FORMAT.md is complete: a decoder that was written from it alone reads every golden file."""

from __future__ import annotations

import ast
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

V1 = Path(__file__).parent / "v1"
BUNDLE = V1 / "bundle"
SAMPLE = Path(__file__).parents[2] / "samples" / "decode_with_onnxruntime.py"
NAMES = sorted(path.stem for path in V1.glob("*.vaec"))


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SAMPLE.stem, SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> bytes:
    return (V1 / f"{name}.vaec").read_bytes()


def chunk(fourcc: bytes, payload: bytes = b"") -> bytes:
    body = fourcc + len(payload).to_bytes(4, "little") + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def insert(data: bytes, *chunks: bytes) -> bytes:
    """Put chunks behind the header, and count them there."""
    count = int.from_bytes(data[22:24], "little") + len(chunks)
    fields = data[:22] + count.to_bytes(2, "little") + data[24:32]
    return fields + zlib.crc32(fields).to_bytes(4, "little") + b"".join(chunks) + data[36:]


def test_it_is_short_and_stands_alone():
    source = SAMPLE.read_text()
    assert len(source.splitlines()) < 150
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"PIL", "numpy", "onnxruntime"}


@pytest.mark.parametrize("name", NAMES)
def test_it_decodes_every_golden(sample: ModuleType, name: str):
    """It checks the CRC of the symbols, so that it succeeds means that all are right."""
    decoded = sample.decode(read(name), BUNDLE)
    with np.load(V1 / f"{name}.npz") as stored:
        expected = stored["samples"]
    assert (decoded.shape, decoded.dtype) == (expected.shape, expected.dtype)
    difference = np.abs(decoded.astype(int) - expected)
    assert difference.max() <= (1 if decoded.dtype == np.uint8 else 257)
    if decoded.shape[2] in (2, 4):
        assert not difference[:, :, -1].any()


@pytest.mark.parametrize("name", ["one-pixel", "escapes"])
def test_a_flipped_bit_is_refused(sample: ModuleType, name: str):
    data = read(name)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"\w"):
            sample.decode(bytes(damaged), BUNDLE)


def test_a_wrong_crc_of_symbols_is_refused(sample: ModuleType):
    """The chunk's own CRC is made right again."""
    data = read("one-pixel")
    payload = bytes([data[44] ^ 1]) + data[45:-4]
    with pytest.raises(ValueError, match="CRC of the symbols"):
        sample.decode(data[:36] + chunk(b"LATN", payload), BUNDLE)


@pytest.mark.parametrize("length", [0, 7, 8, 35, 36, 43, 60, 75])
def test_a_file_cut_off_is_refused(sample: ModuleType, length: int):
    with pytest.raises(ValueError, match=r"piece|cut off"):
        sample.decode(read("one-pixel")[:length], BUNDLE)


def test_unknown_chunks_are_skipped_or_refused(sample: ModuleType):
    data = read("one-pixel")
    expected = sample.decode(data, BUNDLE)
    skipped = insert(data, chunk(b"note", b"skip me"), chunk(b"nOTE"))
    assert (sample.decode(skipped, BUNDLE) == expected).all()
    for name in (b"Note", b"not3"):
        with pytest.raises(ValueError, match=repr(name)):
            sample.decode(insert(data, chunk(name)), BUNDLE)


@pytest.mark.parametrize("name", ["rgb", "grey", "grey-alpha", "rgb-alpha", "grey-16"])
def test_the_command_writes_the_samples(sample: ModuleType, tmp_path: Path, name: str):
    from PIL import Image

    sample.main(str(BUNDLE), str(V1 / f"{name}.vaec"), str(tmp_path / "out.png"))
    expected = sample.decode(read(name), BUNDLE)
    if expected.dtype == np.uint16:
        assert (np.load(tmp_path / "out.npy") == expected).all()
    else:
        with Image.open(tmp_path / "out.png") as image:
            assert (np.asarray(image).reshape(expected.shape) == expected).all()
