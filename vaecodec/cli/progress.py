"""What is shown of long work: how far a large file is, and of a folder's files also what failed."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from vaecodec.cli.console import note, one_line
from vaecodec.errors import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress

    from vaecodec.batch import Listing
    from vaecodec.jobs import Outcome, Task
    from vaecodec.trace import Trace

PATIENCE_S = 1.0
"""What one file may take before its progress is shown."""
_KINDS = 8
"""Suffixes of ignored files that are named."""


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


class Display(Protocol):
    """Where progress is shown."""

    def line(self, text: str) -> None:
        """Show a line that stays, and that the names in it cannot break."""

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Show that one more of the files to do has its outcome."""


class Plain:
    """For files and pipes: nothing that moves."""

    def line(self, text: str) -> None:
        """Write it to standard error."""
        note(one_line(text))

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Do nothing: there is no bar."""


class Bar:
    """For terminals: how far, how fast, how much was saved, and how long it will take."""

    def __init__(self, to_do: list[Task]) -> None:
        self.progress = _progress()
        # A file costs something however small it is.
        self._ended, self._count, self._least = 0, len(to_do), 10_000
        total = sum(task.input_bytes + self._least for task in to_do)
        self._bar = self.progress.add_task("", total=total, count=f"0/{len(to_do)}", speed="")

    def line(self, text: str) -> None:
        """Write it above the bar."""
        self.progress.console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)

    def advance(self, outcome: Outcome, totals: Totals) -> None:
        """Move the bar by the size of the file."""
        self._ended += 1
        self.progress.update(
            self._bar,
            advance=outcome.input_bytes + self._least,
            count=f"{self._ended}/{self._count}",
            speed=_speed(totals),
        )


class WorkBar:
    """For terminals: how far one file is, and how long it will take; nothing of quick work."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._progress: Progress | None = None

    def tell(self, done: int, known: int) -> None:
        """Move the bar; see `vaecodec.trace.Progress`."""
        if self._progress is None:
            if done == known or time.perf_counter() - self._began < PATIENCE_S:
                return
            self._progress = _progress()
            self._progress.add_task("", count="", speed="")
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=known)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress:
            self._progress.stop()


def _progress() -> Progress:
    """Return bars on standard error, which will vanish, with what they count and how fast it is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.fields[count]}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def shown(to_do: list[Task], *, quiet: bool) -> Generator[Display]:
    """Give what shows progress: on a terminal, as long as there is something to do, a bar."""
    if not to_do or not _is_watched(quiet=quiet):
        yield Plain()
        return
    bar = Bar(to_do)
    with bar.progress:
        yield bar


@contextmanager
def working(trace: Trace, *, quiet: bool) -> Generator[None]:
    """Show on a terminal how far one file is, once it has taken `PATIENCE_S`."""
    if not _is_watched(quiet=quiet):
        yield
        return
    bar = WorkBar()
    trace.progress = bar.tell
    with closing(bar):
        yield


def _is_watched(*, quiet: bool) -> bool:
    return not quiet and bool(sys.stderr) and sys.stderr.isatty()


def tell(outcome: Outcome, display: Display, *, quiet: bool, verbosity: int) -> None:
    """Show what the user should know of an outcome; failures in any case."""
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


def deeper(*, recursive: bool) -> str:
    """Return what to add where a folder holds nothing for a command."""
    return "" if recursive else " (-r looks into the folders inside)"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f}%"


def file_facts(outcome: Outcome, **more: object) -> dict[str, object]:
    """Return what `--json` gives of one file, alone or of a folder."""
    known = asdict(outcome)
    return {"input": known.pop("source"), "output": known.pop("target")} | known | more


def facts(totals: Totals, listing: Listing) -> dict[str, object]:
    """Return the whole, as `--json` gives it."""
    return {
        "done": totals.done,
        "skipped": totals.skipped,
        "failed": totals.failed,
        "ignored": len(listing.ignored),
        "ignored_files": listing.ignored,
        "input_bytes": totals.input_bytes,
        "output_bytes": totals.output_bytes,
        "bpp": 8 * totals.output_bytes / totals.pixels if totals.pixels else None,
        "seconds": totals.seconds,
    }


def summary(totals: Totals, listing: Listing, *, recursive: bool) -> Iterator[str]:
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
        kinds = [
            f"{suffix or 'no suffix'} {count:,}"
            for suffix, count in listing.ignored_suffixes.most_common()
        ]
        more = ["..."] if len(kinds) > _KINDS else []
        named = ", ".join(kinds[:_KINDS] + more)
        yield f"  ignored  {len(listing.ignored):6,}  by their names: {named}"
    if not listing.tasks:
        yield f"  nothing to do{deeper(recursive=recursive)}"
    if totals.done:
        yield (
            f"  {seconds:.1f} s, {totals.done / seconds:.1f} images/s, "
            f"{totals.input_bytes / 1e6 / seconds:.1f} MB/s, "
            f"{totals.pixels / 1e6 / seconds:.2f} megapixels/s"
        )
