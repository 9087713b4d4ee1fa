"""Folders of files, by the machines of a Ray cluster.

What `batch` does on one machine, done with Ray Data on many: actors, each with a codec of its own,
read and write by themselves, through paths that every machine sees or through addresses such as
`s3://bucket/folder`. Only names and outcomes pass through Ray.

Where an actor or its machine dies, Ray starts another one and repeats the block of files that it
was at. A file may be made twice, then, but has one output and one outcome.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, cast

from vaecodec import batch, stores
from vaecodec.bundle import MODELS, find_bundle
from vaecodec.errors import InsufficientMemoryError, RuntimeUnavailableError
from vaecodec.jobs import Job, Outcome, Task, Work, bound_memory, carry_out, failed

_DEATHS = 3
"""So many actors a file may cost, before it is left alone."""

_BLOCK_FILES = 16
"""Files of a block at most: an actor is given one at a time, and repeats it after a death."""

_BLOCKS_PER_ACTOR = 32
"""Blocks for each actor at least, as far as files suffice, so that all end at about one time."""

_PATIENCE_S = 10
"""How long a cluster may take to answer."""

_STORE_BYTES = 2**27
"""Shared memory of a local cluster: names and outcomes are small."""


def run(
    job: Job,
    tasks: Iterable[Task],
    *,
    processes: int,
    threads: int,
    force: bool,
    address: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Generator[Outcome]:
    """Do tasks, and yield what became of each, block by block as blocks end.

    A file at which several actors have died fails, and no other one with it. Closing the iterator
    ends the actors.

    Args:
        job: what is to be done.
        tasks: as `list_folder` gives them; local paths must be the same on every machine.
        processes: actors, each at one file at a time; 0 for as many as the cluster has cores or,
            for a job on "cuda", GPUs.
        threads: of each actor; it takes as many cores.
        force: whether outputs that exist are replaced.
        address: of the cluster, as HOST:PORT; None takes RAY_ADDRESS, or finds one that runs on
            this machine, or starts one; "local" starts one. A process that is connected to one
            stays with it.
        tell: called with what the user should know before anything is done.

    Raises:
        RuntimeUnavailableError: Ray is missing, does not answer, or has no such device.
        VaecodecError: the job cannot be opened: no such model or device.
    """
    waiting = dict(enumerate(tasks))
    if not waiting:
        return
    job = _located(job)
    with _cluster(address) as ray:
        actors, share = _room(ray, job, min(processes, len(waiting)), threads)
        actors = min(actors, len(waiting))
        if tell and ray.available_resources().get("CPU", 0) < threads:
            tell("the Ray cluster has no free core: waiting for one")
        try:
            for answer in _answers(ray, waiting, actors, (job, threads, force), share):
                if isinstance(answer, Exception):
                    raise answer
                for number, outcome in answer:
                    if (task := waiting.pop(number, None)) is not None:
                        yield replace(outcome, source=task.source, target=task.target)
        except ray.exceptions.RayError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise RuntimeUnavailableError(f"the Ray cluster gave up: {reason}") from error
    for task in waiting.values():
        yield failed(task, RuntimeError("Ray lost it"))


class _Ledger:
    """An actor beside the driver, which knows at which files others have died, or ended well."""

    def __init__(self) -> None:
        self._begun = Counter[int]()
        self._ended: dict[int, Outcome] = {}

    def begin(self, number: int) -> int | Outcome:
        """Note that a task is begun, and return how often it was before, and not ended.

        Of one that is ended, as a block is repeated from its beginning, return the outcome.
        """
        if number in self._ended:
            return self._ended[number]
        self._begun[number] += 1
        return self._begun[number] - 1

    def end(self, number: int, outcome: Outcome) -> None:
        """Note what became of a task."""
        del self._begun[number]
        self._ended[number] = outcome

    def forget(self, numbers: list[int]) -> None:
        """Drop outcomes that the driver has."""
        for number in numbers:
            self._ended.pop(number, None)


class _Actor:
    """A process of the cluster, with a codec of its own, to which Ray Data gives blocks."""

    def __init__(self, ledger: Any, job: Job, threads: int, force: bool) -> None:
        self._ledger = ledger
        self._read = partial(stores.read, limits=job.limits)
        self._write = partial(stores.write, limits=job.limits, force=force)
        bound_memory()
        try:
            self._work = job.open(threads)
        except Exception as error:  # told to the driver, and not to Ray
            self._work = error

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Do the tasks of a block."""
        if isinstance(self._work, Exception):
            return {"answer": pickle.dumps(self._work)}
        tasks: list[tuple[int, Task]] = pickle.loads(row["tasks"])  # noqa: S301  # from `run`
        done = [(number, self._outcome(number, task, self._work)) for number, task in tasks]
        return {"answer": pickle.dumps(done)}

    def _outcome(self, number: int, task: Task, work: Work) -> Outcome:
        get: Callable[[Any], Any] = import_module("ray").get
        # Waited for: a file that kills the process at once must be known, too.
        begun: int | Outcome = get(self._ledger.begin.remote(number))
        if isinstance(begun, Outcome):
            return begun
        if begun >= _DEATHS:
            reason = f"{_DEATHS} processes ended at it: probably they had not enough memory"
            return failed(task, InsufficientMemoryError(reason))
        outcome = carry_out(task, work, self._read, self._write)
        self._ledger.end.remote(number, outcome)
        return outcome


