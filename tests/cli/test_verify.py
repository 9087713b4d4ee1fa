"""`vaecodec verify`: which files are good, which are not, and why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.test_cli import (
    FILE,
    environment,
    file_of_no_encoding,
    imported_by,
    misused,
    posix,
    refused,
    run,
)
from golden.test_golden import V1
from hostile.make_corpus import IMAGE, read_corpus
from hostile.mutate import Parts
from hostile.oracle import LIMITS

from vaecodec.cli.verify import _SymbolReader
from vaecodec.container import ALPHA, LATENTS, unpack
from vaecodec.errors import VaecodecError

SAMPLES = Path(__file__).parents[2] / "samples"
BUNDLE = V1 / "bundle"
RGB = (V1 / "rgb.vaec").read_bytes()
HEAVY = {"numpy", "PIL", "onnxruntime", "constriction", "torch", "rich"}


CUT = "the file ends inside chunk 1; damaged (left,top,width,height): 0,0,640,480"


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 0x10,)) + data[place + 1 :]


def resealed(data: bytes, fourcc: bytes, place: int) -> bytes:
    """Damage the payload of a chunk, and make its CRC that of the damage."""
    parts = Parts.of(data)
    for piece in parts.of_kind(fourcc)[:1]:
        piece.payload = flipped(piece.payload, place)
    return parts.joined()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, and one in a folder inside."""
    (tmp_path / "files" / "inside").mkdir(parents=True)
    for name in ("a.vaec", "b.vaec", "inside/c.VAEC"):
        (tmp_path / "files" / name).write_bytes(FILE)
    (tmp_path / "files" / "notes.txt").write_text("no image")
    return tmp_path / "files"


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stdout.decode().splitlines()


def test_good_files(folder: Path):
    a, b = folder / "a.vaec", folder / "b.vaec"
    done = run("verify", a, b)
    assert done.returncode == 0
    assert lines(done) == [f"{a}: ok", f"{b}: ok"]
    assert done.stderr == b"2 files, 0 bad\n"


DAMAGES = {
    "empty": (b"", "the file ends after 0 bytes, inside the magic"),
    "foreign": (b"\x89PNG\r\n\x1a\n" + bytes(60), "this is not a .vaec file"),
    "later": (FILE[:8] + b"\x02" + FILE[9:], "container version 2 is not"),
    "header": (flipped(FILE, 13), "the header's checksum does not match"),
    "metadata": (flipped(FILE, 46), "the checksum of chunk 0 does not match"),
    "latents": (flipped(FILE, 500), "the checksum of chunk 1 does not match"),
    "cut": (FILE[:-1], "the file ends inside chunk 1"),
    "longer": (FILE + b"\n", "1 bytes follow the last chunk"),
}


def test_each_damage_is_named_and_keeps_no_other_file_from_being_checked(tmp_path: Path):
    good = tmp_path / "good.vaec"
    good.write_bytes(FILE)
    names: list[Path] = []
    for name, (data, _) in DAMAGES.items():
        (tmp_path / name).write_bytes(data)
        names.append(tmp_path / name)
    done = run("verify", good, *names, tmp_path / "absent", good)
    assert done.returncode == 3
    found = lines(done)
    assert found[0] == found[-1] == f"{good}: ok"
    for line, name, (_, reason) in zip(found[1:], names, DAMAGES.values(), strict=False):
        assert line.startswith(f"{name}: {reason}")
    assert found[-2] == f"{tmp_path / 'absent'}: no such file or directory"
    assert len(found) == len(DAMAGES) + 3
    assert done.stderr.decode() == f"{len(found)} files, {len(DAMAGES) + 1} bad\n"


def test_the_exit_code_is_that_of_the_first_bad_file(folder: Path):
    large, foreign = folder / "a.vaec", folder / "b.vaec"
    foreign.write_bytes(b"no image")
    limit = ("--max-pixels", "1000")
    done = run("verify", large, foreign, *limit)
    assert done.returncode == 5
    assert "image size in pixels is 307,200, over the limit of 1,000" in lines(done)[0]
    assert run("verify", foreign, large, *limit).returncode == 3


