"""Folders in and folders out: progress, what failed, and a summary."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from vaecodec.cli.console import note, put_json
from vaecodec.cli.paths import STREAM
from vaecodec.errors import ExitCode, OutputError

if TYPE_CHECKING:
    from vaecodec.batch import Listing
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
        help="Files of a folder that are worked on at a time; as many as cores by default.",
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


@dataclass
class Totals:
    """What became of a folder's files, so far."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    pixels: int = 0
    exit_code: int = ExitCode.OK
    began: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more file; bytes and pixels are of those done in this run."""
        if outcome.status == "skipped":
            self.skipped += 1
        elif outcome.status == "failed":
            self.failed += 1
            self.exit_code = self.exit_code or outcome.exit_code
        else:
            self.done += 1
            self.input_bytes += outcome.input_bytes
            self.output_bytes += outcome.output_bytes
            self.pixels += outcome.width * outcome.height

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.began


def is_folder(source: str) -> bool:
    """Tell whether an input is a folder, of this machine or at an address."""
    return os.path.isdir(source) or "://" in source


def process_folder(
    job: Job,
    source: str,
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
) -> None:
    """Do a job to all files of a folder.

    Args:
        job: what to do.
        source: a folder.
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

    Raises:
        Exit: files failed; with the exit code of the first of them.
        InputError: the folder cannot be listed.
        OutputError: the output is no folder.
    """
    from vaecodec import stores

    target = _check_target(source, target, engine, ray_address)
    listing = stores.list_folder(source, target, job, recursive=recursive)
    to_do, outcomes = stores.split_done(listing.tasks, force=force)
    outcomes += listing.unreadable
    running = _start(job, to_do, jobs, engine, ray_address, force=force)
    totals = Totals()
    with _shown(to_do, quiet=quiet) as display, closing(running):
        for outcome in chain(outcomes, running):
            totals.add(outcome)
            _tell(outcome, display, quiet=quiet, verbosity=verbosity)
            display.advance(outcome, totals)
            if as_json:
                put_json(asdict(outcome))
    if as_json:
        put_json({"summary": _facts(totals, listing)})
    if not quiet:
        for line in _summary(totals, listing, recursive=recursive):
            note(line)
    if totals.exit_code:
        raise typer.Exit(totals.exit_code)


def _check_target(source: str, target: str | None, engine: str, ray_address: str | None) -> str:
    """Return the folder to write to, if the choices go together."""
    from vaecodec.stores import is_remote

    if target == STREAM:
        raise typer.BadParameter("a folder's files cannot go to standard output", param_hint="OUT")
    target = source if target is None else target
    if engine != "ray":
        if ray_address is not None:
            raise typer.BadParameter("it goes with --engine ray", param_hint="--ray-address")
        for address in (source, target):
            if is_remote(address):
                raise typer.BadParameter(f"{address} goes with --engine ray", param_hint="--engine")
    if os.path.lexists(target) and not os.path.isdir(target):
        raise OutputError(f"{target} exists and is no folder: name another output")
    return target


def _start(
    job: Job, tasks: list[Task], jobs: int, engine: str, ray_address: str | None, *, force: bool
) -> Generator[Outcome]:
    """Return what yields the outcomes of tasks."""
    if engine == "ray":
        from vaecodec import ray_engine

        return ray_engine.run(
            job, tasks, processes=jobs, threads=1, force=force, address=ray_address
        )
    from vaecodec import batch

    processes = min(jobs or batch.cores(), len(tasks))
    threads = max(1, batch.cores() // max(processes, 1))
    return batch.run(job, tasks, processes=processes, threads=threads, force=force)


class Display(Protocol):
    """Where progress is shown."""

    def line(self, text: str) -> None:
        """Show a line that stays."""

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Show that one more file is done."""


