"""Files mutated by a seed, and by hypothesis, before the one oracle; and the oracle itself."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hostile import campaign, oracle
from hostile.campaign import SECONDS
from hostile.mutate import BOMB_BYTES, Parts, bomb, forge, goldens, mutation, repair
from hostile.oracle import IMAGE, OracleError, judge, verdict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.errors import CorruptError, InsufficientMemoryError, LimitError, VaecodecError
from vaecodec.limits import Limits
from vaecodec.raster import from_array

ROOT = Path(__file__).parents[2]
SHORT = 400
LONG = 100_000

Edit = tuple[str, float, bytes]
edits = st.tuples(
    st.sampled_from(["set", "insert", "delete", "cut"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=8),
)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    for kind, where, value in changes:
        place = int(where * len(data))
        if kind == "set":
            data = data[:place] + value + data[place + len(value) :]
        elif kind == "insert":
            data = data[:place] + value + data[place:]
        elif kind == "delete":
            data = data[:place] + data[place + len(value) :]
        else:
            data = data[:place]
    return data


@given(
    st.sampled_from(["one-pixel", "grey", "rgb-alpha", "rgb"]),
    st.lists(edits, max_size=3),
    st.booleans(),
)
@example("rgb", [], False)
@settings(max_examples=150, deadline=1000 * SECONDS, suppress_health_check=list(HealthCheck))
def test_edits_of_a_file(name: str, changes: list[Edit], repaired: bool):
    data = edited(goldens()[name], changes)
    judge(repair(data) if repaired else data)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=100, deadline=1000 * SECONDS)
def test_any_bytes_at_all(tail: bytes, behind_a_header: bool):
    judge(repair(goldens()["one-pixel"][:36] + tail) if behind_a_header else tail)


def test_a_short_series_of_mutations():
    start = time.perf_counter()
    report = campaign.run(seed=1, start=0, count=SHORT)
    assert not report.failures
    assert report.files == SHORT
    assert time.perf_counter() - start < SHORT * SECONDS
    # Or else the mutations would stop at the door.
    kinds = {IMAGE, "TruncatedError", "ChecksumError", "CorruptError", "LimitError"}
    assert kinds <= set(report.outcomes)
    assert report.outcomes["CorruptError"] > SHORT / 5
    assert report.outcomes["ChecksumError"] < SHORT / 3


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="needs a cap on address space")
def test_a_long_series_of_mutations(tmp_path: Path):
    """In a process of its own, which may be killed by the cap or the watchdog."""
    at = tmp_path / "at"
    done = campaign_process("--count", str(LONG), "--at", str(at))
    said = f"at file {at.read_text()}: {done.stderr.decode()[-3000:]}"
    assert done.returncode == 0, done.stdout.decode()[-3000:] + said
    report = json.loads(done.stdout)
    assert report["files"] == sum(report["outcomes"].values()) == LONG
    assert report["failures"] == []
    assert report["slowest_s"] < SECONDS


def campaign_process(*options: str) -> subprocess.CompletedProcess[bytes]:
    script = Path(campaign.__file__)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, env=environment
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a cap on address space")
def test_the_campaign_runs_under_its_cap(tmp_path: Path):
    done = campaign_process("--count", "20", "--seed", "3", "--at", str(tmp_path / "at"))
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["files"] == 20
    assert int((tmp_path / "at").read_text()) == 19


# Bombs: what a file claims is not set aside for it.


def test_a_bomb_is_given_up_at_once():
    parts = Parts.of(goldens()["rgb-alpha"])
    parts.pieces[1].payload = bomb()
    data = parts.joined()
    assert len(data) < BOMB_BYTES / 500
    start, before = time.perf_counter(), campaign._peak_bytes()
    assert verdict(data) == "CorruptError"
    assert campaign._peak_bytes() - before < BOMB_BYTES / 4
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize("name", ["one-pixel", "rgb", "rgb-alpha"])
def test_a_claim_of_the_largest_image_costs_nothing(name: str):
    """With the package's own limits, too: an image of 2^28 pixels, and a few bytes to fill it."""
    codec = Codec(oracle.GOLDEN / "bundle", threads=1)
    parts = Parts.of(goldens()[name])
    parts.header[12:20] = struct.pack("<2I", 2**14, 2**14)
    parts.pieces = [piece for _ in range(256) for piece in parts.pieces]
    start, before = time.perf_counter(), campaign._peak_bytes()
    for decode in (codec.decode_raster, codec.preview):
        with pytest.raises(VaecodecError) as caught:
            decode(parts.joined())
        assert not isinstance(caught.value, InsufficientMemoryError)
    assert campaign._peak_bytes() - before < 2**27
    assert time.perf_counter() - start < SECONDS


