"""The command line as a shell sees it: real processes, pipes and exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from vaecodec.cli import app
from vaecodec.container import Chunk, Container, Header, Mode, pack
from vaecodec.limits import Limits

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX terminals and pipes")

HEADER = Header(640, 480, Mode.RGB, 8, 8064, bytes(range(8)))
FILE = pack(Container(HEADER, (b"\x01" * 1000,), (), (Chunk(b"teST", b"hello"),)))


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | changes


def run(
    *args: str | Path, data: bytes | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return run_python("-m", "vaecodec", *args, data=data, env=env)


def run_python(
    *args: str | Path, data: bytes | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    stdin = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    return subprocess.run(
        [sys.executable, *map(str, args)],
        capture_output=True,
        timeout=120,
        env=env or environment(),
        **stdin,
    )


def refused(done: subprocess.CompletedProcess[bytes], code: int, reason: str) -> None:
    """Hold an error to its form: its exit code, nothing on stdout, one line on stderr."""
    assert done.returncode == code, done.stderr.decode()
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vaecodec: error: ")
    assert re.search(reason, lines[0]), lines[0]


def misused(done: subprocess.CompletedProcess[bytes], reason: str) -> None:
    assert done.returncode == 2
    assert done.stdout == b""
    text = done.stderr.decode()
    assert "Usage: vaecodec" in text
    assert re.search(reason, text), text


def patched(target: str, error: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run `info` where one function fails in a way that no input brings about."""
    code = (
        f"import sys, {target.rpartition('.')[0]} as module\n"
        f"def fail(*_): raise {error}\n"
        f"module.{target.rpartition('.')[2]} = fail\n"
        "from vaecodec.cli import main\n"
        "sys.argv = ['vaecodec', 'info', 'x']\n"
        "main()"
    )
    return run_python("-c", code, env=environment(**env))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    with Image.open(SAMPLES / "portrait.jpg") as image:
        image.crop((300, 200, 397, 261)).save(path)
    return path


@pytest.fixture
def vaec(tmp_path: Path) -> Path:
    path = tmp_path / "some.vaec"
    path.write_bytes(FILE)
    return path


# Asking for help


def test_version():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(rb"vaecodec \d+\.\d+\.\d+\n", done.stdout)


def test_help_names_every_command():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    named = re.findall(r"^  (\w+)  ", done.stdout.decode().partition("Commands:")[2], re.MULTILINE)
    registered = [one.callback.__name__ for one in app.registered_commands if one.callback]
    assert named == registered
    for command in named:
        assert run(command, "--help").returncode == 0


def test_help_imports_nothing_heavy():
    modules = imported_by("--help")
    assert not modules & {"numpy", "PIL", "onnxruntime", "constriction", "rich"}


def imported_by(*args: str) -> set[str]:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        "from vaecodec.cli import main\n"
        f"sys.argv = ['vaecodec', *{args!r}]\n"
        "main()"
    )
    done = run_python("-c", code)
    assert done.returncode == 0
    return {name.partition(".")[0] for name in done.stderr.decode().split()}


# Misuse


def test_no_command():
    misused(run(), "Commands:")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["frobnicate"], "No such command"),
        (["info"], "Missing argument"),
        (["compress", "a.png", "-q", "101"], "quality 101 is not in 0 to 100"),
        (["compress", "a.png", "-q", "nan"], "quality nan is not in 0 to 100"),
        (["compress", "a.png", "-q", "high"], "Invalid value for '-q'"),
        (["compress", "a.png", "b.png", "-o", "c.vaec"], "several files go to a folder"),
        (["compress", "a.png", "-", "--json"], "standard output is taken"),
        (["decompress", "-", "--json"], "standard output is taken"),
        (["compress", "a.png", "--strip", "exif,pixels"], "pixels is none of exif, icc, xmp, dpi"),
        (["decompress", "a.vaec", "--format", ""], "'' is no suffix"),
        (["denoise", "a.png", "--format", "x/y"], "'x/y' is no suffix"),
        (["decompress", "a.vaec", "--strip", "colour"], "colour is none of exif, icc, xmp, dpi"),
        (["bench", ".", "--against", "vtm"], "it needs --curves"),
        (["bench", ".", "--qualities", "10,x"], "could not convert"),
        (["bench", ".", "--qualities", "10,200"], "quality 200 is not in 0 to 100"),
        (["bench", ".", "--qualities", ","], "the list is empty"),
    ],
)
def test_misuse(args: list[str], reason: str):
    misused(run(*args), reason)