class _Plain:
    """For files and pipes: nothing that moves."""

    def line(self, text: str) -> None:
        note(text)

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Do nothing: there is no bar."""


class _Bar:
    """For terminals: how far, how fast, how much was saved, and how long it will take."""

    def __init__(self, to_do: list[Task]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        # A file costs something however small it is.
        self._count, self._least = len(to_do), 10_000
        total = sum(task.input_bytes + self._least for task in to_do)
        self._bar = self.progress.add_task("", total=total, files=f"0/{len(to_do)}", speed="")

    def line(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Move the bar by the size of the file."""
        if outcome.status == "skipped":
            return
        self.progress.update(
            self._bar,
            advance=outcome.input_bytes + self._least,
            files=f"{totals.done + totals.failed}/{self._count}",
            speed=_speed(totals),
        )


@contextmanager
def _shown(to_do: list[Task], *, quiet: bool) -> Generator[Display]:
    import sys

    if quiet or not to_do or not sys.stderr or not sys.stderr.isatty():
        yield _Plain()
        return
    bar = _Bar(to_do)
    with bar.progress:
        yield bar


def _tell(outcome: Outcome, display: Display, *, quiet: bool, verbosity: int) -> None:
    if outcome.status == "failed":
        display.line(f"vaecodec: error: {outcome.source}: {outcome.error}")
    elif not quiet:
        for notice in outcome.notices:
            display.line(f"{outcome.source}: {notice}")
        if verbosity:
            display.line(_line(outcome))


def _line(outcome: Outcome) -> str:
    if outcome.status == "skipped":
        return f"{outcome.source}: done already, as {outcome.target}"
    return (
        f"{outcome.source} -> {outcome.target}: {outcome.output_bytes:,} bytes "
        f"({_percent(outcome.output_bytes, outcome.input_bytes)} of {outcome.input_bytes:,}), "
        f"{outcome.seconds:.2f} s"
    )


def _speed(totals: Totals) -> str:
    seconds = max(totals.seconds, 1e-9)
    return (
        f"{totals.input_bytes / 1e6 / seconds:.1f} MB/s, "
        f"{_percent(totals.output_bytes, totals.input_bytes)} of the size"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}%"


def _facts(totals: Totals, listing: Listing) -> dict[str, object]:
    return {
        "done": totals.done,
        "skipped": totals.skipped,
        "failed": totals.failed,
        "ignored": listing.ignored.total(),
        "input_bytes": totals.input_bytes,
        "output_bytes": totals.output_bytes,
        "bpp": 8 * totals.output_bytes / totals.pixels if totals.pixels else None,
        "seconds": totals.seconds,
    }


def _summary(totals: Totals, listing: Listing, *, recursive: bool) -> Iterator[str]:
    """Yield the lines of the table that ends a run."""
    seconds = totals.seconds
    if totals.done:
        yield (
            f"  done     {totals.done:6,}  {totals.input_bytes / 1e6:,.1f} MB -> "
            f"{totals.output_bytes / 1e6:,.1f} MB "
            f"({_percent(totals.output_bytes, totals.input_bytes)})"
        )
    if totals.skipped:
        yield f"  skipped  {totals.skipped:6,}  their outputs exist; --force makes them again"
    if totals.failed:
        yield f"  failed   {totals.failed:6,}  named above"
    if listing.ignored:
        kinds = ", ".join(
            f"{suffix or 'no suffix'} {count:,}" for suffix, count in listing.ignored.most_common(4)
        )
        yield f"  ignored  {listing.ignored.total():6,}  by their names: {kinds}"
    if not listing.tasks:
        inside = "" if recursive else " (-r looks into the folders inside)"
        yield f"  nothing to do{inside}"
    if totals.done:
        yield (
            f"  {seconds:.1f} s, {totals.done / seconds:.1f} images/s, "
            f"{totals.input_bytes / 1e6 / seconds:.1f} MB/s, "
            f"{totals.pixels / 1e6 / seconds:.2f} megapixels/s"
        )
