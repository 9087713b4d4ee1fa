"""Folders on a real Ray cluster of two machines, one of them killed on the way, and on stores."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import SAMPLES

from vaecodec import ray_engine, stores
from vaecodec.codec import Codec
from vaecodec.errors import (
    ExitCode,
    InputError,
    LimitError,
    ModelNotFoundError,
    OutputError,
    OutputExistsError,
    RuntimeUnavailableError,
)
from vaecodec.jobs import Compress, Decompress, Job, Made, Outcome, Task, Work
from vaecodec.limits import DEFAULT_LIMITS, Limits

ray: Any = pytest.importorskip("ray.data") and sys.modules["ray"]
moto_server = pytest.importorskip("moto.server")

ROOT = Path(__file__).parents[2]
BUNDLE = str(ROOT / "tests" / "golden" / "v1" / "bundle")
COMPRESS = Compress(bundle=BUNDLE)
STORE = 2**27
EVERYTHING = {"recursive": True, "must_exist": True}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),  # of Ray, at Ray
    # Files and sockets that Ray and moto leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_bundle_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(BUNDLE).parent)
    located = ray_engine._located(Compress(bundle="bundle", quality=30))
    assert located == Compress(bundle=BUNDLE, quality=30)
    for job in (Compress(), Decompress()):
        assert ray_engine._located(job) == job
    with pytest.raises(ModelNotFoundError, match="no bundle named nowhere"):
        ray_engine._located(Compress(bundle="nowhere"))


@dataclass(frozen=True)
class Traced:
    """A job that leaves a mark when a process is at a file, and stays there for a while."""

    inner: Job
    marks: str
    limits: Limits = DEFAULT_LIMITS
    suffix: str = ".vaec"

    def takes(self, suffix: str) -> bool:
        return self.inner.takes(suffix)

    def open(self, threads: int | None) -> Work:
        work = self.inner.open(threads)

        def slowly(data: bytes) -> Made:
            (Path(self.marks) / f"{time.time_ns()}-{os.getpid()}").touch()
            time.sleep(0.5)
            return work(data)

        return slowly


@dataclass(frozen=True)
class Upper:
    """A job that needs no model."""

    limits: Limits = DEFAULT_LIMITS
    suffix: str = ".out"

    def takes(self, suffix: str) -> bool:
        return suffix == ".txt"

    def open(self, threads: int | None) -> Work:
        return lambda data: Made(data.upper(), 1, 1)


@pytest.fixture(scope="module")
def s3() -> Generator[str]:
    """The address of a server that speaks as S3 does, with a bucket."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        bucket = urllib.request.Request(f"{url}/photos", method="PUT")  # noqa: S310
        urllib.request.urlopen(bucket).close()  # noqa: S310
        yield "s3://photos"
    server.stop()


@pytest.fixture(scope="module")
def cluster(s3: str) -> Generator[Any]:
    """A driver's machine without a core to work with, and two workers with one each."""
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        made = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=STORE)
        handlers = logging.getLogger("ray.data").handlers
        levels = [handler.level for handler in handlers]
        # Connected to once, which takes seconds; `run` uses a connection that is there.
        with ray_engine._cluster(made.address):
            yield made
        assert not ray.is_initialized()
        assert [handler.level for handler in handlers[: len(levels)]] == levels
        made.shutdown()


def photographs(folder: Path, count: int) -> None:
    with Image.open(SAMPLES / "forest-from-above.jpg") as image:
        for index in range(count):
            left, top = 100 * (index % 10), 100 * (index // 10)
            where = folder / "inside" if index % 3 == 0 else folder
            where.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + 96, top + 80)).save(where / f"{index:02}.png")


def run_all(source: str | Path, target: str | Path, job: Job = COMPRESS) -> list[Outcome]:
    listing = stores.list_folder(str(source), str(target), job, recursive=True)
    tasks, done = stores.split_done(listing.tasks, force=False)
    return done + list(run(job, tasks))