# Inputs


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
def test_inputs_that_cannot_be_read(command: str, tmp_path: Path):
    refused(run(command, tmp_path / "absent.x"), 3, r"cannot read .*absent\.x: no such file")
    if command == "info":  # to which a folder means nothing
        refused(run(command, tmp_path), 3, "cannot read")


def test_compress_refuses_what_is_not_an_image(tmp_path: Path, vaec: Path):
    out = tmp_path / "out.vaec"
    for path, reason in (
        (SAMPLES / "LICENSES.md", "not an image"),
        (vaec, r"a \.vaec file already"),
    ):
        refused(run("compress", path, out), 3, reason)
    assert not out.exists()


def test_compress_refuses_a_size_over_the_limit():
    fields = struct.pack(">2I5B", 2**16 + 1, 1, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + fields + struct.pack(">I", zlib.crc32(b"IHDR" + fields))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + b"\0\0\0\0IDAT5\xaf\x06\x1e"
    refused(run("compress", "-", data=data), 5, "image width in pixels is 65,537")


def test_decompress_refuses_what_is_not_a_vaec_file(photo: Path, tmp_path: Path):
    refused(run("decompress", photo, tmp_path / "out.png"), 3, r"not a \.vaec file")
    refused(run("decompress", "-", data=FILE[:20]), 3, "inside the header")
    assert not (tmp_path / "out.png").exists()


# Outputs, judged before anything is done


def test_an_existing_output_is_refused_before_the_model_is_looked_for(photo: Path, vaec: Path):
    for command, source, derived in (
        ("compress", photo, photo.with_suffix(".vaec")),
        ("decompress", vaec, vaec.with_suffix(".png")),
    ):
        derived.write_bytes(b"precious")
        done = run(command, source)
        refused(done, 6, f"{derived.name} exists already; --force replaces it")
        assert derived.read_bytes() == b"precious"


def test_outputs_that_cannot_be_written(photo: Path, tmp_path: Path):
    refused(run("compress", photo, f"{tmp_path}/no/"), 6, "it names a folder")
    refused(run("compress", photo, "-o", tmp_path / "no" / "x.vaec"), 6, "there is no folder")
    refused(run("bench", tmp_path, "--json", photo), 6, "exists already")


def test_a_source_that_is_missing_is_named_before_anything_else(tmp_path: Path):
    for command in ("compress", "decompress"):
        done = run(command, tmp_path / "photso", f"{tmp_path}/out/", "-r")
        refused(done, 3, "cannot read .*/photso: no such file or directory")


def test_options_of_folders_are_refused_with_a_file(photo: Path, vaec: Path):
    options = (["-r"], ["-j", "2"], ["--engine", "ray"], ["--ray-address", "host:1"])
    for command, source in (("compress", photo), ("decompress", vaec)):
        for option in options:
            done = run(command, source, *option)
            misused(done, f"Invalid value for {option[0]}: it is for folders")


def test_an_output_without_a_name(photo: Path):
    for source in (photo, photo.parent):
        misused(run("compress", source, ""), "the name of the output is empty")
        misused(run("decompress", source, "-o", ""), "the name of the output is empty")


def test_a_compressed_file_is_never_called_an_image(photo: Path, tmp_path: Path):
    for name in ("b.JPG", "b.png"):
        done = run("compress", photo, tmp_path / name, "--force")
        misused(done, f"{name} is named like an image")
        assert not (tmp_path / name).exists()


def test_the_input_is_never_the_output(photo: Path, tmp_path: Path):
    before = photo.read_bytes()
    for name in (photo, tmp_path / "." / photo.name):
        refused(run("compress", photo, name, "--force"), 6, "is the input itself")
    misnamed = tmp_path / "image.vaec"  # the derived name is the same
    misnamed.write_bytes(before)
    refused(run("compress", misnamed, "--force"), 6, "is the input itself")
    assert photo.read_bytes() == misnamed.read_bytes() == before


def test_the_input_is_known_behind_a_link(photo: Path, tmp_path: Path):
    link = tmp_path / "link.vaec"
    try:
        link.symlink_to(photo)
    except OSError:
        pytest.skip("links are not permitted here")
    refused(run("compress", photo, link, "--force"), 6, "is the input itself")


@pytest.mark.parametrize("suffix", ["", ".docx", ".vaec"])
def test_decompress_refuses_a_format_that_is_none(vaec: Path, suffix: str, tmp_path: Path):
    done = run("decompress", vaec, tmp_path / f"out{suffix}")
    refused(done, 3, r"use one of \.png")


@posix
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_no_binary_to_a_terminal(command: str, photo: Path):
    import pty

    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vaecodec", command, str(photo), "-"],
            stdout=slave,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
        )
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == 6
    assert b"not written to a terminal" in done.stderr


