"""What the `*` of a shell names is read, and never replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.test_cli import refused, run
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES

from vaecodec.cli.paths import guard_original, part_paths
from vaecodec.container import MAGIC
from vaecodec.errors import OutputError
from vaecodec.jobs import is_image

GIFS = Path(__file__).parent / "data"
MODEL = ("--bundle", V1 / "bundle", "--quiet")
FORCED = pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "force"])


def two(folder: Path, suffix: str) -> tuple[Path, Path]:
    """Return two pictures, as `*` of a shell gives them."""
    paths = folder / f"a{suffix}", folder / f"b{suffix}"
    for path, source in zip(paths, ("a.gif", "b.gif"), strict=True):
        shutil.copyfile(GIFS / source, path)
    return paths


@FORCED
def test_two_pictures_are_both_inputs(force: tuple[str, ...], tmp_path: Path):
    a, b = two(tmp_path, ".gif")
    before = a.read_bytes(), b.read_bytes()
    done = run("compress", a, b, *force, *MODEL)
    assert done.returncode == 0, done.stderr
    assert (a.read_bytes(), b.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.glob("*.vaec")) == ["a.vaec", "b.vaec"]


SUFFIXES = ["jfif", "jpe", "tga", "psd", "ico", "pbm", "dib", "mpo", "hif", "apng", "j2k"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, "unheard"])
def test_no_name_makes_an_original_an_output(suffix: str, tmp_path: Path):
    paths = [str(path) for path in two(tmp_path, f".{suffix}")]
    inputs, output = part_paths(paths, None, is_image)
    if suffix == "unheard":
        with pytest.raises(OutputError, match="write -o FOLDER"):
            guard_original("compress", inputs[0], output, is_option=False)
    else:
        assert (inputs, output) == (paths, None)


@FORCED
@pytest.mark.parametrize(
    ("name", "content"),
    [("b.bin", b"other"), ("b.vaec", b"other"), ("b.bin", MAGIC), ("b", b"")],
    ids=["unknown", "misnamed", "suffix", "empty"],
)
def test_compress_replaces_no_file_of_another_kind(
    name: str, content: bytes, force: tuple[str, ...], tmp_path: Path
):
    a, _ = two(tmp_path, ".gif")
    other = tmp_path / name
    other.write_bytes(content)
    done = run("compress", a, other, *force)
    refused(done, 6, rf"{name} exists and is not a \.vaec file.*: write -o FOLDER")
    assert b"--force" not in done.stderr
    assert other.read_bytes() == content


def test_a_named_output_is_replaced_where_it_is_an_earlier_one(tmp_path: Path):
    a, _ = two(tmp_path, ".gif")
    other = tmp_path / "b.bin"
    other.write_bytes(b"other")
    refused(run("compress", a, "-o", other, "--force"), 6, "is not a .vaec file")
    other.write_bytes(MAGIC + b"damaged")
    assert run("compress", a, "-o", other, "--force", *MODEL).returncode == 0
    assert len(other.read_bytes()) > 30
    empty = tmp_path / "b.vaec"  # as `mktemp` leaves it
    empty.touch()
    assert run("compress", a, empty, "--force", *MODEL).returncode == 0
    assert empty.read_bytes() == other.read_bytes()


@FORCED
def test_decompress_replaces_no_vaec_file(force: tuple[str, ...], tmp_path: Path):
    coded = (V1 / "rgb.vaec").read_bytes()
    for name in ("a.vaec", "b.vaec", "b.png"):
        (tmp_path / name).write_bytes(coded)
    done = run("decompress", tmp_path / "a.vaec", tmp_path / "b.png", *force)
    refused(done, 6, r"b\.png exists and is a \.vaec file.*: write -o FOLDER")
    done = run("decompress", tmp_path / "a.vaec", "-o", tmp_path / "b.vaec", *force)
    refused(done, 6, r"b\.vaec exists and is a \.vaec file.*: write -o FOLDER")
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {coded}


def test_decompress_replaces_an_image(tmp_path: Path):
    shutil.copyfile(V1 / "rgb.vaec", tmp_path / "a.vaec")
    (tmp_path / "b.png").write_bytes(b"an earlier one")
    names = (tmp_path / "a.vaec", tmp_path / "b.png")
    refused(run("decompress", *names), 6, "--force replaces it")
    assert run("decompress", *names, "--force", *MODEL).returncode == 0
    with Image.open(tmp_path / "b.png") as image:
        image.load()


@FORCED
def test_denoise_takes_no_second_picture_for_its_output(force: tuple[str, ...], tmp_path: Path):
    names = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for name in names:
        shutil.copyfile(SAMPLES / "portrait.jpg", name)
    done = run("denoise", *names, *force)
    refused(done, 6, r"b\.jpg exists and may be a second input: write -o FOLDER .* -o .*b\.jpg")
    assert names[1].read_bytes() == (SAMPLES / "portrait.jpg").read_bytes()
