"""Folders through the command line: what a user sees, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from vaecodec import batch
from vaecodec.cli import folders, progress
from vaecodec.errors import InputError
from vaecodec.jobs import Compress, Outcome, Task, failed

ROOT = Path(__file__).parents[2]
BUNDLE = str(ROOT / "tests" / "golden" / "v1" / "bundle")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "vaecodec", *map(str, args), "--bundle", BUNDLE]


def vaecodec(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, env=ENVIRONMENT)


def pictures(folder: Path, count: int) -> None:
    (folder / "inside").mkdir(parents=True)
    for index in range(count):
        where = folder / "inside" if index % 2 else folder
        Image.new("RGB", (64 + index, 48), (index, 90, 200)).save(where / f"{index:02}.png")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_tree_there_and_back(tmp_path: Path):
    pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "notes.txt").write_text("none of ours")
    (tmp_path / "in" / "bad.jpg").write_text("not a picture")
    there = vaecodec("compress", tmp_path / "in", tmp_path / "coded", "-r", "-j", "2")
    assert there.returncode == 3
    assert there.stdout == ""
    assert "bad.jpg: this is not an image" in there.stderr
    assert "done          4" in there.stderr
    assert "failed        1" in there.stderr
    assert "ignored       1" in there.stderr
    assert "MB/s" in there.stderr
    assert files(tmp_path / "coded") == ["00.vaec", "02.vaec", "inside/01.vaec", "inside/03.vaec"]
    back = vaecodec("decompress", tmp_path / "coded", tmp_path / "back", "-r", "--quiet")
    assert (back.returncode, back.stdout, back.stderr) == (0, "", "")
    assert files(tmp_path / "back") == ["00.png", "02.png", "inside/01.png", "inside/03.png"]
    with Image.open(tmp_path / "back" / "inside" / "03.png") as image:
        assert image.size == (67, 48)


def test_without_out_and_r_files_go_beside_their_sources(tmp_path: Path):
    pictures(tmp_path / "in", 2)
    run = vaecodec("compress", tmp_path / "in", "-v")
    assert run.returncode == 0
    assert "00.png -> " in run.stderr
    assert files(tmp_path / "in") == ["00.png", "00.vaec", "inside/01.png"]


def test_the_report_is_json_line_by_line(tmp_path: Path):
    pictures(tmp_path / "in", 2)
    (tmp_path / "in" / "bad.jpg").write_text("not a picture")
    (tmp_path / "in" / "notes.txt").write_text("none of ours")
    run = vaecodec("compress", tmp_path / "in", tmp_path / "out", "-r", "--json", "--quiet")
    *lines, last = (json.loads(line) for line in run.stdout.splitlines())
    assert sorted((Path(one["input"]).name, one["status"]) for one in lines) == [
        ("00.png", "done"),
        ("01.png", "done"),
        ("bad.jpg", "failed"),
    ]
    summary = last["summary"]
    assert (summary["done"], summary["failed"], summary["skipped"]) == (2, 1, 0)
    assert summary["ignored"] == 1
    assert summary["ignored_files"] == [str(tmp_path / "in" / "notes.txt")]
    assert summary["output_bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*.vaec")
    )
    alone = vaecodec("compress", tmp_path / "in" / "00.png", "--json")
    assert lines[0].keys() <= json.loads(alone.stdout).keys()


def test_several_files(tmp_path: Path):
    pictures(tmp_path / "in", 3)
    first, third = (tmp_path / "in" / name for name in ("00.png", "02.png"))
    second = tmp_path / "in" / "inside" / "01.png"
    run = vaecodec("compress", first, third, "--quiet")  # a file that is none of ours to write
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert files(tmp_path / "in") == ["00.png", "00.vaec", "02.png", "02.vaec", "inside/01.png"]
    (tmp_path / "out").mkdir()
    for paths in ((first, second, third, tmp_path / "out"), (first, tmp_path / "out")):
        assert vaecodec("compress", *paths, "--quiet", "--force").returncode == 0
        assert files(tmp_path / "out") == ["00.vaec", "01.vaec", "02.vaec"]
    coded = sorted((tmp_path / "out").iterdir())
    run = vaecodec("decompress", *coded, tmp_path / "none.vaec", "-o", f"{tmp_path}/back/")
    assert run.returncode == 3
    assert "none.vaec: cannot read" in run.stderr
    assert files(tmp_path / "back") == ["00.png", "01.png", "02.png"]
    (tmp_path / "in" / "inside" / "00.jpg").write_bytes(b"")
    for wrong, reason in (
        ((first, second, "-o", tmp_path / "file"), "several files go to a folder"),
        ((first, second, "-", "-o", tmp_path), "- is not one of several files"),
        ((first, second, tmp_path / "in" / "inside", "-o", tmp_path), "is not one of several"),
        ((first, tmp_path / "in" / "inside" / "00.jpg", "-o", tmp_path), "would both become"),
    ):
        run = vaecodec("compress", *wrong)
        assert run.returncode in (2, 3)
        assert reason in " ".join(run.stderr.split())
    run = vaecodec("denoise", first, third, tmp_path / "in")
    assert run.returncode == 2
    assert "cannot lie among the noisy" in " ".join(run.stderr.split())


def test_the_same_command_again_does_what_is_missing(tmp_path: Path):
    pictures(tmp_path / "in", 3)
    vaecodec("compress", tmp_path / "in", tmp_path / "out", "-r", "--quiet")
    (tmp_path / "out" / "00.vaec").unlink()
    kept = (tmp_path / "out" / "02.vaec").stat().st_mtime_ns
    again = vaecodec("compress", tmp_path / "in", tmp_path / "out", "-r")
    assert again.returncode == 0
    assert "done          1" in again.stderr
    assert "skipped       2" in again.stderr
    assert (tmp_path / "out" / "02.vaec").stat().st_mtime_ns == kept
    forced = vaecodec("compress", tmp_path / "in", tmp_path / "out", "-r", "--force")
    assert "done          3" in forced.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_after_a_kill_the_same_command_finishes_the_rest(tmp_path: Path, number: int):
    count = 60
    pictures(tmp_path / "in", count)
    line = command("compress", tmp_path / "in", tmp_path / "out", "-r", "-j", "2", "--quiet")
    process = subprocess.Popen(line, env=ENVIRONMENT, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/**/*.vaec")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(30)
    assert process.returncode in (-number, 128 + number)
    deadline = time.monotonic() + 30
    while _members(process.pid) and time.monotonic() < deadline:  # workers end by themselves
        time.sleep(0.05)
    assert not _members(process.pid)
    before = files(tmp_path / "out")
    assert 0 < len(before) < count
    assert all(name.endswith(".vaec") for name in before)
    rest = vaecodec("compress", tmp_path / "in", tmp_path / "out", "-r")
    assert rest.returncode == 0
    assert f"skipped  {len(before):6}" in rest.stderr
    assert len(files(tmp_path / "out")) == count
    checked = vaecodec("decompress", tmp_path / "out", tmp_path / "back", "-r")
    assert f"done     {count:6}" in checked.stderr


HANGING = """
import os, time
def fsync(_):
    for _ in range(60_000):  # not at once: a signal that comes just before a sleep does not end it
        time.sleep(0.01)