def run(job: Job, tasks: list[Task]) -> Generator[Outcome]:
    return ray_engine.run(job, tasks, processes=0, threads=1, force=False)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def coded(count: int) -> set[str]:
    """The outputs of `photographs`."""
    return {f"{'inside/' if index % 3 == 0 else ''}{index:02}.vaec" for index in range(count)}


def parent(process: str) -> int:
    """The process that started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def fresh_mark(marks: Path) -> str:
    """Wait until a process begins with a file, and return its number."""
    end = time.monotonic() + 60
    known = set(marks.iterdir())
    while time.monotonic() < end:
        if new := set(marks.iterdir()) - known:
            return min(new).name.partition("-")[2]
        time.sleep(0.01)
    raise TimeoutError("no process began with a file")


def statuses(outcomes: list[Outcome]) -> dict[str, str]:
    found = {Path(one.source).name: one.status for one in outcomes}
    assert len(found) == len(outcomes), "an outcome is doubled"
    return found


def test_a_machine_that_dies_loses_nothing_and_doubles_nothing(cluster: Any, tmp_path: Path):
    source, target, marks = tmp_path / "in", tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    photographs(source, 14)
    (source / "bad.jpg").write_bytes(b"none")
    job = Traced(COMPRESS, str(marks))
    tasks = stores.list_folder(source.as_uri(), target.as_uri(), job, recursive=True).tasks
    outcomes: list[Outcome] = []
    for outcome in run(job, tasks):
        outcomes.append(outcome)
        if len(outcomes) == 3:
            process = fresh_mark(marks)
            machine = parent(process)  # whose death its processes do not survive for long
            os.kill(machine, signal.SIGKILL)
            os.kill(int(process), signal.SIGKILL)
    (dead,) = (
        node
        for node in cluster.worker_nodes
        if node.all_processes["raylet"][0].process.pid == machine
    )
    cluster.remove_node(dead, allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=STORE)

    found = statuses(outcomes)
    assert found.pop("bad.jpg") == "failed"
    assert set(found.values()) == {"done"}
    assert {one.source for one in outcomes} == {task.source for task in tasks}
    assert files(target) == coded(14)  # none is missing, and no temporary file is there
    assert len(list(marks.iterdir())) > len(tasks)  # what was begun was begun again
    codec = Codec(BUNDLE)
    for one in outcomes:
        if one.status == "done":
            assert codec.decode(Path(one.target).read_bytes()).size == (96, 80)
            assert (one.width, one.height, one.output_bytes) == (
                96,
                80,
                os.path.getsize(one.target),
            )
    assert {one.exit_code for one in outcomes} == {ExitCode.OK, ExitCode.INPUT}
    to_do, done = stores.split_done(tasks, force=False)
    assert [Path(task.source).name for task in to_do] == ["bad.jpg"]
    assert len(done) == 14


def test_a_store_to_a_store_and_to_files(cluster: Any, s3: str, tmp_path: Path):
    photographs(tmp_path / "in", 4)
    for name in files(tmp_path / "in"):
        stores.write(f"{s3}/there/{name}", (tmp_path / "in" / name).read_bytes())
    stores.write(f"{s3}/there/a b%20?/bad.jpg", b"none")
    stores.write(f"{s3}/there/notes.txt", b"of no interest")
    outcomes = run_all(f"{s3}/there/", f"{s3}/coded")
    assert statuses(outcomes) == {
        "00.png": "done",
        "01.png": "done",
        "02.png": "done",
        "03.png": "done",
        "bad.jpg": "failed",
    }
    made = {one.target: one for one in outcomes if one.status == "done"}
    assert set(made) == {f"{s3}/coded/{name}" for name in coded(4)}
    codec = Codec(BUNDLE)
    for address, one in made.items():
        data = stores.read(address)
        assert codec.decode(data).size == (96, 80)
        assert one.output_bytes == len(data)
    tasks = stores.list_folder(f"{s3}/there", f"{s3}/coded", COMPRESS, recursive=True).tasks
    to_do, done = stores.split_done(tasks, force=False)
    assert [Path(task.source).name for task in to_do] == ["bad.jpg"]
    assert {one.target: one.output_bytes for one in done} == {
        address: one.output_bytes for address, one in made.items()
    }

    back = (tmp_path / "b ck").as_uri()
    outcomes = run_all(f"{s3}/coded", back, Decompress(bundle=BUNDLE))
    assert set(statuses(outcomes).values()) == {"done"}
    assert files(tmp_path / "b ck") == files(tmp_path / "in")


def test_outputs_that_appear_meanwhile(cluster: Any, tmp_path: Path):
    for name in ("same", "other"):
        (tmp_path / f"{name}.txt").write_text(name)
    tasks = stores.list_folder(str(tmp_path), str(tmp_path), Upper(), recursive=False).tasks
    (tmp_path / "same.out").write_text("SAME")  # as an actor leaves it that then dies
    (tmp_path / "other.out").write_text("of another")
    assert statuses(list(run(Upper(), tasks))) == {"same.txt": "done", "other.txt": "skipped"}
    assert (tmp_path / "other.out").read_text() == "of another"


def test_a_job_that_cannot_be_opened_ends_the_run(cluster: Any, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"none")
    with pytest.raises(ModelNotFoundError, match="no-such"):
        run_all(tmp_path, tmp_path, Compress(bundle="no-such"))


def test_a_device_that_the_cluster_lacks(cluster: Any, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"none")
    with pytest.raises(RuntimeUnavailableError, match="has a GPU"):
        run_all(tmp_path, tmp_path, Compress(device="cuda"))


COMMAND = """
import os, signal, sys
from vaecodec.cli.folders import process_many
from vaecodec.jobs import Compress, Made

