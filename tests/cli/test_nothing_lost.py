"""What an output promises: its path holds the old content, or all of the new, or nothing.

Held to it through real processes: killed, interrupted, on full and on read-only disks, and
through links. The input is kept, and what an interrupted command leaves looks like no result.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.container import MAGIC

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and files")

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
COMMANDS = ("compress", "decompress")
# What a command may replace: an earlier output, by its own kind.
OLD = {"compress": MAGIC + b"precious", "decompress": b"precious"}
TEMPORARY = re.compile(r"\.vaecodec-[0-9a-f]{16}\.tmp")
PAGE_BYTES = 4096  # what a file system in memory gives out

outputs = pytest.mark.parametrize(
    ("command", "old"),
    [
        pytest.param("compress", OLD["compress"], id="compress-force"),
        pytest.param("decompress", None, id="decompress-fresh"),
        pytest.param("compress", None, id="compress-fresh", marks=pytest.mark.exhaustive),
        pytest.param(
            "decompress", OLD["decompress"], id="decompress-force", marks=pytest.mark.exhaustive
        ),
    ],
)

# Before Python runs `main`, and after, a signal does what it does by default.
ENDED = {
    number: {-number, 128 + number} for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
} | {signal.SIGKILL: {-signal.SIGKILL}}

# A process that sends itself a signal just before or after a step of its writing.
STRIKE = """
import os, sys
step, when, number = sys.argv[1:4]
real = getattr(os, step)
def strike(*args):
    if when == "before": os.kill(os.getpid(), int(number))
    real(*args)
    if when == "after": os.kill(os.getpid(), int(number))