@posix
def test_text_does_go_to_a_terminal(vaec: Path):
    import pty

    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vaecodec", "info", str(vaec)],
            stdout=slave,
            env=environment(),
            timeout=60,
        )
        assert done.returncode == 0
        assert b"640x480" in os.read(master, 10_000)
    finally:
        os.close(slave)
        os.close(master)


def file_of_no_encoding(folder: Path, name: bytes = b"\xff.vaec") -> bytes:
    """Return the path of a file whose name is not valid in UTF-8."""
    path = os.fsencode(folder) + b"/" + name
    try:
        with open(path, "wb") as file:
            file.write(FILE)
    except OSError:
        pytest.skip("this file system takes no such name")
    return path


@posix
def test_a_name_in_no_encoding_goes_to_a_terminal(tmp_path: Path):
    import pty

    path = file_of_no_encoding(tmp_path)
    master, slave = pty.openpty()
    try:
        for command in (b"info", b"verify"):
            done = subprocess.run(
                [sys.executable.encode(), b"-m", b"vaecodec", command, path],
                stdout=slave,
                stderr=subprocess.PIPE,
                env=environment(PYTHONIOENCODING="utf-8:strict"),
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            assert os.read(master, 10_000).startswith(path)
    finally:
        os.close(slave)
        os.close(master)


@posix
def test_a_reader_that_has_gone(vaec: Path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vaecodec", "info", str(vaec)],
            stdout=write_end,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
        )
    finally:
        os.close(write_end)
    assert done.returncode == 6
    assert done.stderr == b"vaecodec: error: cannot write to standard output: broken pipe\n"


# Models


def test_a_bundle_that_is_not_there(photo: Path, vaec: Path):
    refused(run("compress", photo, "--bundle", "nonesuch"), 4, "no bundle named nonesuch")
    assert not photo.with_suffix(".vaec").exists()
    refused(run("decompress", vaec), 4, "0001020304050607")
    refused(run("decompress", vaec, "--bundle", "nonesuch"), 4, "no bundle named nonesuch")


# What nobody expects


def test_interrupt():
    done = patched("vaecodec.fileio.read_bytes", "KeyboardInterrupt")
    assert (done.returncode, done.stdout) == (130, b"")
    assert b"Traceback" not in done.stderr


def test_a_bug_is_one_line_and_its_traceback_on_request():
    done = patched("vaecodec.fileio.read_bytes", "RuntimeError('boom\\nbang')")
    refused(done, 1, r"please report it \(RuntimeError: boom bang\); VAECODEC_DEBUG=1")
    done = patched("vaecodec.fileio.read_bytes", "RuntimeError('boom')", VAECODEC_DEBUG="1")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Traceback")
    assert done.stderr.rstrip().endswith(b"RuntimeError: boom")


def test_out_of_memory():
    refused(patched("vaecodec.fileio.read_bytes", "MemoryError"), 5, "not enough memory")


# info


def test_info_as_text(vaec: Path):
    done = run("info", vaec)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        f"{vaec}\n"
        "  image    640x480 RGB, 8 bits per sample\n"
        "  file     1,065 bytes, 0.028 bpp, container version 1.0\n"
        "  quality  50.0 (level 8064)\n"
        "  model    0001020304050607 (not installed: decompress needs --bundle)\n"
        "  chunks   teST 5 bytes, LATN 1,000 bytes\n"
    )