def _answers(
    ray: Any,
    tasks: dict[int, Task],
    actors: int,
    settings: tuple[Job, int, bool],
    share: dict[str, float],
) -> Iterator[Any]:
    """Yield what the actors answer to each block, in the order in which blocks end."""
    ledger = ray.remote(_Ledger).options(num_cpus=0, scheduling_strategy=_here(ray)).remote()
    files = min(max(len(tasks) // (actors * _BLOCKS_PER_ACTOR), 1), _BLOCK_FILES)
    blocks = _blocks(tasks, files)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors)
    with ray.data.DataContext.current(context):
        answers = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map(
            _Actor, fn_constructor_args=(ledger, *settings), compute=pool, **share
        )
    del blocks  # Ray has them
    for row in answers.iter_rows():
        answer = pickle.loads(row["answer"])  # noqa: S301  # from our own actors
        yield answer  # an exception ends the run here
        ledger.forget.remote([number for number, _ in answer])


def _blocks(tasks: dict[int, Task], files: int) -> list[dict[str, bytes]]:
    """Return rows of so many files each."""
    numbered = [(number, _anywhere(task)) for number, task in tasks.items()]
    starts = range(0, len(numbered), files)
    return [{"tasks": pickle.dumps(numbered[start : start + files])} for start in starts]


def _anywhere(task: Task) -> Task:
    """Return a task whose local paths hold in every process."""
    source, target = (
        address if stores.is_remote(address) else os.path.abspath(address)
        for address in (task.source, task.target)
    )
    return replace(task, source=source, target=target)


def _located(job: Job) -> Job:
    """Return a job whose bundle is found in every process, wherever it works."""
    given = getattr(job, "bundle", None)
    if given is None:
        return job
    path = os.path.abspath(find_bundle(given).path)
    return job if path == str(MODELS / given) else replace(cast("Any", job), bundle=path)


def _here(ray: Any) -> Any:
    """Return the strategy that puts an actor on the driver's machine, which it dies with."""
    strategies = import_module("ray.util.scheduling_strategies")
    node = ray.get_runtime_context().get_node_id()
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)


def _room(ray: Any, job: Job, processes: int, threads: int) -> tuple[int, dict[str, float]]:
    """Return how many actors to start, and what each takes of its machine."""
    resources: dict[str, float] = ray.cluster_resources()
    if getattr(job, "device", "cpu") != "cuda":
        return processes or max(1, int(resources.get("CPU", 1)) // threads), {"num_cpus": threads}
    gpus = int(resources.get("GPU", 0))
    if not gpus:
        raise RuntimeUnavailableError("no machine of the Ray cluster has a GPU")
    actors = processes or gpus
    return actors, {"num_cpus": threads, "num_gpus": 1 / math.ceil(actors / gpus)}


@contextlib.contextmanager
def _cluster(address: str | None) -> Generator[Any]:
    """Be connected to a cluster, which is ended again if it was started here."""
    try:
        # Nothing is sent out, and nothing but errors of ours is shown.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray: Any = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise RuntimeUnavailableError("Ray Data is not installed", stores.PIP_LINE) from error
    if ray.is_initialized():  # by a program that uses this module
        yield ray
        return
    of_data = logging.getLogger("ray.data").handlers
    levels = [(handler, handler.level) for handler in (*logging.getLogger().handlers, *of_data)]
    for handler in of_data:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    worker: Any = import_module("ray._private.worker")
    on_sigterm = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    try:
        # What Ray tells of dead processes goes to standard output, whatever is said to `init`:
        # its own debugger turns this switch, too.
        worker._worker_logs_enabled = False
        _connect(ray, address or os.environ.get("RAY_ADDRESS"))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)
        yield ray
    finally:
        ray.shutdown()
        worker._worker_logs_enabled = True
        for handler, level in levels:  # the program's own, which Ray has quieted, too
            handler.setLevel(level)


def _connect(ray: Any, address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    named = address or "auto"
    if named not in ("auto", "local"):
        _check_answer(named)
    with _muted():
        try:
            if named != "local":
                ray.init(named, **quiet)
                return
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address:
                raise RuntimeUnavailableError(f"no Ray cluster at {address}: {error}") from error
        ray.init(
            "local",
            num_cpus=batch.cores(),
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )


def _check_answer(address: str) -> None:
    """Refuse an address where nothing is, which Ray would ask for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE_S).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = f"no Ray cluster at {address} (expected HOST:PORT): {error}"
        raise RuntimeUnavailableError(reason) from error


@contextlib.contextmanager
def _muted() -> Generator[None]:
    """Keep standard error from what Ray's native part writes to it, whatever its log level is."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