def test_a_preview_keeps_to_the_limit_on_memory():
    """Of alpha it holds all, to take means of it."""
    for memory, refused in ((67 * 50 * 8, False), (67 * 50 * 8 - 1, True)):
        limits = Limits(max_memory_bytes=memory)
        codec = Codec(oracle.GOLDEN / "bundle", threads=1, limits=limits)
        assert codec.preview(goldens()["grey"]).width == 9
        if refused:
            with pytest.raises(LimitError, match="memory"):
                codec.preview(goldens()["grey-alpha"])
        else:
            assert codec.preview(goldens()["grey-alpha"]).width == 9


# The mutations.


def test_a_sound_file_needs_no_repair():
    for data in goldens().values():
        assert repair(data) == data
        assert Parts.of(data).joined() == data


def test_repair_makes_every_checksum_right():
    data = bytearray(goldens()["rgb"])
    data[13] ^= 4  # of the width, which becomes that of two segments
    for piece in Parts.of(bytes(data)).pieces:
        data[data.index(piece.payload)] ^= 1
    parts = Parts.of(repair(bytes(data)))
    assert all(p.crc == zlib.crc32(p.head + p.payload) for p in parts.pieces)
    with pytest.raises(CorruptError, match="chunks do not fit"):
        unpack(repair(bytes(data)))


def test_the_same_seed_gives_the_same_file():
    for number in range(20):
        assert mutation(5, number) == mutation(5, number)
    assert len({mutation(5, number) for number in range(50)}) > 40


def test_nonsense_is_valid():
    for seed in range(30):
        assert verdict(forge(np.random.default_rng(seed), longest=40)) == IMAGE


# The oracle: it would tell.


def faulty(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> None:
    """Put a codec before the oracle that does some things otherwise."""
    sound = oracle.codec()
    parts = {name: getattr(sound, name) for name in ("decode", "decode_raster", "preview")}
    monkeypatch.setattr(oracle, "codec", lambda: SimpleNamespace(**parts | methods))


def raising(error: Exception) -> Any:
    def method(*_: object, **__: object) -> None:
        raise error

    return method


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), ZeroDivisionError(), OSError()])
@pytest.mark.parametrize("method", ["decode_raster", "preview", "decode"])
def test_an_error_of_another_kind_comes_out(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
):
    faulty(monkeypatch, **{method: raising(error)})
    with pytest.raises(type(error)):
        judge(goldens()["grey"])


@pytest.mark.parametrize(
    "error", [InsufficientMemoryError("x"), CorruptError(""), VaecodecError("our own")]
)
def test_an_error_that_should_not_be_is_misjudged(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    faulty(monkeypatch, decode_raster=raising(error), preview=raising(error))
    with pytest.raises(OracleError):
        judge(goldens()["grey"])


@pytest.mark.parametrize(
    "methods",
    [
        {"decode_raster": lambda *_, **__: from_array(np.zeros((50, 66, 1), np.uint8))},
        {"decode_raster": lambda *_, **__: from_array(np.zeros((50, 67, 3), np.uint8))},
        {"decode_raster": lambda *_, **__: from_array(np.zeros((50, 67, 1), np.uint16))},
        {"decode_raster": lambda *_, **__: None},
        {"preview": lambda *_, **__: from_array(np.zeros((6, 9, 1), np.uint8))},
        {"preview": raising(CorruptError("x"))},
        {"decode": raising(CorruptError("x"))},
    ],
)
def test_a_wrong_result_is_misjudged(monkeypatch: pytest.MonkeyPatch, methods: dict[str, Any]):
    faulty(monkeypatch, **methods)
    with pytest.raises((OracleError, AttributeError)):
        judge(goldens()["grey"])