class Deadly(Compress):
    def takes(self, suffix):
        return suffix == ".txt"

    def open(self, threads):
        def work(data):
            if data == b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return Made(data.upper(), 1, 1)

        return work

process_many(
    Deadly(), [sys.argv[1]], None, recursive=True, jobs=2, force=False, quiet=False,
    as_json=True, verbosity=0, engine="ray", ray_address="local",
)
"""


def test_a_file_that_ends_processes_fails_alone_and_quietly(tmp_path: Path):
    """On a cluster that is started for it, and ended."""
    for index in range(5):
        (tmp_path / f"{index}.txt").write_text("kill" if index == 2 else f"text {index}")
    command = [sys.executable, "-c", COMMAND, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    *lines, last = (json.loads(line) for line in done.stdout.splitlines())  # and nothing of Ray's
    outcomes = {Path(line["input"]).stem: line for line in lines}
    assert [outcomes[name]["status"] for name in "0134"] == ["done"] * 4
    assert outcomes["2"]["exit_code"] == ExitCode.LIMIT
    assert "3 processes ended at it" in outcomes["2"]["error"]
    assert (last["summary"]["done"], last["summary"]["failed"]) == (4, 1)
    assert (tmp_path / "4.vaec").read_text() == "TEXT 4"
    assert files(tmp_path) == {f"{name}.txt" for name in "01234"} | {
        f"{name}.vaec" for name in "0134"
    }
    shown = done.stderr.partition("Traceback")[0].splitlines()  # of the Exit, which nobody catches
    assert len(shown) == 4, done.stderr  # the failure and the summary


class Remote:
    """Calls a method at once, where Ray would send it to another process."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Ledger:
    """The ledger, in this process."""

    def __init__(self) -> None:
        ledger = ray_engine._Ledger()
        self.begin, self.end = Remote(ledger.begin), Remote(ledger.end)
        self.forget = Remote(ledger.forget)


def answer(actor: Callable[..., dict[str, bytes]], tasks: list[tuple[int, Task]]) -> Any:
    return pickle.loads(actor({"tasks": pickle.dumps(tasks)})["answer"])  # noqa: S301


