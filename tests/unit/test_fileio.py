import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vaecodec import fileio
from vaecodec.errors import InputError, LimitError, OutputError, OutputExistsError
from vaecodec.fileio import check_output, read_bytes, write_atomic, write_stdout
from vaecodec.limits import Limits

ROOT = Path(__file__).parents[2]
DATA = bytes(range(256)) * 5
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


class FullDisk(io.BytesIO):
    """Bytes in memory that can be told to take no more."""

    full = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)


class FakeStream(io.TextIOWrapper):
    """A standard stream over bytes in memory, a terminal if asked."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.raw_bytes = FullDisk(data)
        super().__init__(self.raw_bytes)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def run_python(code: str, *args: str, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, timeout=60, **kwargs
    )


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_read_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "in.bin"
    path.write_bytes(DATA)
    assert read_bytes(path) == read_bytes(str(path)) == DATA
    monkeypatch.setattr(fileio, "_BLOCK_BYTES", 100)  # several, the last one short
    assert read_bytes(path, Limits(max_file_bytes=len(DATA))) == DATA


def test_read_refuses_a_large_file_by_its_size(tmp_path: Path):
    path = tmp_path / "in.bin"
    path.write_bytes(DATA)
    with pytest.raises(LimitError) as caught:
        read_bytes(path, Limits(max_file_bytes=len(DATA) - 1))
    assert caught.value.value == len(DATA)


@posix
def test_read_refuses_an_endless_file():
    with pytest.raises(LimitError):
        read_bytes("/dev/zero", Limits(max_file_bytes=1000))


def test_read_missing_folder_or_impossible_name(tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot read .*absent: no such file"):
        read_bytes(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot read"):
        read_bytes(tmp_path)
    with pytest.raises(InputError, match="null"):
        read_bytes("a\0b")


def test_read_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match="permission denied"):
        read_bytes(tmp_path / "secret")


def test_read_stdin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", FakeStream(DATA))
    assert read_bytes("-") == DATA
    sys.stdin.seek(0)
    with pytest.raises(LimitError):
        read_bytes("-", Limits(max_file_bytes=len(DATA) - 1))


def test_read_stdin_terminal_or_closed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", FakeStream(terminal=True))
    with pytest.raises(InputError, match="terminal"):
        read_bytes("-")
    sys.stdin.close()
    with pytest.raises(InputError, match="closed"):
        read_bytes("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="closed"):
        read_bytes("-")


def test_read_stdin_failure(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", FakeStream())
    monkeypatch.setattr(fileio, "_read_bounded", fail)
    with pytest.raises(InputError, match="standard input: input/output error"):
        read_bytes("-")


def test_real_pipes():
    code = "from vaecodec.fileio import *; write_stdout(read_bytes('-'))"
    done = run_python(code, input=DATA)
    assert (done.returncode, done.stdout, done.stderr) == (0, DATA, b"")


@posix
def test_an_unbuffered_standard_output_takes_all_or_says_so(tmp_path: Path):
    """It may take less than it is given, at the end of a disk for one."""
    code = (
        "import resource, signal, sys; from vaecodec.fileio import write_stdout\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "write_stdout(bytes(int(sys.argv[1])))"
    )
    for size in (5000, 6000):
        with (tmp_path / "out").open("wb") as file:
            done = subprocess.run(
                [sys.executable, "-u", "-c", code, str(size)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert (done.returncode == 0) == (size <= 5000)
        assert (b"cannot write to standard output: file too large" in done.stderr) == (size > 5000)


@posix
def test_names_of_open_descriptors(tmp_path: Path):
    code = "from vaecodec.fileio import write_atomic; write_atomic('/dev/stdout', b'through')"
    assert run_python(code).stdout == b"through"
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = "import sys; from vaecodec.fileio import write_atomic; write_atomic(sys.argv[1], b'too')"
    assert run_python(code, str(tmp_path / "link")).stdout == b"too"


def test_write_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("out.bin", DATA)
    assert (tmp_path / "out.bin").read_bytes() == DATA


def test_write_refuses_to_overwrite(tmp_path: Path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        write_atomic(path, DATA)
    assert path.read_bytes() == b"old"
    write_atomic(path, DATA, force=True)
    assert path.read_bytes() == DATA
    assert listing(tmp_path) == ["out.bin"]


@posix
def test_write_gives_the_mode_of_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "out.bin", DATA)
    finally:
        os.umask(before)
    assert (tmp_path / "out.bin").stat().st_mode & 0o777 == 0o640


@posix
def test_write_accepts_the_longest_name(tmp_path: Path):
    path = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    write_atomic(path, DATA)
    assert path.read_bytes() == DATA


@posix
def test_write_follows_a_symbolic_link(tmp_path: Path):
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", DATA)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == DATA
    with pytest.raises(OutputExistsError):
        write_atomic(tmp_path / "link", DATA)


@posix
def test_write_passes_through_devices_and_pipes(tmp_path: Path):
    write_atomic(os.devnull, DATA)
    assert Path(os.devnull).is_char_device()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # A reader that is there already lets the writer open the pipe without waiting.
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(fifo, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert fifo.is_fifo()


def test_write_to_a_folder_or_into_a_missing_one(tmp_path: Path):
    with pytest.raises(OutputError, match="folder"):
        write_atomic(tmp_path, DATA, force=True)
    with pytest.raises(OutputError, match="there is no folder"):
        write_atomic(tmp_path / "absent" / "out.bin", DATA)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "out.bin", DATA)
    with pytest.raises(OutputError, match="null"):
        write_atomic("a\0b", DATA)
    assert listing(tmp_path) == ["file"]


@posix
def test_write_refuses_what_is_not_a_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "is_file", lambda _: False)  # as a block device would say
    (tmp_path / "disk").write_bytes(b"old")
    with pytest.raises(OutputError, match="not a regular file"):
        write_atomic(tmp_path / "disk", DATA, force=True)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("force", [False, True])
def test_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, force: bool
):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.bin"
    if force:
        path.write_bytes(b"old")
    monkeypatch.setattr(os, "link", fail)  # as on disks that have no second names
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match=r"cannot write .*out\.bin: no space left on device"):
        write_atomic(path, DATA, force=force)
    assert listing(tmp_path) == (["out.bin"] if force else [])
    if force:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("has_links", [False, True])
def test_a_new_file_is_put_in_place_by_link_or_by_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
):
    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", fail)
    write_atomic(tmp_path / "out.bin", DATA)
    assert (tmp_path / "out.bin").read_bytes() == DATA
    assert listing(tmp_path) == ["out.bin"]


@posix
def test_what_another_process_has_written_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "out.bin"
    monkeypatch.setattr(os, "fsync", lambda _: path.write_bytes(b"theirs"))
    with pytest.raises(OutputExistsError, match="exists already"):
        write_atomic(path, DATA)
    assert path.read_bytes() == b"theirs"
    write_atomic(path, DATA, force=True)
    assert path.read_bytes() == DATA
    assert listing(tmp_path) == ["out.bin"]


def test_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out.bin", DATA)
    assert listing(tmp_path) == []


@posix
def test_a_kill_leaves_the_old_file_whole(tmp_path: Path):
    code = (
        "import os, signal, sys; from vaecodec.fileio import write_atomic\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(sys.argv[1], b'new' * 100_000, force=True)"
    )
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    done = run_python(code, str(path))
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_stdout_takes_binary_data(monkeypatch: pytest.MonkeyPatch):
    stream = FakeStream()
    monkeypatch.setattr(sys, "stdout", stream)
    write_stdout(DATA)
    assert stream.raw_bytes.getvalue() == DATA


def test_stdout_terminal_or_closed(monkeypatch: pytest.MonkeyPatch):
    stream = FakeStream(terminal=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(OutputError, match="terminal"):
        write_stdout(DATA)
    assert stream.raw_bytes.getvalue() == b""
    stream.close()
    with pytest.raises(OutputError, match="closed"):
        write_stdout(DATA)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"):
        write_stdout(DATA)


def test_stdout_failure_is_an_output_error(monkeypatch: pytest.MonkeyPatch):
    stream = FakeStream()
    stream.raw_bytes.full = True
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(OutputError, match="no space left on device"):
        write_stdout(DATA)


@posix
def test_a_reader_that_goes_away_costs_one_clear_error():
    code = (
        "import sys; from vaecodec.errors import OutputError\n"
        "from vaecodec.fileio import write_stdout\n"
        "try: write_stdout(bytes(1_000_000))\n"
        "except OutputError as error: sys.exit(error.exit_code)"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(writer)
    # Without care Python fails once more while it flushes at exit: code 120 and a trace.
    assert (done.returncode, done.stderr) == (6, b"")


def test_what_is_replaced_lends_its_permissions(tmp_path: Path):
    target = tmp_path / "private.vaec"
    target.write_bytes(b"old")
    target.chmod(0o640)
    write_atomic(target, DATA, force=True)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["absent/", "x" * 300])
def test_names_that_no_file_can_have(tmp_path: Path, name: str):
    with pytest.raises(OutputError):
        check_output(str(tmp_path / name) + name[-1:], force=False)
    with pytest.raises(OutputError):
        write_atomic(f"{tmp_path}/{name}", DATA)
    assert not list(tmp_path.iterdir())