setattr(os, step, strike)
del sys.argv[1:4]
from vaecodec.cli import main
main()
"""


@dataclass
class Job:
    """A command, its input, and what it makes of it when it is left alone."""

    command: str
    source: Path
    target_name: str
    result: bytes = field(default=b"", repr=False)
    duration_s: float = 0.0

    def place(self, folder: Path, old: bytes | None = None) -> list[str]:
        """Lay the input, and an old output to replace, in a folder; return the arguments."""
        shutil.copyfile(self.source, folder / self.source.name)
        target = folder / self.target_name
        force = []
        if old is not None:
            target.write_bytes(old)
            force = ["--force"]
        return [self.command, str(folder / self.source.name), str(target), *force]

    def check(self, folder: Path, old: bytes | None, *, finished: bool) -> None:
        """Hold what a process has left in its folder to the promise, temporaries aside."""
        found = contents(folder)
        assert found.pop(self.source.name) == self.source.read_bytes()
        output = found.pop(self.target_name, None)
        assert output == self.result if finished else output in (old, self.result)
        assert not found


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return run_python("-m", "vaecodec", *arguments)


def run_python(
    *arguments: str | Path, after: str = ":", stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run Python, from a shell that has done something before."""
    return subprocess.run(
        ["sh", "-c", f'{after}; exec "$@"', "sh", sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        env=ENVIRONMENT,
    )


def refused(done: subprocess.CompletedProcess[bytes], reason: str) -> None:
    """Hold an error to its form: exit code 6, nothing on stdout, one line on stderr."""
    message = done.stderr.decode()
    assert (done.returncode, done.stdout) == (6, b""), message
    assert re.fullmatch(rf"vaecodec: error: {reason}\n", message)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def remove_temporaries(folder: Path) -> int:
    """Remove the files that carry the name of a temporary; return how many there were."""
    found = [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]
    for path in found:
        path.unlink()
    return len(found)


def jobs(folder: Path, photo: Path) -> dict[str, Job]:
    """Run both commands on a photograph, one on what the other makes."""
    done = {}
    source = photo
    for command, name in zip(COMMANDS, ("photo.vaec", "back.png"), strict=True):
        job = Job(command, source, name)
        start = time.perf_counter()
        process = run(command, source, folder / name, "--quiet")
        job.duration_s = time.perf_counter() - start
        assert (process.returncode, process.stderr) == (0, b"")
        source = folder / name
        job.result = source.read_bytes()
        done[command] = job
    return done


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    folder = tmp_path_factory.mktemp("small")
    # Few pixels that take many bytes.
    with Image.open(SAMPLES / "forest-from-above.jpg") as image:
        image.crop((200, 200, 360, 320)).save(folder / "photo.jpg")
    return jobs(folder, folder / "photo.jpg")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    folder = tmp_path_factory.mktemp("big")
    with Image.open(SAMPLES / "portrait.jpg") as image:
        image.save(folder / "photo.png")
    return jobs(folder, folder / "photo.png")


# Ended by a signal


def end(arguments: list[str], number: int, moment_s: float) -> tuple[int, str]:
    """Start a command and end it; return its exit code and what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "vaecodec", *arguments, "--quiet"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment_s)
        process.send_signal(number)  # to none if it has ended
        message = process.communicate(timeout=120)[1].decode()
    return process.returncode, message


def struck_python_itself(message: str) -> bool:
    """Tell whether Ctrl-C came before the first line of the package, which no code of it sees."""
    return message.rstrip().endswith("KeyboardInterrupt") and "vaecodec" not in message


def hold_through_signals(job: Job, number: int, count: int, folder: Path) -> None:
    """End a command at moments spread at random over all of its duration."""
    duration_s = job.duration_s
    ended = 0
    for index, jitter in enumerate(np.random.default_rng(count).random(count)):
        old = OLD[job.command] if index % 2 else None
        place = folder / str(index)
        place.mkdir()
        moment_s = duration_s * (index + jitter) / count
        start = time.perf_counter()
        code, message = end(job.place(place, old), number, moment_s)
        if code == 0:  # other work on the machine has let go of it: what follows is quicker too
            duration_s = min(duration_s, time.perf_counter() - start)
        else:
            ended += 1
            assert code in ENDED[number] or struck_python_itself(message), message
            assert code < 0 or message == ""
        left = remove_temporaries(place)
        assert left <= (number == signal.SIGKILL)
        job.check(place, old, finished=code == 0)
    assert ended


@pytest.mark.parametrize("count", [3, pytest.param(25, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_any_moment(command: str, count: int, big: dict[str, Job], tmp_path: Path):
    hold_through_signals(big[command], signal.SIGKILL, count, tmp_path)


@pytest.mark.parametrize(
    ("command", "number", "count"),
    [
        ("compress", signal.SIGTERM, 2),
        ("decompress", signal.SIGINT, 2),
        *(
            pytest.param(command, number, 12, marks=pytest.mark.exhaustive)
            for command, number in itertools.product(COMMANDS, (signal.SIGINT, signal.SIGTERM))
        ),
    ],
)
def test_an_interrupt_at_any_moment(
    command: str, number: int, count: int, big: dict[str, Job], tmp_path: Path
):
    hold_through_signals(big[command], number, count, tmp_path)


# Random moments hardly ever meet the few milliseconds in which the temporary file exists.
@pytest.mark.parametrize(
    ("number", "step", "when"),
    [
        pytest.param(signal.SIGKILL, "fsync", "before", marks=pytest.mark.exhaustive),
        (signal.SIGKILL, "replace", "before"),
        (signal.SIGINT, "replace", "before"),
        (signal.SIGTERM, "fsync", "before"),
        (signal.SIGTERM, "replace", "after"),
        (signal.SIGHUP, "fsync", "after"),
    ],
)
def test_a_signal_while_it_writes(
    number: int, step: str, when: str, small: dict[str, Job], tmp_path: Path
):
    job = small["compress"]
    arguments = job.place(tmp_path, OLD[job.command])
    done = run_python("-c", STRIKE, step, when, str(int(number)), *arguments)
    killed = number == signal.SIGKILL
    code = -number if killed else 128 + number
    assert (done.returncode, done.stderr) == (code, b"")
    assert remove_temporaries(tmp_path) == killed
    job.check(tmp_path, OLD[job.command], finished=(step, when) == ("replace", "after"))


@pytest.mark.parametrize(
    ("cause", "exit_code"), [("KeyboardInterrupt()", 130), ("SystemExit(143)", 143)]
)
def test_a_signal_that_an_import_disguises(cause: str, exit_code: int):
    """As the one of ONNX Runtime does, if it comes while its extension starts."""
    code = (
        "import sys, vaecodec.fileio as module\n"
        f"def fail(*_): raise ImportError('initialization failed') from {cause}\n"
        "module.read_bytes = fail\n"
        "from vaecodec.cli import main\n"
        "sys.argv = ['vaecodec', 'info', 'x']\n"
        "main()"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, b"", b"")


def test_what_nohup_ignores_stays_ignored(small: dict[str, Job], tmp_path: Path):
    job = small["compress"]
    strike = ("-c", STRIKE, "fsync", "before", str(int(signal.SIGHUP)))
    done = run_python(*strike, *job.place(tmp_path), after='trap "" HUP')
    assert done.returncode == 0, done.stderr
    job.check(tmp_path, None, finished=True)


# Disks


def mounting(*arguments: str | Path) -> None:
    """Run `mount`, or skip the test where that is not possible."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a file system takes Linux and root")
    done = subprocess.run(["mount", *arguments], capture_output=True, timeout=60)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