def test_an_actor_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray, "get", lambda value: value)
    (tmp_path / "a.txt").write_text("a")
    tasks = [(number, Task(str(tmp_path / "a.txt"), str(tmp_path / "a.out"))) for number in (7, 8)]
    ledger = Ledger()
    for _ in range(3):
        ledger.begin.remote(8)  # and never ended
    actor = ray_engine._Actor(ledger, Upper(), 1, force=False)
    for written in (b"A", b"A, as another machine would make it"):  # a block may be repeated
        (seven, done), (eight, given_up) = answer(actor, tasks)
        assert (seven, done.status, done.output_bytes) == (7, "done", 1)
        assert (eight, given_up.status, given_up.exit_code) == (8, "failed", ExitCode.LIMIT)
        (tmp_path / "a.out").write_bytes(written)
    ledger.forget.remote([7, 8])
    assert answer(actor, tasks[:1])[0][1].status == "skipped"
    unopened = ray_engine._Actor(ledger, Compress(bundle="no-such"), 1, force=False)
    assert isinstance(answer(unopened, tasks), ModelNotFoundError)


def test_room_on_a_cluster():
    class Cluster:
        def __init__(self, **resources: float) -> None:
            self.cluster_resources = lambda: resources

    room = ray_engine._room
    assert room(Cluster(CPU=7), COMPRESS, 0, 2) == (3, {"num_cpus": 2})
    assert room(Cluster(CPU=7), COMPRESS, 5, 1) == (5, {"num_cpus": 1})
    assert room(Cluster(), COMPRESS, 0, 1) == (1, {"num_cpus": 1})
    on_cuda = Compress(device="cuda")
    assert room(Cluster(CPU=8, GPU=2), on_cuda, 0, 1) == (2, {"num_cpus": 1, "num_gpus": 1})
    assert room(Cluster(CPU=8, GPU=2), on_cuda, 3, 1) == (3, {"num_cpus": 1, "num_gpus": 0.5})


@pytest.mark.parametrize("cores", [0, 1])
def test_a_cluster_without_a_free_core_is_told_of(cores: int, monkeypatch: pytest.MonkeyPatch):
    class Cluster:
        exceptions = ray.exceptions

        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 1}

        def available_resources(self) -> dict[str, float]:
            return {"CPU": cores} if cores else {}

    def give_up(*_: Any) -> Generator[Any]:
        raise ray.exceptions.RayError  # which says nothing
        yield

    monkeypatch.setattr(ray_engine, "_cluster", lambda _: contextlib.nullcontext(Cluster()))
    monkeypatch.setattr(ray_engine, "_answers", give_up)
    told: list[str] = []
    settings = {"processes": 0, "threads": 1, "force": False, "tell": told.append}
    with pytest.raises(RuntimeUnavailableError, match="gave up: RayError"):
        list(ray_engine.run(Upper(), [Task("a.txt", "a.out")], **settings))
    assert bool(told) == (cores == 0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "host:port", ":99999"])
def test_a_cluster_that_does_not_answer(address: str):
    with pytest.raises(RuntimeUnavailableError, match="no Ray cluster at"):
        ray_engine._connect(ray, address)


def test_nothing_to_do_starts_nothing():
    assert list(run(Upper(), [])) == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    task = Task("a.txt", "a.out")
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'vaecodec\[cpu,ray\]'"):
        list(run(Upper(), [task]))
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'vaecodec\[cpu,ray\]'"):
        stores.read("ftp://nowhere/a.txt")


