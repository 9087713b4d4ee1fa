"""What a command says of real files: one line for each thing, and none of the libraries' own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from vaecodec.hushed import libraries_hushed

ROOT = Path(__file__).parents[2]
INPUTS = ROOT / "tests" / "inputs"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "default", "-m", "vaecodec", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False
    )


def test_one_line_says_why_not(tiny_bundle: Path, tmp_path: Path):
    deflated = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(deflated, "TIFF", compression="tiff_deflate")
    damaged = bytearray(deflated.getvalue())
    damaged[200:220] = bytes(20)  # of which libtiff prints a line
    (tmp_path / "damaged.tif").write_bytes(damaged)
    cut = np.zeros((64, 64, 3), np.uint8)
    tifffile.imwrite(tmp_path / "webp.tif", cut, photometric="rgb", compression="webp")
    for path, said in (
        (tmp_path / "damaged.tif", "cannot be read"),
        (tmp_path / "webp.tif", "TIFF compression WebP is not read"),
        (INPUTS / "eps-named.jpg", "PostScript"),
        (INPUTS / "float32-rgb.tif", "floating-point"),
    ):
        done = run("compress", path, tmp_path / "out.vaec", "--bundle", tiny_bundle)
        assert (done.returncode, done.stdout) == (3, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("vaecodec: error: ")
        assert said in line


def test_folders_and_pipes_say_the_same(tiny_bundle: Path, tmp_path: Path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("cicp-pq-16bit.png", "ultrahdr.jpg", "eps-named.jpg", "iptc.jpg"):
        (source / name).write_bytes((INPUTS / name).read_bytes())
    done = run(
        "compress", source, tmp_path / "out", "--bundle", tiny_bundle, "-j", "1", "--json"
    )  # fmt: skip
    assert done.returncode == 3
    facts = {}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        if "input" in told:
            facts[Path(told["input"]).name] = told
    assert "no profile is exact for PQ" in facts["cicp-pq-16bit.png"]["notices"][0]
    assert "gain map" in facts["ultrahdr.jpg"]["notices"][0]
    assert "PostScript" in facts["eps-named.jpg"]["error"]
    back = run(
        "decompress", tmp_path / "out", tmp_path / "back", "--bundle", tiny_bundle, "-j", "1"
    )  # fmt: skip
    assert back.returncode == 0, back.stderr
    assert "PNG files hold no IPTC: left out" in back.stderr


def test_a_jpeg_of_too_many_pixels_a_side(tiny_bundle: Path, tmp_path: Path):
    Image.new("L", (65_501, 1)).save(tmp_path / "wide.png")
    packed = tmp_path / "wide.vaec"
    done = run("compress", tmp_path / "wide.png", packed, "--bundle", tiny_bundle, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("decompress", packed, tmp_path / "wide.jpg", "--bundle", tiny_bundle, "--quiet")
    (line,) = done.stderr.splitlines()
    assert "JPEG files hold at most 65,500 pixels a side" in line


def test_only_what_libraries_say_is_dropped(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("VAECODEC_DEBUG", raising=False)
    with libraries_hushed():
        os.write(2, b"a library\n")
    os.write(2, b"a command\n")
    monkeypatch.setenv("VAECODEC_DEBUG", "1")
    with libraries_hushed():
        os.write(2, b"a library for those who look for bugs\n")
    assert capfd.readouterr().err == "a command\na library for those who look for bugs\n"


def test_a_standard_error_that_is_closed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VAECODEC_DEBUG", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    with libraries_hushed():
        pass