def test_info_as_json_from_a_pipe():
    done = run("info", "-", "--json", data=FILE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout) == {
        "file": "-",
        "version": "1.0",
        "width": 640,
        "height": 480,
        "mode": "RGB",
        "segments": 1,
        "bit_depth": 8,
        "level": 8064,
        "quality": 50.0,
        "model_id": "0001020304050607",
        "bundle": None,
        "file_bytes": len(FILE),
        "bpp": 8 * len(FILE) / (640 * 480),
        "chunks": [{"name": "teST", "bytes": 5}, {"name": "LATN", "bytes": 1000}],
    }


def test_info_of_an_image_over_the_limits():
    header = Header(10**6, 40, Mode.RGB, 8, 8064, bytes(8))
    limits = Limits(max_side=10**6)
    data = pack(Container(header, (b"x",) * header.segments, (), ()), limits)
    done = run("info", "-", "--json", data=data)
    assert json.loads(done.stdout)["width"] == 10**6


def test_info_notices_damage():
    damaged = FILE[:-10] + b"\x00" + FILE[-9:]
    refused(run("info", "-", data=damaged), 3, "checksum of chunk 1")


def test_info_imports_nothing_heavy(vaec: Path):
    modules = imported_by("info", str(vaec))
    assert not modules & {"numpy", "PIL", "onnxruntime", "constriction", "torch", "rich"}


@posix
def test_info_of_a_name_in_no_encoding(tmp_path: Path):
    path = file_of_no_encoding(tmp_path)
    command = [sys.executable.encode(), b"-m", b"vaecodec", b"info", path]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(path + b"\n")


# With a model


def test_there_and_back(photo: Path, tiny_bundle: Path, tmp_path: Path):
    compressed = tmp_path / "photo.vaec"
    done = run("compress", photo, "--bundle", tiny_bundle, "--psnr")
    assert (done.returncode, done.stdout) == (0, b"")
    line = done.stderr.decode()
    pattern = (
        rf"{re.escape(str(photo))} -> {re.escape(str(compressed))}: "
        r"([\d,]+) bytes \([\d.]+% of ([\d,]+)\), ([\d.]+) bpp, ([\d.]+) dB, [\d.]+ s\n"
    )
    size, original_size, rate, fidelity = re.fullmatch(pattern, line).groups()
    assert int(size.replace(",", "")) == compressed.stat().st_size
    assert int(original_size.replace(",", "")) == photo.stat().st_size
    assert float(rate) == pytest.approx(8 * compressed.stat().st_size / (97 * 61), abs=5e-4)

    restored = tmp_path / "restored.png"
    arguments = ("--bundle", tiny_bundle, "--original", photo)
    done = run("decompress", compressed, restored, *arguments)
    assert (done.returncode, done.stdout) == (0, b"")
    assert f"97x61 RGB, {fidelity} dB" in done.stderr.decode()
    with Image.open(restored) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (97, 61))
    refused(run("decompress", compressed, restored, *arguments), 6, "exists already")
    assert run("decompress", compressed, restored, *arguments, "--force").returncode == 0

    done = run("decompress", compressed, "--force", "--quiet", *arguments)  # photo.png is derived
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert photo.read_bytes() == restored.read_bytes()


def test_metadata_is_kept_unless_stripped(tiny_bundle: Path, tmp_path: Path):
    source, model = tmp_path / "tagged.png", ("--bundle", str(tiny_bundle))
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "ACM"
    Image.new("RGB", (20, 10)).save(source, exif=exif, dpi=(300, 300))

    def chunks(*options: str) -> list[str]:
        done = run("compress", source, "-", *model, "--quiet", *options)
        assert done.returncode == 0, done.stderr
        coded.write_bytes(done.stdout)
        return [
            chunk["name"] for chunk in json.loads(run("info", coded, "--json").stdout)["chunks"]
        ]

    coded, restored = tmp_path / "a.vaec", tmp_path / "a.png"
    assert chunks("--strip", "all") == ["LATN"]
    assert chunks("--strip", "dpi, xmp") == ["exif", "LATN"]
    assert chunks() == ["exif", "dpis", "LATN"]
    assert run("decompress", coded, restored, *model, "--strip", "dpi").returncode == 0
    with Image.open(restored) as image:
        assert image.getexif()[ExifTags.Base.Make] == "ACM"
        assert "dpi" not in image.info