@pytest.mark.parametrize("store", ["memory", "mock"])
def test_stores_of_fsspec_and_pyarrow(store: str):
    """`memory` is an object store of fsspec; in `mock`, of pyarrow, files are moved to a place."""
    root = f"{store}://box-{time.time_ns()}"
    for name in ("a.txt", "a.TXT", "deep/er/b.txt", "deep/c.jpg"):
        stores.write(f"{root}/in/{name}", name.encode())
    listing = stores.list_folder(f"{root}/in/", f"{root}/out/", Upper(), recursive=True)
    assert [(task.source, task.target, task.input_bytes) for task in listing.tasks] == [
        (f"{root}/in/a.TXT", f"{root}/out/a.TXT.out", 5),
        (f"{root}/in/a.txt", f"{root}/out/a.txt.out", 5),
        (f"{root}/in/deep/er/b.txt", f"{root}/out/deep/er/b.out", 13),
    ]
    assert listing.ignored == [f"{root}/in/deep/c.jpg"]
    flat = stores.list_folder(f"{root}/in", f"{root}/out", Upper(), recursive=False)
    assert len(flat.tasks) == 2

    first = listing.tasks[0]
    stores.write(first.target, b"new")
    stores.write(first.target, memoryview(b"new"))
    with pytest.raises(OutputExistsError):
        stores.write(first.target, b"newer")
    assert stores.read(first.target) == b"new"
    stores.write(first.target, b"newest", force=True)
    to_do, done = stores.split_done(listing.tasks, force=False)
    assert to_do == listing.tasks[1:]
    assert [(one.status, one.output_bytes) for one in done] == [("skipped", 6)]
    assert len(stores.split_done(listing.tasks, force=True)[0]) == 3

    with pytest.raises(LimitError):
        stores.read(first.target, Limits(max_file_bytes=5))
    with pytest.raises(InputError, match="cannot read"):
        stores.read(f"{root}/in/none.txt")
    with pytest.raises(InputError, match="cannot list"):
        stores.list_folder(f"{root}/none", f"{root}/out", Upper(), recursive=True)
    if store == "mock":  # the other knows no folders
        with pytest.raises(OutputError, match="cannot write"):
            stores.write(f"{root}/in/deep", b"a folder is there", force=True)
        assert not [name for name in stores._sizes(root, **EVERYTHING) if name.endswith(".tmp")]


class Failing:
    """An object store whose stream takes half of what it is given, or does not even open."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.objects: dict[str, bytes] = {"box/a": b"old"}

    def open_output_stream(self, path: str) -> Any:
        if self.fails == "open":
            raise PermissionError("not yours")
        return FailingStream(self, path)

    def delete_file(self, path: str) -> None:
        del self.objects[path]


class FailingStream:
    def __init__(self, store: Failing, path: str) -> None:
        self.store, self.path, self.taken = store, path, b""

    def write(self, data: bytes) -> None:
        self.taken = data[:1]
        if self.store.fails == "interrupt":
            raise KeyboardInterrupt
        raise OSError("a part was not taken")

    def close(self) -> None:
        if self.store.fails == "close":
            raise OSError("not taken either")
        self.store.objects[self.path] = self.taken


@pytest.mark.parametrize(
    ("fails", "error", "left"),
    [
        ("open", OutputError, {"box/a": b"old"}),
        ("close", OutputError, {"box/a": b"old"}),
        ("write", OutputError, {}),
        ("interrupt", KeyboardInterrupt, {}),
    ],
)
def test_half_an_object_is_none(
    fails: str, error: type[BaseException], left: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    store = Failing(fails)
    monkeypatch.setattr(stores, "_locate", lambda _: (store, "box/a"))
    with pytest.raises(error):
        stores.write("s3://box/a", b"new", force=True)
    assert store.objects == left


def test_files_go_to_a_store(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    (task,) = stores.list_folder(str(tmp_path), "s3://box/out/", Upper(), recursive=True).tasks
    assert task == Task(str(tmp_path / "deep" / "a.txt"), "s3://box/out/deep/a.out", 1)


def test_a_file_that_is_in_the_way(tmp_path: Path):
    (tmp_path / "a.out").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        stores.write(str(tmp_path / "a.out"), b"a")
    stores.write(str(tmp_path / "b" / "b.out"), b"b")
    stores.write(str(tmp_path / "b" / "b.out"), b"b")
    with pytest.raises(OutputExistsError):
        stores.write(str(tmp_path / "b" / "b.out"), b"c")


def test_addresses_that_lead_nowhere():
    with pytest.raises(InputError, match="Protocol not known"):
        stores.read("no-such-store://box/a.txt")
    with pytest.raises(InputError, match="environment") as refused:
        stores.list_folder("s3://box/in?secret_key=x", "out", Upper(), recursive=True)
    assert "secret_key" not in str(refused.value)


def test_names_that_lead_out_of_the_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "_sizes", lambda *_, **__: {"../../a.txt": 1, "b.txt": 1})
    listing = stores.list_folder("s3://box/in", "/out", Upper(), recursive=True)
    assert [task.target for task in listing.tasks] == ["/out/b.out"]
    assert [one.exit_code for one in listing.unreadable] == [ExitCode.INPUT]
