"""Folders: what is listed, where it goes, and what becomes of each file."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vaecodec import batch
from vaecodec.batch import Listing, list_files, list_folder, output_names, put_file, run, split_done
from vaecodec.bundle import Bundle
from vaecodec.cli.paths import choose_target
from vaecodec.codec import Codec
from vaecodec.container import pack, unpack
from vaecodec.errors import (
    ExitCode,
    InputError,
    ModelMismatchError,
    ModelNotFoundError,
    OutputError,
    RuntimeUnavailableError,
    VaecodecError,
)
from vaecodec.fileio import read_bytes
from vaecodec.jobs import Compress, Decompress, Job, Made, Outcome, Task, Work
from vaecodec.limits import DEFAULT_LIMITS, Limits

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


@dataclass(frozen=True)
class Upper:
    """A job that needs no model, and does to its process what a file says."""

    limits: Limits = DEFAULT_LIMITS
    suffix: str = ".out"

    def takes(self, suffix: str) -> bool:
        return suffix == ".txt"

    def open(self, threads: int | None) -> Work:
        return lambda data: work(data, threads)


@dataclass(frozen=True)
class Stillborn(Upper):
    """A job that no process survives to open."""

    marks: str = ""

    def open(self, threads: int | None) -> Work:
        (Path(self.marks) / str(os.getpid())).touch()
        os._exit(7)


def work(data: bytes, threads: int | None) -> Made:
    match data:
        case b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"signal":
            os.kill(os.getpid(), signal.SIGUSR1)
        case b"exit":
            os._exit(7)
        case b"bug":
            raise KeyError("a mistake of ours")
        case b"memory":
            raise MemoryError
        case b"print":
            os.write(1, b"what libraries print")
        case b"sleep" | b"deaf":
            if data == b"deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (Path(os.environ["MARKS"]) / str(os.getpid())).touch()
            time.sleep(120)
        case _:
            pass
    return Made(data.upper(), threads or 0, 1, ("noticed",))


def place(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)


def listed(
    source: Path, target: Path, job: Job | None = None, *, recursive: bool = True
) -> Listing:
    return list_folder(str(source), str(target), job or Upper(), recursive=recursive)


def run_all(
    source: Path, target: Path, *, processes: int = 2, force: bool = False
) -> list[Outcome]:
    tasks, done = split_done(listed(source, target).tasks, force=force)
    return done + list(run(Upper(), tasks, processes=processes, threads=1, force=force))


def targets(listing: Listing, below: Path) -> dict[str, str]:
    return {
        Path(task.source).name: str(Path(task.target).relative_to(below)) for task in listing.tasks
    }


def test_the_tree_is_mirrored(tmp_path: Path):
    place(tmp_path / "in", a="a")
    place(tmp_path / "in" / "deep" / "er", b="b")
    (tmp_path / "in" / "picture.jpg").write_bytes(b"")
    (tmp_path / "in" / "README").write_bytes(b"")
    found = listed(tmp_path / "in", tmp_path / "out")
    assert targets(found, tmp_path / "out") == {"a.txt": "a.out", "b.txt": "deep/er/b.out"}
    assert found.ignored == [str(tmp_path / "in" / name) for name in ("README", "picture.jpg")]
    assert found.ignored_suffixes == {".jpg": 1, "": 1}
    flat = listed(tmp_path / "in", tmp_path / "out", recursive=False)
    assert targets(flat, tmp_path / "out") == {"a.txt": "a.out"}


def test_inputs_that_would_share_an_output_keep_their_whole_names(tmp_path: Path):
    for name in ("a.jpg", "a.PNG", "a.jpg.jpg", "b.png", "deep/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = listed(tmp_path, tmp_path, Compress())
    outputs = [os.path.relpath(task.target, tmp_path) for task in found.tasks]
    wanted = ["a.PNG.vaec", "a.jpg.jpg.vaec", "a.jpg.vaec", "b.vaec", "deep/a.vaec"]
    assert sorted(outputs) == wanted


def test_a_dot_in_a_name_begins_no_suffix_unless_it_is_one_of_ours(tmp_path: Path):
    names = ("photo v1.2", "photo v1.3", "IMG.0001.jpg", "old.backup", ".png", "a.vaec")
    for name in names:
        (tmp_path / name).touch()
    tasks = list_files([str(tmp_path / name) for name in names], None, Compress()).tasks
    assert [Path(task.target).name for task in tasks] == [
        *("photo v1.2.vaec", "photo v1.3.vaec", "IMG.0001.vaec", "old.backup.vaec", ".png.vaec"),
        "a.vaec",
    ]
    assert choose_target("in/photo v1.2", None, ".vaec") == os.path.join("in", "photo v1.2.vaec")
    assert choose_target("photo v1.2.vaec", None, ".png") == "photo v1.2.png"
    assert choose_target("photo v1.2", str(tmp_path), ".png") == str(tmp_path / "photo v1.2.png")
    assert choose_target("photo v1.2", None, ".denoised.png") == "photo v1.2.denoised.png"
    assert choose_target("photo.JPG", None, ".vaec") == "photo.vaec"


def test_names_that_are_one_to_some_file_systems_share_an_output():
    names = ("IMG_1.jpg", "img_1.png", "\u00e9.jpg", "e\u0301.png", "B.JPG.png", "b.jpg", "c.png")
    outputs = dict(output_names(names, Compress(), []))
    assert outputs.pop("c.png") == "c.vaec"
    assert outputs.pop("b.jpg") == "b.vaec"
    assert outputs == {name: f"{name}.vaec" for name in outputs}


def test_what_macos_puts_beside_images_is_ignored():
    ignored: list[str] = []
    assert dict(output_names(("._a.jpg", "a.jpg"), Compress(), ignored)) == {"a.jpg": "a.vaec"}
    assert ignored == ["._a.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_pipes_are_no_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would wait for ever
    (tmp_path / "lost.txt").symlink_to("nowhere")
    (task,) = listed(tmp_path, tmp_path).tasks
    assert Path(task.source).name == "lost.txt"


def test_jobs_take_what_is_theirs():
    assert all(Compress().takes(suffix) for suffix in (".jpg", ".png", ".tif", ".webp", ".avif"))
    assert not Compress().takes(".vaec")
    assert Decompress().takes(".vaec")
    assert not Decompress().takes(".png")


def test_a_folder_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot list"):
        listed(tmp_path / "nowhere", tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_inside_that_cannot_be_listed_is_one_failure(tmp_path: Path):
    place(tmp_path / "in", a="a")
    place(tmp_path / "in" / "secret", b="b")
    (tmp_path / "in" / "secret").chmod(0)
    found = listed(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "secret").chmod(0o700)
    assert len(found.tasks) == 1
    assert [(one.status, one.exit_code) for one in found.unreadable] == [("failed", 3)]


def test_links_to_folders_are_not_followed(tmp_path: Path):
    place(tmp_path / "in", a="a")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert len(listed(tmp_path / "in", tmp_path / "out").tasks) == 1


def test_every_file_gets_one_outcome(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VAECODEC_DEBUG", "1")
    texts = {f"n{index}": f"text {index}" for index in range(8)}
    deaths = {"x": "kill", "v": "signal", "w": "exit"}
    place(tmp_path / "in", **texts, **deaths, y="bug", z="memory", p="print")
    outcomes = run_all(tmp_path / "in", tmp_path / "out")
    by_name = {Path(one.source).stem: one for one in outcomes}
    assert len(outcomes) == len(by_name) == 14
    for name, text in texts.items():
        assert (tmp_path / "out" / f"{name}.out").read_text() == text.upper()
        one = by_name[name]
        assert (one.status, one.input_bytes, one.width, one.notices) == (
            "done",
            len(text),
            1,
            ("noticed",),
        )
    codes = {name: by_name[name].exit_code for name in "vwxyz"}
    assert codes == {**dict.fromkeys("xz", ExitCode.LIMIT), **dict.fromkeys("vwy", ExitCode.BUG)}
    assert "memory: try fewer at a time: -j 1" in by_name["x"].error
    assert by_name["v"].error == f"its process was ended by signal {int(signal.SIGUSR1)}"
    assert by_name["w"].error == "its process exited with code 7"
    assert "KeyError" in by_name["y"].error
    assert len(list((tmp_path / "out").iterdir())) == 9
    shown = capfd.readouterr()
    assert "libraries" not in shown.out
    assert "Traceback" in shown.err
    assert shown.err.rstrip().endswith("KeyError: 'a mistake of ours'")


def test_what_is_done_is_done_once(tmp_path: Path):
    place(tmp_path / "in", a="new", b="b")
    place(tmp_path / "out")
    (tmp_path / "out" / "a.out").write_text("old")
    outcomes = {Path(one.source).stem: one for one in run_all(tmp_path / "in", tmp_path / "out")}
    assert (outcomes["a"].status, outcomes["b"].status) == ("skipped", "done")
    assert (tmp_path / "out" / "a.out").read_text() == "old"
    again = run_all(tmp_path / "in", tmp_path / "out", force=True)
    assert {one.status for one in again} == {"done"}
    assert (tmp_path / "out" / "a.out").read_text() == "NEW"


def test_what_is_no_file_is_not_done(tmp_path: Path):
    place(tmp_path / "in", a="a", b="b", c="c")
    (tmp_path / "out" / "a.out").mkdir(parents=True)
    (tmp_path / "out" / "b.out").symlink_to("made")
    (tmp_path / "out" / "c.out").symlink_to("nowhere/made")
    tasks, done = split_done(listed(tmp_path / "in", tmp_path / "out").tasks, force=False)
    assert (len(tasks), done) == (3, [])
    for task, error in zip(tasks, ("it is a folder", "", "there is no folder"), strict=True):
        with pytest.raises(OutputError, match=error) if error else contextlib.nullcontext():
            put_file(task.target, b"made", force=False)
    assert (tmp_path / "out" / "made").read_text() == "made"


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path):
    place(tmp_path / "in", a="new")
    tasks = listed(tmp_path / "in", tmp_path / "out").tasks
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.out").write_text("of another")
    (outcome,) = run(Upper(), tasks, processes=1, threads=1, force=False)
    assert outcome.status == "skipped"
    assert (tmp_path / "out" / "a.out").read_text() == "of another"


def test_an_output_that_cannot_be_written_is_one_failure(tmp_path: Path):
    place(tmp_path / "in", a="a")
    place(tmp_path / "in" / "deep", b="b")
    place(tmp_path / "out")
    (tmp_path / "out" / "deep").write_text("in the way")
    outcomes = {Path(one.source).stem: one for one in run_all(tmp_path / "in", tmp_path / "out")}
    assert outcomes["a"].status == "done"
    assert outcomes["b"].exit_code == ExitCode.OUTPUT


def test_closing_ends_what_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One process that is at a file, and one that will not end by itself."""
    monkeypatch.setattr(batch, "_PATIENCE_S", 1)
    monkeypatch.setenv("MARKS", str(tmp_path / "marks"))
    (tmp_path / "marks").mkdir()
    place(tmp_path / "in", a="a", b="sleep", c="deaf")
    tasks = listed(tmp_path / "in", tmp_path / "out").tasks
    outcomes = run(Upper(), tasks, processes=3, threads=1, force=False)
    assert Path(next(outcomes).source).stem == "a"
    deadline = time.monotonic() + 60
    while len(begun := list((tmp_path / "marks").iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(begun) == 2
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 30
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.out"]
    for path in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_nothing_to_do_starts_nothing():
    assert list(run(Upper(), [], processes=0, threads=1, force=False)) == []


def test_a_job_that_cannot_be_opened_ends_the_run(tmp_path: Path):
    task = Task(str(tmp_path / "a.jpg"), str(tmp_path / "a.vaec"))
    with pytest.raises(ModelNotFoundError, match="no-such"):
        list(run(Compress(bundle="no-such"), [task], processes=1, threads=1, force=False))


def test_a_process_that_dies_as_it_opens_the_job_ends_the_run(tmp_path: Path):
    (tmp_path / "marks").mkdir()
    place(tmp_path / "in", **{f"n{index}": "a" for index in range(8)})
    job = Stillborn(marks=str(tmp_path / "marks"))
    tasks = listed(tmp_path / "in", tmp_path / "out").tasks
    with pytest.raises(VaecodecError, match="its process exited with code 7") as died:
        list(run(job, tasks, processes=1, threads=1, force=False))
    assert died.value.__notes__ == ["loading the model"]
    assert len(list((tmp_path / "marks").iterdir())) == 1


def test_a_missing_runtime_is_noticed_once(monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> None:
        raise RuntimeUnavailableError("none")

    monkeypatch.setattr("vaecodec.runtime.load_onnxruntime", missing)
    with pytest.raises(RuntimeUnavailableError):
        Decompress().open(1)


def test_a_given_bundle_is_loaded_once(monkeypatch: pytest.MonkeyPatch):
    opened: list[Path] = []

    class Counted(Codec):
        def __init__(self, bundle: Bundle, *args: Any, **settings: Any) -> None:
            opened.append(bundle.path)
            super().__init__(bundle, *args, **settings)

    monkeypatch.setattr("vaecodec.codec.Codec", Counted)
    decode = Decompress(bundle=str(GOLDEN / "bundle")).open(1)
    good = (GOLDEN / "grey.vaec").read_bytes()
    container = unpack(good)
    other = pack(replace(container, header=replace(container.header, model_id=bytes(8))))
    for _ in range(2):
        assert decode(good).width == container.header.width
        with pytest.raises(ModelMismatchError):
            decode(other)
    assert len(opened) == 1


def test_images_there_and_back(tmp_path: Path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for index, mode in enumerate(("L", "RGB", "RGBA")):
        Image.new(mode, (40 + index, 30)).save(tmp_path / "in" / f"{mode}.png")
    bundle = str(GOLDEN / "bundle")
    back = Decompress(suffix=".tif", bundle=bundle)
    for source, target, job in (
        ("in", "coded", Compress(bundle=bundle)),
        ("coded", "back", back),
    ):
        tasks = listed(tmp_path / source, tmp_path / target, job).tasks
        outcomes = list(run(job, tasks, processes=2, threads=1, force=False))
        assert [one.error for one in outcomes] == [""] * 3
    with Image.open(tmp_path / "back" / "RGBA.tif") as image:
        assert (image.mode, image.size) == ("RGBA", (42, 30))
    made = back.open(1)(read_bytes(tmp_path / "coded" / "L.vaec"))
    assert (made.width, made.height) == (40, 30)


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are of Linux")
@pytest.mark.parametrize(
    ("said", "count"), [("150000 100000", 2), ("max 100000", 9), ("10 100000", 1), ("", 9)]
)
def test_a_containers_quota_bounds_the_cores(
    said: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "cpu.max").write_text(said)
    monkeypatch.setattr(batch, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    assert batch.cores() == batch.default_processes(Compress()) == count
    assert batch.default_processes(Compress(device="cuda")) == 1
    (tmp_path / "cpu.max").unlink()
    assert batch.cores() == 9
