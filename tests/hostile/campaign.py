"""Judge many mutated files in one process that is held to a memory cap and a time limit.

    python tests/hostile/campaign.py --count 100000

Says in JSON what became of them; ends with 1 if any file was misjudged, took too long or too much.
A process that dies says nothing: the number of the file it died of is in the file named by --at,
and `mutation(seed, number)` makes that file again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SECONDS = 10.0
"""What one file may take, many times what the slowest valid one does on a busy machine."""
ADDRESS_BYTES = 3 * 2**30
"""Address space of the process, its libraries' included: more is refused by the kernel."""
RESIDENT_BYTES = 2**30
"""Memory by which the process's peak may grow: a process begins with that of the one before it."""


@dataclass
class Report:
    """What became of a series of files."""

    seed: int
    files: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: int = -1
    peak_mb: float = 0.0
    failures: list[dict[str, object]] = field(default_factory=list)


def run(seed: int, start: int, count: int, at: int | None = None) -> Report:
    """Judge the files of these numbers, and go on after a failure.

    Args:
        seed: of the series.
        start: the first number.
        count: how many.
        at: a descriptor; the number of each file is written there before it is judged.
    """
    from hostile.mutate import mutation
    from hostile.oracle import verdict

    report = Report(seed)
    begin, before = time.perf_counter(), _peak_bytes()
    over_cap = False
    for number in range(start, start + count):
        data = mutation(seed, number)
        if at is not None:
            os.pwrite(at, f"{number:12}\n".encode(), 0)
        # Kills the process where C code hangs and no Python would run again.
        faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
        clock = time.perf_counter()
        try:
            report.outcomes[verdict(data)] += 1
        except Exception:
            report.failures.append({"number": number, "error": traceback.format_exc()})
        taken = time.perf_counter() - clock
        faulthandler.cancel_dump_traceback_later()
        peak = _peak_bytes() - before
        if taken > SECONDS:
            report.failures.append({"number": number, "error": f"took {taken:.1f} s"})
        if peak > RESIDENT_BYTES and not over_cap:
            over_cap = True
            report.failures.append({"number": number, "error": f"took {peak:,} bytes"})
        if taken > report.slowest_s:
            report.slowest_s, report.slowest = taken, number
        report.files += 1
    report.seconds = time.perf_counter() - begin
    report.peak_mb = _peak_bytes() / 1e6
    return report


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    faulthandler.enable()
    at = None if options.at is None else os.open(options.at, os.O_CREAT | os.O_WRONLY, 0o644)
    report = run(options.seed, options.start, options.count, at)
    sys.stdout.write(json.dumps(vars(report), indent=1) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