def fill(folder: Path) -> None:
    """Fill a disk but for one page, so that writing begins well and then fails."""
    with open(folder / "filler", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(PAGE_BYTES)):
                pass
        file.truncate(file.tell() - PAGE_BYTES)


@outputs
def test_a_full_disk(command: str, old: bytes | None, small: dict[str, Job], disk: Path):
    job = small[command]
    assert len(job.result) > PAGE_BYTES
    arguments = job.place(disk, old)
    fill(disk)
    before = contents(disk)
    refused(run(*arguments), rf"cannot write .*/{job.target_name}: no space left on device")
    assert contents(disk) == before


@outputs
def test_a_read_only_disk(command: str, old: bytes | None, small: dict[str, Job], disk: Path):
    arguments = small[command].place(disk, old)
    before = contents(disk)
    mounting("-o", "remount,ro", disk)
    refused(run(*arguments), "cannot write .*: the folder .* is read-only")
    assert contents(disk) == before


@pytest.mark.parametrize("old", [None, OLD["compress"]], ids=["fresh", "force"])
def test_a_folder_that_may_not_be_written(old: bytes | None, small: dict[str, Job], tmp_path: Path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    arguments = small["compress"].place(tmp_path, old)
    before = contents(tmp_path)
    tmp_path.chmod(0o555)
    try:
        refused(run(*arguments), "cannot write .*: the folder .* is read-only")
    finally:
        tmp_path.chmod(0o755)
    assert contents(tmp_path) == before


def test_a_file_that_may_not_grow(small: dict[str, Job], tmp_path: Path):
    """As a quota does it, and as it can be had without root."""
    job = small["compress"]
    assert len(job.result) > 8 * 512  # the unit of `ulimit -f`
    arguments = job.place(tmp_path, OLD[job.command])
    before = contents(tmp_path)
    # -B: Python itself would write too.
    done = run_python("-B", "-m", "vaecodec", *arguments, after="ulimit -f 8")
    refused(done, "cannot write .*: file too large")
    assert contents(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_pipe_into_a_full_disk(small: dict[str, Job]):
    with open("/dev/full", "wb") as full:
        source = small["compress"].source
        done = run_python("-m", "vaecodec", "compress", source, "-", stdout=full)
    message = b"vaecodec: error: cannot write to standard output: no space left on device\n"
    assert (done.returncode, done.stderr) == (6, message)


# Links and permissions


def test_force_replaces_what_a_link_names(small: dict[str, Job], tmp_path: Path):
    job = small["decompress"]
    link, kept = tmp_path / job.target_name, tmp_path / "elsewhere"
    arguments = job.place(tmp_path)
    kept.mkdir()
    (kept / "real.png").write_bytes(OLD[job.command])
    (kept / "real.png").chmod(0o640)
    (kept / "link.png").symlink_to("real.png")
    link.symlink_to("elsewhere/link.png")

    refused(run(*arguments), r".*/back\.png exists already; --force replaces it")
    assert contents(kept)["real.png"] == OLD[job.command]

    assert run(*arguments, "--force").returncode == 0
    assert os.readlink(link) == "elsewhere/link.png"
    assert os.readlink(kept / "link.png") == "real.png"
    assert stat.S_IMODE((kept / "real.png").lstat().st_mode) == 0o640
    assert contents(kept) == dict.fromkeys(("link.png", "real.png"), job.result)
    assert {path.name for path in tmp_path.iterdir()} == {"photo.vaec", "back.png", "elsewhere"}


def test_a_link_to_nothing_creates_what_it_names(small: dict[str, Job], tmp_path: Path):
    job = small["compress"]
    link = tmp_path / job.target_name
    arguments = job.place(tmp_path)
    link.symlink_to("made.vaec")
    done = run_python("-m", "vaecodec", *arguments, after="umask 027")
    assert done.returncode == 0, done.stderr
    assert os.readlink(link) == "made.vaec"
    assert (tmp_path / "made.vaec").read_bytes() == job.result
    assert stat.S_IMODE((tmp_path / "made.vaec").lstat().st_mode) == 0o640


def test_a_link_to_itself(small: dict[str, Job], tmp_path: Path):
    job = small["compress"]
    arguments = job.place(tmp_path)
    link = tmp_path / job.target_name
    link.symlink_to(link.name)
    refused(run(*arguments, "--force"), "cannot write .*: too many levels of symbolic links")
    assert os.readlink(link) == link.name
    assert {path.name for path in tmp_path.iterdir()} == {job.source.name, link.name}
