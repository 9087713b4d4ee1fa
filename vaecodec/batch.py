"""Folders of files, by several processes of this machine.

Each process has a codec of its own and takes one file at a time, so that reading, networks and
entropy coding of neighbours overlap, and one core is never left idle by another's serial part.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path, PurePath
from unicodedata import normalize

from vaecodec.errors import InputError, InsufficientMemoryError, OutputError, VaecodecError
from vaecodec.fileio import APPLE_DOUBLE, read_bytes, unwind_on_signals, walk, write_atomic
from vaecodec.jobs import Job, Outcome, Task, bound_memory, carry_out, failed, stem_of
from vaecodec.origin import Origin

_PATIENCE_S = 10
"""How long workers that were told to end may take, before they are made to."""
_KILLED = -9
"""The exit code of SIGKILL, by which systems that run out of memory end processes."""


_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of all cores in a period, and the period, of a cgroup of version 2."""
_WINDOWS_WORKERS = 61
"""How many a process can wait for there."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds for a job.

    Attributes:
        tasks: in the order of their names.
        ignored: files that are none of the job's.
        unreadable: folders that could not be listed, and why.
    """

    tasks: list[Task]
    ignored: list[str] = field(default_factory=list[str])
    unreadable: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def ignored_suffixes(self) -> Counter[str]:
        """How many files are none of the job's, by suffix."""
        return Counter(PurePath(name).suffix.lower() for name in self.ignored)


def cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    count = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max" instead of a quota
        quota, period = (int(number) for number in _CPU_QUOTA.read_text().split())
        count = min(count, -(-quota // period))
    return max(count, 1)


def default_processes(job: Job) -> int:
    """Return how many files to work on at a time: one for each core, or on a GPU one."""
    if getattr(job, "device", "cpu") == "cuda":
        return 1
    return min(cores(), _WINDOWS_WORKERS) if sys.platform == "win32" else cores()


def list_folder(source: str, target: str, job: Job, *, recursive: bool) -> Listing:
    """List the files of a folder that a job takes, and where their outputs belong.

    The tree below `source` is mirrored below `target`, by the rule of `output_names`. Links to
    folders are not followed.

    Args:
        source: a folder.
        target: a folder, which need not exist.
        job: what is to be done.
        recursive: whether folders inside are listed, too.

    Raises:
        InputError: the folder cannot be listed.
    """
    listing = Listing([])

    def unlisted(error: OSError) -> None:
        reason = InputError(f"cannot list the folder: {error.strerror}")
        if error.filename == source:
            raise InputError(f"{source}: {reason}") from error
        listing.unreadable.append(failed(Task(error.filename, ""), reason))

    for folder, names in walk(source, unlisted, recursive=recursive):
        below = os.path.join(target, os.path.relpath(folder, source))
        ignored: list[str] = []
        for name, output in output_names(names, job, ignored):
            path = os.path.join(folder, name)
            goal = os.path.normpath(os.path.join(below, output))
            listing.tasks.append(Task(path, goal, _size(path)))
        listing.ignored.extend(os.path.join(folder, name) for name in ignored)
    return listing


def list_files(paths: Iterable[str], target: str | None, job: Job) -> Listing:
    """Return the tasks of single files, whatever they are called.

    Args:
        paths: files.
        target: the folder of the outputs; None puts each beside its input.
        job: what is to be done.

    Raises:
        InputError: one is no file of this machine, or two outputs would be one file.
    """
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        if path == "-" or "://" in path or os.path.isdir(path):
            raise InputError(f"{path} is not one of several files: name it alone")
        folder, name = os.path.split(path)
        folders[folder].append(name)
    listing = Listing([])
    sources: dict[str, str] = {}
    for folder, names in folders.items():
        for name, output in _renamed(names, job):
            path = os.path.join(folder, name)
            goal = os.path.join(folder if target is None else target, output)
            other = sources.setdefault(_folded(goal), path)
            if other != path:
                raise InputError(f"{other} and {path} would both become {goal}")
            listing.tasks.append(Task(path, goal, _size(path)))
    return listing


def output_names(names: Iterable[str], job: Job, ignored: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names in one folder that a job takes, in order, each with that of its output.

    An output has the input's name with the suffix of the job in place of its own, or behind what
    is none, as in `photo v1.2`; where two inputs would share it, it
    is put behind the whole name of each (`a.jpg` and `a.png` become `a.jpg.vaec` and `a.png.vaec`).
    Names are shared, too, that are one only to some file systems: `a.jpg` and `A.png`.

    Args:
        names: of all files of the folder.
        job: what is to be done.
        ignored: gets the names of the other files.
    """
    mine: list[str] = []
    for name in sorted(names):
        suffix = PurePath(name).suffix.lower()
        if job.takes(suffix) and not name.startswith(APPLE_DOUBLE):
            mine.append(name)
        else:
            ignored.append(name)
    yield from _renamed(mine, job)


def _renamed(names: Sequence[str], job: Job) -> Iterator[tuple[str, str]]:
    cut = [_stem(name, job) for name in names]
    stems = Counter(map(_folded, cut))
    wholes = set(map(_folded, names))
    for name, stem in zip(names, cut, strict=True):
        folded = _folded(stem)
        is_shared = stems[folded] > 1 or folded in wholes  # a.jpg.jpg beside a.jpg
        yield name, (name if is_shared else stem) + job.suffix


def _stem(name: str, job: Job) -> str:
    path = PurePath(name)
    return path.stem if job.takes(path.suffix.lower()) else stem_of(name)


def _folded(name: str) -> str:
    """Return what is the same for names between which a file system may not distinguish."""
    return normalize("NFC", name.casefold())


def split_done(tasks: Iterable[Task], *, force: bool) -> tuple[list[Task], list[Outcome]]:
    """Part tasks into those to do, and outcomes of those whose output is there.

    Outputs are put in place whole, so one that exists is done, unless it is to be made again.
    """
    to_do: list[Task] = []
    done: list[Outcome] = []
    for task in tasks:
        if not force and os.path.isfile(task.target):
            size = _size(task.target)
            done.append(Outcome(task.source, task.target, "skipped", task.input_bytes, size))
        else:
            to_do.append(task)
    return to_do, done


def run(
    job: Job, tasks: Iterable[Task], *, processes: int, threads: int | None, force: bool
) -> Generator[Outcome]:
    """Do tasks, and yield what became of each as it ends.

    A process that dies, for lack of memory for instance, costs the file it was at; another one
    takes its place. Closing the iterator ends the processes, and half-done files leave nothing.

    Args:
        job: what is to be done.
        tasks: taken one by one, as processes become free.
        processes: how many files are worked on at a time.
        threads: of each process; None for every core.
        force: whether outputs that exist are replaced.

    Raises:
        VaecodecError: the job cannot be opened: no such model or device, or a process died of it.
    """
    pending = iter(tasks)
    workers = [_Worker(job, threads, force=force) for _ in range(processes)]
    try:
        while True:
            for worker in workers:
                if worker.task is None and (task := next(pending, None)) is not None:
                    worker.give(task)
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection in ready and (outcome := worker.answer()) is not None:
                    yield outcome
    finally:
        for worker in workers:
            worker.stop()
        deadline = time.monotonic() + _PATIENCE_S
        for worker in workers:
            worker.end(deadline)


class _Worker:
    """A process that does one task at a time, and is started anew if it dies."""

    def __init__(self, job: Job, threads: int | None, *, force: bool) -> None:
        self._settings = (job, threads, force)
        self.task: Task | None = None
        self._start()

    def _start(self) -> None:
        # Never forked: ONNX Runtime's threads would not survive that.
        context = multiprocessing.get_context("spawn")
        self._is_open = False
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, *self._settings), daemon=True
        )
        self.process.start()
        theirs.close()  # so that it is only theirs, and its end is seen

    def give(self, task: Task) -> None:
        """Let it do a task."""
        self.task = task
        with contextlib.suppress(OSError):  # it has died, which `answer` finds
            self.connection.send(task)

    def answer(self) -> Outcome | None:
        """Return what became of the task; None if the job was opened, and it is at the task now.

        A worker that has died is replaced.

        Raises:
            VaecodecError: the job cannot be opened.
        """
        try:
            answer: Outcome | Exception | None = self.connection.recv()
        except (EOFError, OSError):
            return self._replace()
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self._is_open = True
        else:
            self.task = None
        return answer

    def _replace(self) -> Outcome | None:
        """Start another process, and return what became of the task of the one that has died."""
        self.process.join(_PATIENCE_S)
        error = _death(self.process.exitcode)
        if not self._is_open:  # as another one would
            error.add_note("loading the model")
            raise error
        self.stop()
        self.end(time.monotonic())
        self._start()
        task, self.task = self.task, None
        return None if task is None else failed(task, error)

    def stop(self) -> None:
        """Tell the process to end: at once if it is at a file, which it leaves no trace of."""
        self.connection.close()
        if self.task is not None:
            self.process.terminate()

    def end(self, deadline: float) -> None:
        """Wait until the process has ended, and at a time of the monotonic clock make it end."""
        self.process.join(max(deadline - time.monotonic(), 0))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _death(code: int | None) -> VaecodecError:
    """Return what to say of a process that ended by itself."""
    if code == _KILLED:
        reason = "its process was killed, probably for want of memory: try fewer at a time: -j 1"
        return InsufficientMemoryError(reason)
    if code is not None and code < 0:
        return VaecodecError(f"its process was ended by signal {-code}")
    return VaecodecError(f"its process exited with code {code}")


def _serve(connection: Connection, job: Job, threads: int | None, force: bool) -> None:
    """Open a job, say so, and do what comes through a connection, until its other end is closed."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    unwind_on_signals()
    bound_memory()
    os.dup2(2, 1)  # standard output is the parent's, and libraries print at times
    with contextlib.suppress(EOFError, OSError):  # the parent needs no more, or is gone
        try:
            work = job.open(threads)
        except Exception as error:
            connection.send(error)
            return
        connection.send(None)
        while True:
            task: Task = connection.recv()
            answer = carry_out(
                task,
                work,
                lambda path: read_bytes(path, job.limits),
                lambda path, data, origin: put_file(path, data, force=force, origin=origin),
            )
            connection.send(answer)


def put_file(
    path: str, data: bytes | memoryview, *, force: bool, origin: Origin | None = None
) -> None:
    """Write a file as `write_atomic` does, in a folder that is made if it is not there.

    Raises:
        OutputExistsError: the file exists and `force` is not given.
        OutputError: it cannot be written.
    """
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    write_atomic(path, data, force=force, origin=origin or Origin())


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # which reading it will tell of
        return 0