os.fsync = fsync
if __name__ == "__main__":  # and not in the workers, which are patched, too
    from vaecodec.cli import main
    main()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_all_processes_leaves_no_temporary_file(tmp_path: Path, number: int):
    """As a terminal sends it that is closed, here while two files are being written."""
    pictures(tmp_path / "in", 4)
    (tmp_path / "hanging.py").write_text(HANGING)
    line = command("compress", tmp_path / "in", tmp_path / "out", "-r", "-j", "2")
    line[1:3] = [str(tmp_path / "hanging.py")]
    process = subprocess.Popen(line, env=ENVIRONMENT, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("out/**/.*.tmp"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(files(tmp_path / "out")) == 2
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number
    deadline = time.monotonic() + 30
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _members(process.pid)
    assert files(tmp_path / "out") == []


def _members(group: int) -> bool:
    """Tell whether a process of this group is alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("in", "-"), 2, "cannot go to standard output"),
        (("in", "in/00.png"), 6, "is no folder"),
        (("in", "out", "--psnr"), 2, "--psnr"),
        (("in", "s3://box/out"), 2, "must be a folder, and goes with --engine ray"),
        (("s3://box/photo.jpg", "x.vaec"), 2, "must be a folder, and goes with --engine ray"),
        (("empty", "out"), 0, "nothing to do"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, args: tuple[str, ...], code: int, said: str):
    pictures(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    paths = [arg if arg.startswith(("-", "s3:")) else tmp_path / arg for arg in args]
    run = vaecodec("compress", *paths)
    assert run.returncode == code
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a file system that takes such names")
def test_names_that_steer_terminals_are_escaped(tmp_path: Path):
    (tmp_path / "bad\n\x1b[31m.jpg").write_text("not a picture")
    (tmp_path / "none.\x1b[31m").write_text("none of ours")
    run = vaecodec("compress", tmp_path)
    assert run.returncode == 3
    assert "\x1b" not in run.stderr
    assert f"error: {tmp_path}/bad\\n\\x1b[31m.jpg: this is not an image" in run.stderr
    assert "by their names: .\\x1b[31m 1" in run.stderr


def test_a_folder_called_like_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").mkdir()
    assert not folders.is_folder("-")
    assert folders.is_folder("./-")


def test_the_bar_counts_what_is_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Neither what was done before nor folders that cannot be read, but what others finish."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(b"12345")
    (tmp_path / "a.vaec").write_bytes(b"")
    real, bars = batch.list_folder, []

    def with_unreadable(*args: Any, **settings: Any) -> batch.Listing:
        listing = real(*args, **settings)
        listing.unreadable.append(failed(Task("secret", ""), InputError("cannot list")))
        return listing

    def ended(_: Any, tasks: list[Task], *__: Any, **___: Any) -> Generator[Outcome]:
        yield Outcome(tasks[0].source, tasks[0].target, "done", 5, 1, 1, 1)
        yield Outcome(tasks[1].source, tasks[1].target, "skipped", 5)

    @contextmanager
    def shown(to_do: list[Task], **_: Any) -> Generator[progress.Bar]:
        bars.append(progress.Bar(to_do))
        yield bars[0]

    monkeypatch.setattr(batch, "list_folder", with_unreadable)
    monkeypatch.setattr(folders, "_start", ended)
    monkeypatch.setattr(folders, "shown", shown)
    settings = {"recursive": False, "jobs": 1, "force": False, "as_json": False, "verbosity": 0}
    with pytest.raises(typer.Exit):
        folders.process_many(Compress(), [str(tmp_path)], None, quiet=True, **settings)
    (bar,) = bars[0].progress.tasks
    assert bar.finished
    assert bar.completed == bar.total
    assert bar.fields["count"] == "2/2"
