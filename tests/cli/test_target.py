"""Encoding to a target, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support import SAMPLES


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("target") / "photo.png"
    with Image.open(SAMPLES / "portrait.jpg") as image:
        image.crop((100, 100, 612, 484)).save(path)
    return path


def compress(photo: Path, *args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "vaecodec", "compress", photo, photo.with_suffix(".vaec")]
    line += ["--force", "--json", *args]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["3k", "12000", "0.05M"])
def test_a_file_is_as_large_as_was_asked_for(photo: Path, target: str):
    report = json.loads(compress(photo, "--target-size", target).stdout)
    wanted = {"3k": 3000, "12000": 12000, "0.05M": 50000}[target]
    assert 0.98 * wanted <= report["output_bytes"] <= wanted
    assert photo.with_suffix(".vaec").stat().st_size == report["output_bytes"]


def test_bits_per_pixel_count_the_whole_file(photo: Path):
    done = compress(photo, "--target-bpp", "0.5", "-v")
    assert 0.49 <= json.loads(done.stdout)["bpp"] <= 0.5
    assert "analysis " in done.stderr
    assert "entropy " in done.stderr


def test_the_least_quality_with_a_fidelity_is_found(photo: Path):
    report = json.loads(compress(photo, "--target-psnr", "36").stdout)
    assert 36 <= report["psnr_db"] <= 36.1
    below = compress(photo, "--psnr", "-q", str(report["quality"] - 2))
    assert json.loads(below.stdout)["psnr_db"] < 36


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--target-size", "100"), 5, "at quality 0 the file has"),
        (("--target-psnr", "70"), 5, "at quality 100 the image has"),
        (("--target-size", "10k", "-q", "30"), 2, "only one of them"),
        (("--target-size", "much"), 2, "is no size"),
        (("--target-size", "9" * 400), 2, "beyond all sizes"),
        (("--target-bpp", "0"), 2, "above 0"),
    ],
)
def test_what_cannot_be_reached_is_said(photo: Path, args: tuple[str, ...], code: int, said: str):
    photo.with_suffix(".vaec").unlink(missing_ok=True)
    done = compress(photo, *args)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not photo.with_suffix(".vaec").exists()


def test_more_than_quality_100_gives_is_told_and_no_error(photo: Path):
    done = compress(photo, "--target-size", "5M")
    assert json.loads(done.stdout)["quality"] == 100
    assert "even at quality 100" in done.stderr
