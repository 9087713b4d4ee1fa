"""Outputs take permissions from their inputs, and times where that is wanted or usual."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from cli.test_cli import misused, posix, run
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES

from vaecodec.fileio import write_atomic
from vaecodec.origin import Origin, origin_of

MODEL = ("--bundle", V1 / "bundle", "--quiet")
TIME_NS = 1_000_000_000_123_456_789
pytestmark = posix


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A private photograph of long ago."""
    path = tmp_path / "old.png"
    with Image.open(SAMPLES / "portrait.jpg") as image:
        image.crop((300, 200, 364, 264)).save(path)
    path.chmod(0o600)
    os.utime(path, ns=(TIME_NS, TIME_NS))
    return path


@pytest.mark.parametrize(
    ("given", "umask", "expected"),
    [
        (0o600, 0o022, 0o600),
        (0o644, 0o022, 0o644),
        (0o640, 0o022, 0o640),
        (0o666, 0o022, 0o644),
        (0o644, 0o077, 0o600),
        (0o444, 0o022, 0o444),
        (0o4755, 0o022, 0o755),
    ],
)
@pytest.mark.parametrize("has_links", [True, False])
def test_permissions_are_the_inputs_but_for_the_umask(
    given: int,
    umask: int,
    expected: int,
    has_links: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", fail)
    source, target = tmp_path / "in", tmp_path / "out"
    source.touch()
    source.chmod(given)
    before = os.umask(umask)
    try:
        write_atomic(target, b"new", origin=origin_of(str(source), keep_times=False))
    finally:
        os.umask(before)
    assert mode(target) == expected


@pytest.mark.parametrize(("lent", "expected"), [(0o644, 0o600), (0o400, 0o400), (0o666, 0o600)])
def test_what_is_replaced_takes_permissions_and_gives_none(
    lent: int, expected: int, tmp_path: Path
):
    source, target = tmp_path / "in", tmp_path / "out"
    source.touch(0o600)
    target.write_bytes(b"old")
    target.chmod(lent)
    write_atomic(target, b"new", force=True, origin=origin_of(str(source), keep_times=False))
    assert (mode(target), target.read_bytes()) == (expected, b"new")


def test_nothing_is_readable_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(tmp_path / "out", b"new", origin=Origin(0o600))
    assert seen == [0o600]


def test_pipes_and_addresses_give_nothing(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in ("-", "s3://bucket/a.jpg", str(tmp_path / "pipe"), str(tmp_path / "none"), "a\0b"):
        assert origin_of(path, keep_times=True) == Origin()


def test_single_files_there_and_back(old: Path, tmp_path: Path):
    coded, back = tmp_path / "old.vaec", tmp_path / "back.png"
    assert run("compress", old, coded, *MODEL).returncode == 0
    assert mode(coded) == 0o600
    assert coded.stat().st_mtime_ns != TIME_NS
    assert run("compress", old, coded, "--force", "--keep-times", *MODEL).returncode == 0
    assert coded.stat().st_mtime_ns == TIME_NS
    assert run("decompress", coded, back, "--keep-times", *MODEL).returncode == 0
    assert (mode(back), back.stat().st_mtime_ns) == (0o600, TIME_NS)
    misused(run("compress", old, "-", "--keep-times"), "a pipe has no time of its own")


def test_folders_keep_times_unless_told_not_to(old: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    shutil.move(old, tmp_path / "in" / "a.png")
    assert run("compress", tmp_path / "in", tmp_path / "kept", *MODEL).returncode == 0
    coded = tmp_path / "kept" / "a.vaec"
    assert (mode(coded), coded.stat().st_mtime_ns) == (0o600, TIME_NS)
    done = run("decompress", tmp_path / "kept", tmp_path / "new", "--no-keep-times", *MODEL)
    assert done.returncode == 0
    assert mode(tmp_path / "new" / "a.png") == 0o600
    assert (tmp_path / "new" / "a.png").stat().st_mtime_ns != TIME_NS
