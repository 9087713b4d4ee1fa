"""Files written once, by version 1: they decode as they did, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden.make import describe

from vaecodec.codec import Codec

V1 = Path(__file__).parent / "v1"
FACTS = json.loads((V1 / "facts.json").read_text())


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(V1 / "bundle")


def test_no_file_is_missing():
    assert {path.stem for path in V1.glob("*.vaec")} == set(FACTS)
    assert len(FACTS) == 9


@pytest.mark.parametrize("name", FACTS)
def test_the_container_is_exact(name: str):
    assert describe((V1 / f"{name}.vaec").read_bytes()) == FACTS[name]


@pytest.mark.parametrize("name", FACTS)
def test_symbols_are_exact_and_pixels_within_a_step(codec: Codec, name: str):
    """Decoding checks the CRC of the symbols, so that it succeeds means that all are right."""
    decoded = codec.decode_raster((V1 / f"{name}.vaec").read_bytes()).read()
    with np.load(V1 / f"{name}.npz") as stored:
        expected = stored["samples"]
    assert (decoded.shape, decoded.dtype) == (expected.shape, expected.dtype)
    step = 1 if decoded.dtype == np.uint8 else 257
    difference = np.abs(decoded.astype(int) - expected)
    assert difference.max() <= step
    if decoded.shape[2] in (2, 4):
        assert not difference[:, :, -1].any()