def test_pipes(photo: Path, tiny_bundle: Path):
    model = ("--bundle", str(tiny_bundle))
    coded = run("compress", "-", *model, "--quiet", data=photo.read_bytes())
    assert (coded.returncode, coded.stderr) == (0, b"")
    decoded = run("decompress", "-", "-", *model, data=coded.stdout)
    assert decoded.returncode == 0
    assert decoded.stderr.startswith(b"- -> -: 97x61 RGB, ")
    with Image.open(io.BytesIO(decoded.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (97, 61))


def test_summaries_as_json(photo: Path, tiny_bundle: Path, tmp_path: Path):
    model = ("--bundle", str(tiny_bundle))
    coded, restored = tmp_path / "a.vaec", tmp_path / "a.bmp"
    done = run("compress", photo, coded, *model, "--json", "--psnr", "-q", "80")
    assert (done.returncode, done.stderr) == (0, b"")
    summary = json.loads(done.stdout)
    assert summary.pop("seconds") > 0
    fidelity = summary.pop("psnr_db")
    assert summary == {
        "input": str(photo),
        "output": str(coded),
        "status": "done",
        "input_bytes": photo.stat().st_size,
        "output_bytes": coded.stat().st_size,
        "width": 97,
        "height": 61,
        "notices": [],
        "error": "",
        "exit_code": 0,
        "quality": 80.0,
        "denoise": False,
        "bpp": 8 * coded.stat().st_size / (97 * 61),
    }
    done = run("decompress", coded, restored, *model, "--json", "--original", photo)
    summary = json.loads(done.stdout)
    assert summary["psnr_db"] == pytest.approx(fidelity, abs=1e-9)
    assert (summary["width"], summary["height"], summary["mode"]) == (97, 61, "RGB")
    # An image that is equal to its original has no finite PSNR, and JSON no infinity.
    done = run(
        "decompress", coded, "-o", tmp_path / "b.png", *model, "--json", "--original", restored
    )
    assert json.loads(done.stdout)["psnr_db"] is None


def test_an_original_that_is_none(photo: Path, tiny_bundle: Path, tmp_path: Path):
    other = tmp_path / "other.png"
    Image.new("L", (97, 61)).save(other)
    coded = tmp_path / "photo.vaec"
    assert run("compress", photo, "--bundle", tiny_bundle).returncode == 0
    done = run("decompress", coded, "-o", tmp_path / "o.png", "--original", other)
    refused(done, 3, "is not the original: it is 97x61 GREY of 8 bits, and the file 97x61 RGB")
    assert not (tmp_path / "o.png").exists()


def test_kinds_of_images_that_are_refused(tiny_bundle: Path, tmp_path: Path):
    several = tmp_path / "several.gif"
    frames = [Image.new("L", (9, 9), value) for value in (0, 99)]
    frames[0].save(several, save_all=True, append_images=frames[1:])
    refused(run("compress", several, "--bundle", tiny_bundle), 3, "holds 2 images")
    assert not (tmp_path / "several.vaec").exists()


def test_what_is_converted_is_said(photo: Path, tiny_bundle: Path, tmp_path: Path):
    palette = tmp_path / "palette.png"
    with Image.open(photo) as image:
        image.quantize(16).save(palette)
    coded = tmp_path / "palette.vaec"
    done = run("compress", palette, coded, "--bundle", tiny_bundle)
    assert done.returncode == 0
    assert done.stderr.decode().splitlines()[0] == f"{palette}: its palette is stored as RGB"
    done = run("compress", palette, coded, "--bundle", tiny_bundle, "--force", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_transparency_and_depth_come_back(tiny_bundle: Path, tmp_path: Path):
    import imagecodecs

    rng = np.random.default_rng(8)
    deep = rng.integers(0, 65_536, (40, 50, 4)).astype(np.uint16)
    source, coded, target = (tmp_path / name for name in ("a.png", "a.vaec", "b.png"))
    source.write_bytes(imagecodecs.png_encode(deep))
    assert run("compress", source, coded, "--bundle", tiny_bundle).returncode == 0
    done = run("decompress", coded, target, "--bundle", tiny_bundle, "--original", source)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"50x40 RGB_ALPHA, [\d.]+ dB", done.stderr)
    decoded = imagecodecs.png_decode(target.read_bytes())
    assert (decoded.shape, decoded.dtype) == (deep.shape, deep.dtype)
    np.testing.assert_array_equal(decoded[..., 3], deep[..., 3])
    refused(
        run("decompress", coded, tmp_path / "b.jpg", "--bundle", tiny_bundle),
        6,
        "8 bits per sample",
    )


def test_a_region(photo: Path, tiny_bundle: Path, tmp_path: Path):
    coded = tmp_path / "photo.vaec"
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    model = ("--bundle", tiny_bundle)
    assert run("compress", photo, *model).returncode == 0
    assert run("decompress", coded, whole, *model).returncode == 0
    done = run("decompress", coded, part, *model, "--region", "20,30,40,25", "--original", photo)
    assert done.returncode == 0, done.stderr
    assert b"40x25 RGB, " in done.stderr
    with Image.open(whole) as one, Image.open(part) as other:
        np.testing.assert_array_equal(np.asarray(one)[30:55, 20:60], np.asarray(other))
    for region in ("20,30,40", "0,0,98,1", "5,5,0,5", "-1,0,5,5"):
        misused(run("decompress", coded, tmp_path / "x.png", *model, "--region", region), "region")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("option", [("--max-pixels", "100"), ("--max-memory", "10M")])
def test_limits_of_ones_own(
    photo: Path, tiny_bundle: Path, tmp_path: Path, option: tuple[str, str]
):
    coded = tmp_path / "photo.vaec"
    refused(run("compress", photo, "--bundle", tiny_bundle, *option), 5, "over the limit of 10")
    assert run("compress", photo, "--bundle", tiny_bundle).returncode == 0
    done = run("decompress", coded, tmp_path / "x.png", "--bundle", tiny_bundle, *option)
    refused(done, 5, "over the limit of 10")
    misused(run("compress", photo, option[0], "none"), option[0])


def test_bench(tiny_bundle: Path, tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(SAMPLES / "portrait.jpg") as image:
        for index in range(2):
            image.crop((300 + index, 200, 364 + index, 264)).save(folder / f"{index}.png")
    rates = np.geomspace(0.01, 100, 9)
    points = [{"bpp": rate, "psnr_rgb": 10 + 5 * index} for index, rate in enumerate(rates)]
    curves = tmp_path / "curves.json"
    curves.write_text(json.dumps({"peer": points, "far": [], "third": points}))
    report_path = tmp_path / "report.json"
    model = ("--bundle", str(tiny_bundle), "--qualities", "80, 20 50")
    curve_options = ("--curves", curves, "--against", "peer", "--against", "far")

    done = run(
        *("bench", folder, *model, *curve_options, "--metrics", "psnr", "--json", report_path)
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().splitlines() == ["1/2 0.png", "2/2 1.png"]
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("tiny (")
    assert [line.split()[0] for line in lines[2:5]] == ["20.0", "50.0", "80.0"]
    assert len({len(line) for line in lines[1:5]}) == 1  # aligned
    few = r"rough: only \d points"
    assert re.match(rf"  peer +[+-][\d.]+%  over [\d.]+ to [\d.]+ dB, {few}", lines[7])
    assert re.match(r"  far +a curve needs two usable points", lines[8])
    report = json.loads(report_path.read_text())
    assert len(report["images"]) == 6
    assert [row["quality"] for row in report["qualities"]] == [20, 50, 80]
    assert [row["codec"] for row in report["comparisons"]] == ["peer", "far"]
    assert report["speed"] is None

    done = run("bench", folder, *model, "--json", "-", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["comparisons"] == []


def test_bench_notices_mistakes_before_it_measures(tmp_path: Path):
    curves = tmp_path / "curves.json"
    curves.write_text('{"vtm": [], "jpeg": []}')
    misused(run("bench", tmp_path, "--curves", curves, "--against", "vtn"), r"there is vtm")
    curves.write_text("[1, 2]")
    refused(run("bench", tmp_path, "--curves", curves), 3, "is not a JSON file of curves")
    refused(run("bench", tmp_path), 3, "there are no images in")
    refused(run("bench", tmp_path / "absent"), 3, "cannot read the folder")
