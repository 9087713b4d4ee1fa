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
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path, PurePath

from vaecodec.errors import InputError, InsufficientMemoryError, OutputError
from vaecodec.fileio import read_bytes, write_atomic
from vaecodec.jobs import Job, Outcome, Task, carry_out, failed

_PATIENCE_S = 10
"""How long a worker that was told to end may take, before it is made to."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds for a job.

    Attributes:
        tasks: in the order of their names.
        ignored: how many files have other suffixes, by suffix.
        unreadable: folders that could not be listed, and why.
    """

    tasks: list[Task]
    ignored: Counter[str] = field(default_factory=Counter[str])
    unreadable: list[Outcome] = field(default_factory=list[Outcome])


def cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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

    for folder, inside, names in os.walk(source, onerror=unlisted):
        inside.sort()
        if not recursive:
            inside.clear()
        below = os.path.join(target, os.path.relpath(folder, source))
        for name, output in output_names(names, job, listing.ignored):
            path = os.path.join(folder, name)
            goal = os.path.normpath(os.path.join(below, output))
            listing.tasks.append(Task(path, goal, _size(path)))
    return listing


def output_names(
    names: Iterable[str], job: Job, ignored: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Yield the names in one folder that a job takes, in order, each with that of its output.

    An output has the input's name with the suffix of the job; where two inputs would share it, it
    is put behind the whole name of each (`a.jpg` and `a.png` become `a.jpg.vaec` and `a.png.vaec`).

    Args:
        names: of all files of the folder.
        job: what is to be done.
        ignored: the suffixes of the other files are counted here.
    """
    mine: list[str] = []
    for name in sorted(names):
        suffix = PurePath(name).suffix.lower()
        if job.takes(suffix):
            mine.append(name)
        else:
            ignored[suffix] += 1
    stems = Counter(PurePath(name).stem for name in mine)
    wholes = set(mine)
    for name in mine:
        stem = PurePath(name).stem
        is_shared = stems[stem] > 1 or stem in wholes  # a.jpg.jpg beside a.jpg
        yield name, (name if is_shared else stem) + job.suffix


def split_done(tasks: Iterable[Task], *, force: bool) -> tuple[list[Task], list[Outcome]]:
    """Part tasks into those to do, and outcomes of those whose output is there.

    Outputs are put in place whole, so one that exists is done, unless it is to be made again.
    """
    to_do: list[Task] = []
    done: list[Outcome] = []
    for task in tasks:
        if not force and os.path.lexists(task.target):
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
        VaecodecError: the job cannot be opened: no such model or device.
    """
    pending = iter(tasks)
    workers = [_Worker(job, threads, force=force) for _ in range(processes)]
    try:
        while True:
            for worker in workers:
                if worker.task is None and (task := next(pending, None)) is not None:
                    worker.give(task)
            busy = {worker.connection: worker for worker in workers if worker.task is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = next(one for one in workers if one.connection is connection)
                yield worker.result()
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that does one task at a time, and is started anew if it dies."""

    def __init__(self, job: Job, threads: int | None, *, force: bool) -> None:
        self._settings = (job, threads, force)
        self.task: Task | None = None
        self._start()

    def _start(self) -> None:
        # Never forked: ONNX Runtime's threads would not survive that.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, *self._settings), daemon=True
        )
        self.process.start()
        theirs.close()  # so that it is only theirs, and its end is seen

    def give(self, task: Task) -> None:
        """Let it do a task."""
        self.task = task
        with contextlib.suppress(OSError):  # it has died, which `result` finds
            self.connection.send(task)

    def result(self) -> Outcome:
        """Return what became of the task; a worker that has died is replaced."""
        task, self.task = self.task, None
        if task is None:
            raise RuntimeError("the worker was given no task")
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_PATIENCE_S)
            code = self.process.exitcode
            self.end()
            self._start()
            reason = f"its process ended with {code}: probably it had not enough memory"
            return failed(task, InsufficientMemoryError(reason))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        """End the process: at once if it is at a file, which it leaves no trace of."""
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join(_PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _serve(connection: Connection, job: Job, threads: int | None, force: bool) -> None:
    """Do what comes through a connection, until its other end is closed."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.dup2(2, 1)  # standard output is the parent's, and libraries print at times
    try:
        work = job.open(threads)
    except Exception as error:
        work = error
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        if isinstance(work, Exception):
            answer = work
        else:
            answer = carry_out(
                task,
                work,
                lambda path: read_bytes(path, job.limits),
                lambda path, data: put_file(path, data, force=force),
            )
        try:
            connection.send(answer)
        except OSError:  # the parent is gone
            return


def put_file(path: str, data: bytes | memoryview, *, force: bool) -> None:
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
    write_atomic(path, data, force=force)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # which reading it will tell of
        return 0