def test_folders(folder: Path):
    done = run("verify", folder)
    assert (done.returncode, done.stderr) == (0, b"2 files, 0 bad\n")
    (folder / "inside" / "d.vaec").write_bytes(FILE[:-1])
    assert run("verify", folder).returncode == 0
    done = run("verify", "-r", folder, folder / "b.vaec")
    assert (done.returncode, done.stderr) == (3, b"5 files, 1 bad\n")
    assert lines(done) == [
        f"{folder}/a.vaec: ok",
        f"{folder}/b.vaec: ok",
        f"{folder}/inside/c.VAEC: ok",
        f"{folder}/inside/d.vaec: the file ends inside chunk 1; "
        "damaged (left,top,width,height): 0,0,640,480",
        f"{folder}/b.vaec: ok",
    ]


def test_a_folder_without_files_is_not_good(folder: Path, tmp_path: Path):
    done = run("verify", tmp_path, folder / "a.vaec")
    assert (done.returncode, done.stderr) == (3, b"2 files, 1 bad\n")
    reason = "there are no .vaec files in it (-r looks into the folders inside)"
    assert lines(done) == [f"{tmp_path}: {reason}", f"{folder}/a.vaec: ok"]
    assert run("verify", "-r", tmp_path).returncode == 0


@posix
def test_links_and_pipes_in_a_folder(folder: Path):
    os.mkfifo(folder / "pipe.vaec")  # opening it would wait for ever
    (folder / "linked.vaec").symlink_to("pipe.vaec")
    (folder / "._a.vaec").write_bytes(b"what macOS puts beside a.vaec")
    (folder / "lost.vaec").symlink_to("nowhere")
    (folder / "inside" / "again").symlink_to(folder)
    done = run("verify", "-r", folder)
    assert done.returncode == 3
    assert lines(done)[2] == f"{folder}/lost.vaec: no such file or directory"
    assert done.stderr == b"4 files, 1 bad\n"


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(folder: Path):
    (folder / "inside").chmod(0)
    try:
        done = run("verify", "-r", folder)
    finally:
        (folder / "inside").chmod(0o700)
    assert done.returncode == 3
    assert lines(done)[-1] == f"{folder}/inside: the folder cannot be read: Permission denied"


def test_json_is_an_object_for_each_file(folder: Path):
    cut = folder / "b.vaec"
    cut.write_bytes(FILE[:-1])
    done = run("verify", folder, "--json")
    assert (done.returncode, done.stderr) == (3, b"")
    assert [json.loads(line) for line in lines(done)] == [
        {
            "file": f"{folder}/a.vaec",
            "ok": True,
            "error": None,
            "message": None,
            "exit_code": 0,
            "damaged": [],
        },
        {
            "file": str(cut),
            "ok": False,
            "error": "TruncatedError",
            "message": "the file ends inside chunk 1",
            "exit_code": 3,
            "damaged": [[0, 0, 640, 480]],
        },
    ]


