"""Every damaged file that is kept comes to what it came to."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hostile.campaign import SECONDS
from hostile.make_corpus import ARCHIVE, IMAGE, Entry, read_corpus
from hostile.oracle import verdict

from vaecodec import errors

FOLDERS = ("truncated", "bitflip", "hostile")


@pytest.fixture(scope="module")
def corpus() -> dict[str, Entry]:
    return read_corpus()


def test_the_corpus_is_large_and_small(corpus: dict[str, Entry]):
    assert len(corpus) >= 500
    assert len({entry.data for entry in corpus.values()}) == len(corpus)
    assert ARCHIVE.stat().st_size < 300_000
    counts = Counter(name.partition("/")[0] for name in corpus)
    assert set(counts) == set(FOLDERS)
    assert min(counts.values()) >= 150


def test_the_corpus_meets_every_error_that_a_file_can_cause(corpus: dict[str, Entry]):
    expected = {IMAGE, "LimitError", "ModelMismatchError"}
    kinds = errors.FormatError.__subclasses__()
    expected |= {kind.__name__ for kind in kinds if kind.__module__ == errors.__name__}
    assert {entry.expected for entry in corpus.values()} == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_file_comes_to_what_it_came_to(corpus: dict[str, Entry], folder: str):
    wrong: dict[str, str] = {}
    for name, entry in corpus.items():
        if name.startswith(folder):
            start = time.perf_counter()
            found = verdict(entry.data)
            if found != entry.expected or time.perf_counter() - start > SECONDS:
                wrong[name] = f"{found}, not {entry.expected}"
    assert not wrong
