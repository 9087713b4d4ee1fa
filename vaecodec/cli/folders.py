"""Many files: the options of folders, and the way from a listing to a summary."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from vaecodec.cli.console import note, put_json
from vaecodec.cli.paths import STREAM
from vaecodec.cli.progress import Display, Plain, Totals, facts, file_facts, shown, summary, tell
from vaecodec.errors import OutputError
from vaecodec.fileio import check_input, check_web

if TYPE_CHECKING:
    from vaecodec.jobs import Job, Outcome, Task

ENGINES = ("processes", "ray")


def _check_engine(engine: str) -> str:
    if engine not in ENGINES:
        raise typer.BadParameter(f"{engine} is none of {', '.join(ENGINES)}")
    return engine


def complete_engine(incomplete: str) -> list[str]:
    """Return the engines that begin so."""
    return [engine for engine in ENGINES if engine.startswith(incomplete)]


Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Of a folder, the folders inside, too.")
]
Jobs = Annotated[
    int,
    typer.Option(
        "-j",
        "--jobs",
        metavar="N",
        min=0,
        show_default=False,
        help="Files of a folder that are worked on at a time; by default as many as there are "
        "cores, or one on a GPU.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINES),
        callback=_check_engine,
        autocompletion=complete_engine,
        help="Who works on a folder: this machine, or a Ray cluster, also at s3:// and the like.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Of the Ray cluster; by default one that runs is found, or one is started here.",
    ),
]


def is_folder(source: str) -> bool:
    """Tell whether an input is a folder, of this machine or at an address."""
    return source != STREAM and (os.path.isdir(source) or "://" in source)


def is_many(sources: Sequence[str]) -> bool:
    """Tell whether inputs are several files, or a folder of them."""
    return len(sources) > 1 or is_folder(sources[0])


def check_single(
    source: str, *, recursive: bool, jobs: int, engine: str, ray_address: str | None
) -> None:
    """Refuse a single file that is not there, and options that would do nothing with it.

    Raises:
        BadParameter: If an option of folders was given.
        InputError: If there is no such file.
    """
    check_input(source)
    given = {
        "-r": recursive,
        "-j": jobs,
        "--engine": engine != ENGINES[0],
        "--ray-address": ray_address,
    }
    for name, value in given.items():
        if value:
            raise typer.BadParameter("it is for folders", param_hint=name)


def process_many(
    job: Job,
    sources: Sequence[str],
    target: str | None,
    *,
    recursive: bool,
    jobs: int,
    force: bool,
    quiet: bool,
    as_json: bool,
    verbosity: int,
    engine: str = "processes",
    ray_address: str | None = None,
    keep_times: bool = True,
) -> None:
    """Do a job to several files, or to all of a folder.

    Args:
        job: what to do.
        sources: files, or one folder.
        target: the folder to write to, made where it is missing; None puts outputs beside inputs.
        recursive: whether folders inside are gone through, too.
        jobs: files worked on at a time; 0 is as many as there are cores, of the machine or the
            cluster.
        force: whether outputs that exist are replaced.
        quiet: only failures are shown.
        as_json: a line of JSON for each file, and one for the whole, go to standard output.
        verbosity: above 0, every file is shown, and not only those that failed.
        engine: "processes" of this machine, or "ray", which also takes addresses such as `s3://`.
        ray_address: of the cluster, as HOST:PORT; None finds or starts one.
        keep_times: whether outputs get the modification times of their inputs.

    Raises:
        Exit: files failed; with the exit code of the first of them.
        InputError: the folder cannot be listed.
        OutputError: the output is no folder.
    """
    from vaecodec import batch, stores

    _check_target(sources, target, engine, ray_address)
    if len(sources) > 1:
        listing = batch.list_files(sources, target, job)
    else:
        (source,) = sources
        listing = stores.list_folder(source, target or source, job, recursive=recursive)
    to_do, done = stores.split_done(listing.tasks, force=force)
    to_do = [replace(task, keep_times=keep_times) for task in to_do]
    running = _start(job, to_do, jobs, engine, ray_address, force=force, quiet=quiet)
    totals = Totals()

    def count(outcome: Outcome, display: Display) -> None:
        totals.add(outcome)
        tell(outcome, display, quiet=quiet, verbosity=verbosity)
        if as_json:
            put_json(file_facts(outcome))

    for outcome in (*done, *listing.unreadable):
        count(outcome, Plain())
    with shown(to_do, quiet=quiet) as display, closing(running):
        for outcome in running:
            count(outcome, display)
            display.advance(outcome, totals)
    if as_json:
        put_json({"summary": facts(totals, listing)})
    if not quiet:
        for line in summary(totals, listing, recursive=recursive):
            Plain().line(line)
    if totals.exit_code:
        raise typer.Exit(totals.exit_code)


def _check_target(
    sources: Sequence[str], target: str | None, engine: str, ray_address: str | None
) -> None:
    """Refuse choices that do not go together."""
    from vaecodec.stores import is_remote

    if target == STREAM:
        raise typer.BadParameter("several files cannot go to standard output", param_hint="OUT")
    if engine != "ray":
        if ray_address is not None:
            raise typer.BadParameter("it goes with --engine ray", param_hint="--ray-address")
        for address in (*sources, target):
            if address is not None and is_remote(address):
                check_web(address)
                reason = f"{address} must be a folder, and goes with --engine ray"
                raise typer.BadParameter(reason, param_hint="--engine")
    if target is not None and os.path.lexists(target) and not os.path.isdir(target):
        raise OutputError(f"{target} exists and is no folder: name another output")


def _start(
    job: Job,
    tasks: list[Task],
    jobs: int,
    engine: str,
    ray_address: str | None,
    *,
    force: bool,
    quiet: bool,
) -> Generator[Outcome]:
    """Return what yields the outcomes of tasks."""
    if engine == "ray":
        from vaecodec import ray_engine

        return ray_engine.run(
            job,
            tasks,
            processes=jobs,
            threads=1,
            force=force,
            address=ray_address,
            tell=None if quiet else note,
        )
    from vaecodec import batch

    processes = min(jobs or batch.default_processes(job), len(tasks))
    threads = max(1, batch.cores() // max(processes, 1))
    return batch.run(job, tasks, processes=processes, threads=threads, force=force)