def test_quiet_names_the_bad_ones_alone(folder: Path):
    done = run("verify", folder, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (folder / "b.vaec").write_bytes(FILE[:-1])
    done = run("verify", folder, "--quiet")
    assert (done.returncode, done.stderr) == (3, b"")
    assert lines(done) == [f"{folder}/b.vaec: {CUT}"]


def test_a_pipe():
    done = run("verify", "-", data=FILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"-: ok\n", b"1 file, 0 bad\n")
    done = run("verify", "-", data=FILE[:-1])
    assert (done.returncode, lines(done)) == (3, [f"-: {CUT}"])


def test_misuse(folder: Path):
    misused(run("verify"), "Missing argument 'FILE'")
    misused(run("verify", "-", "-", data=FILE), "standard input can be read only once")
    misused(run("verify", folder, "--bundle", "base"), "only --deep uses a model")


def test_nothing_heavy_is_imported(folder: Path):
    assert not imported_by("verify", str(folder)) & HEAVY


@posix
def test_names_that_break_lines_or_are_in_no_encoding(tmp_path: Path):
    file_of_no_encoding(tmp_path, b"\xff\n\x1b[31m.vaec")
    command = [sys.executable, "-m", "vaecodec", "verify", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=60)
    assert done.returncode == 0
    assert done.stdout == os.fsencode(tmp_path) + b"/\xff\\n\\x1b[31m.vaec: ok\n"


# In depth


def test_deep_reads_what_is_there_and_makes_no_picture(tmp_path: Path):
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    for name in ("decoder", "preview", "encoder", "hyper"):
        (bundle / f"{name}.onnx").unlink()
    done = run("verify", V1, "--deep", "--bundle", bundle)
    assert (done.returncode, done.stderr) == (0, b"9 files, 0 bad\n"), done.stdout


def test_deep_finds_damage_under_checksums_that_are_right(tmp_path: Path):
    alpha = (V1 / "rgb-alpha.vaec").read_bytes()
    damages = {
        "symbols": (resealed(RGB, LATENTS, 60), "the "),
        "stored": (resealed(RGB, LATENTS, 0), "the decoded symbols do not match their checksum"),
        "words": (resealed(RGB, LATENTS, 7), "the latents end inside their words"),
        "predictor": (resealed(alpha, ALPHA, 0), "alpha has the unknown predictor"),
        "deflated": (resealed(alpha, ALPHA, 9), "the alpha of a segment "),
    }
    for name, (data, _) in damages.items():
        (tmp_path / name).write_bytes(data)
    names = [tmp_path / name for name in damages]
    assert run("verify", *names).returncode == 0
    good = V1 / "grey-16.vaec"
    done = run("verify", *names, good, "--deep", "--bundle", BUNDLE)
    assert (done.returncode, done.stderr) == (3, b"6 files, 5 bad\n")
    assert lines(done)[-1] == f"{good}: ok"
    for line, name, (_, reason) in zip(lines(done), names, damages.values(), strict=False):
        assert line.startswith(f"{name}: {reason}")


def test_deep_finds_in_every_file_of_the_corpus_what_decoding_finds():
    reader = _SymbolReader(str(BUNDLE))
    wrong: dict[str, str] = {}
    for name, entry in read_corpus().items():
        try:
            reader.read(unpack(entry.data, LIMITS))
            found = IMAGE
        except VaecodecError as error:
            found = type(error).__name__
        if found != entry.expected:
            wrong[name] = f"{found}, not {entry.expected}"
    assert not wrong


def test_deep_needs_the_model_of_each_file_and_says_so(tmp_path: Path):
    damaged = tmp_path / "damaged.vaec"
    damaged.write_bytes(flipped(RGB, len(RGB) // 2))
    done = run("verify", V1 / "rgb.vaec", damaged, SAMPLES / "portrait.vaec", "--deep")
    assert (done.returncode, done.stderr) == (4, b"3 files, 2 bad\n")
    missing, found, installed = lines(done)
    assert "no damage found, but --deep needs its model: no installed bundle has" in missing
    assert missing.endswith("give its folder with --bundle")
    assert "checksum of chunk" in found
    assert installed.endswith("portrait.vaec: ok")


def test_deep_with_another_model_than_the_file_s(tmp_path: Path):
    done = run("verify", V1 / "rgb.vaec", "--deep", "--bundle", "base")
    assert done.returncode == 4
    assert "it needs the model 0340114b3eb8159a, and the bundle base is " in lines(done)[0]
    refused(run("verify", V1 / "rgb.vaec", "--deep", "--bundle", "none"), 4, "no bundle named none")


def test_deep_with_a_damaged_model(tmp_path: Path):
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    (bundle / "prior.onnx").write_bytes(b"")
    done = run("verify", V1 / "rgb.vaec", V1 / "grey.vaec", "--deep", "--bundle", bundle)
    assert (done.returncode, done.stderr) == (4, b"2 files, 2 bad\n")
    assert "install the bundle again" in lines(done)[0]
