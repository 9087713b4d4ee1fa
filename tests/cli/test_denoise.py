"""`vaecodec denoise`, `compress --denoise` and `bench --denoise` as a shell sees them."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES
from test_cli import misused, refused, run

from vaecodec.bench.denoising import Damage, measure_denoising
from vaecodec.bench.denoising_peers import METHODS
from vaecodec.bench.denoising_report import denoising_table
from vaecodec.codec import Codec


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        clean = np.asarray(image.crop((300, 200, 397, 261)), float)
    samples = clean + np.random.default_rng(0).normal(0, 20, clean.shape)
    path = tmp_path / "noisy.png"
    Image.fromarray(samples.clip(0, 255).astype(np.uint8)).save(path, dpi=(300, 300))
    return path


def test_a_name_is_derived_and_nothing_overwritten(tiny_bundle: Path, noisy: Path):
    done = run("denoise", noisy, "--bundle", tiny_bundle)
    assert (done.returncode, done.stdout) == (0, b"")
    line = rf"{noisy} -> .*noisy\.denoised\.png: 97x61 RGB, \d+\.\d\d s\n"
    assert re.fullmatch(line, done.stderr.decode())
    with Image.open(noisy.with_name("noisy.denoised.png")) as image:
        assert image.size == (97, 61)
        assert round(image.info["dpi"][0]) == 300
    refused(run("denoise", noisy, "--bundle", tiny_bundle), 6, "exists")
    again = run("denoise", noisy, "--bundle", tiny_bundle, "--force", "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", b"")


def test_a_pipe_a_format_and_the_summary(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    model = ("--bundle", tiny_bundle)
    piped = run("denoise", "-", "-", "--format", "webp", *model, data=noisy.read_bytes())
    with Image.open(io.BytesIO(piped.stdout)) as image:
        assert (image.format, image.size) == ("WEBP", (97, 61))
    out = tmp_path / "out.tif"
    done = run("denoise", noisy, "-o", out, "--strip", "dpi", "--json", "-v", *model)
    summary = json.loads(done.stdout)
    assert summary.pop("seconds") > 0
    assert summary == {
        "input": str(noisy),
        "output": str(out),
        "status": "done",
        "input_bytes": noisy.stat().st_size,
        "output_bytes": out.stat().st_size,
        "width": 97,
        "height": 61,
        "mode": "RGB",
        "notices": [],
        "error": "",
        "exit_code": 0,
        "strength": 1.0,
    }
    assert "refinement" in done.stderr.decode()
    with Image.open(out) as image:
        assert image.info.get("dpi", (1, 1)) == (1, 1)


def test_no_strength_leaves_the_image_as_it_was(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    out = tmp_path / "same.png"
    assert run("denoise", noisy, out, "--strength", "0", "--bundle", tiny_bundle).returncode == 0
    with Image.open(noisy) as before, Image.open(out) as after:
        assert np.array_equal(before, after)
    misused(run("denoise", noisy, "--strength", "1.5"), "not from 0 to 1")


def test_a_folder(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    noisy.rename(folder / "a.png")
    (folder / "bad.png").write_bytes(b"junk")
    model = ("--bundle", tiny_bundle, "--quiet")
    done = run("denoise", tmp_path / "in", tmp_path / "out", "-r", "--format", "jpg", *model)
    assert done.returncode == 3
    assert "bad.png" in done.stderr.decode()
    made = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")]
    assert made == [Path("deep/a.jpg")]
    misused(run("denoise", tmp_path / "in"), "name another folder")
    misused(run("denoise", folder, folder), "name another folder")
    for same in (f"{folder}/", folder / ".." / folder.name, folder / "inside"):
        misused(run("denoise", folder, same), "name another folder")


def test_a_smaller_file_without_the_noise(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    model = ("--bundle", tiny_bundle, "--quiet")
    plain, clean = tmp_path / "plain.vaec", tmp_path / "clean.vaec"
    assert run("compress", noisy, plain, *model).returncode == 0
    assert run("compress", noisy, clean, "--denoise", *model).returncode == 0
    assert plain.read_bytes() != clean.read_bytes()
    target = tmp_path / "small.vaec"
    sized = run("compress", noisy, target, "--denoise", "--target-size", "900", *model)
    assert sized.returncode == 0
    assert target.stat().st_size <= 900
    tree = run("compress", tmp_path, tmp_path / "coded", "--denoise", *model)
    assert tree.returncode == 0
    assert (tmp_path / "coded" / "noisy.vaec").read_bytes() == clean.read_bytes()


def test_what_does_not_go_together_is_refused(noisy: Path):
    misused(run("compress", noisy, "--denoise", "--psnr"), "leaves out")
    misused(run("compress", noisy, "--denoise", "--target-psnr", "30"), "leaves out")
    golden = ("--bundle", V1 / "bundle")
    refused(run("denoise", noisy, *golden), 4, "has no denoiser")
    refused(run("compress", noisy, "--denoise", *golden), 4, "has no denoiser")
    misused(run("bench", noisy.parent, "--denoise", "--codecs", "jpeg"), "does not go with")
    misused(run("bench", noisy.parent, "--sigmas", "15"), "goes with --denoise")
    misused(run("bench", noisy.parent, "--denoise", "--sigmas", "300"), "0 to 255")
    misused(run("bench", noisy.parent, "--denoise", "--sigmas", "x"), "sigmas")
    misused(run("bench", noisy.parent, "--denoise", "--methods", "magic"), "none of opencv")


def test_the_bench(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"junk")
    arguments = ("--denoise", "--sigmas", "20 40", "--jpegs", "20", "--qualities", "30 70")
    report_to, sheet_to = tmp_path / "report.json", tmp_path / "sheet.webp"
    written = ("--json", report_to, "--sheet", sheet_to)
    done = run("bench", tmp_path, *arguments, "--bundle", tiny_bundle, *written, "-v")
    assert done.returncode == 0, done.stderr.decode()
    assert "skipped broken.png" in done.stderr.decode()
    assert "2/2 noisy.png\n  noise 20 damaged " in done.stderr.decode()
    assert "  JPEG 20 original    70.0 " in done.stderr.decode()
    report = json.loads(report_to.read_text())
    damages = ("noise 20", "noise 40", "JPEG 20")
    assert [(row["damage"], row["method"]) for row in report["means"]] == [
        (damage, method)
        for damage in damages
        for method in ("damaged", "vaecodec", "vaecodec, without refinement", "vaecodec, of 8 bits")
        if (damage, method) != ("JPEG 20", "vaecodec, of 8 bits")  # it has 8 bits as it is
    ]
    of_damaged = {r["damage"]: r["psnr_db"] for r in report["means"] if r["method"] == "damaged"}
    for sigma in (20, 40):
        expected = 20 * np.log10(255 / sigma)
        assert of_damaged[f"noise {sigma}"] == pytest.approx(expected, abs=0.5)  # it is clipped
    kinds = [(row["damage"], row["kind"], row["quality"]) for row in report["files"]]
    assert sorted(kinds) == sorted(
        (damage, kind, quality)
        for damage in damages
        for kind in ("plain", "denoised", "original")
        for quality in (30, 70)
    )
    # What noise leaves alone is the same file, whatever the damage.
    originals = {
        (row["quality"], row["bpp"]) for row in report["files"] if row["kind"] == "original"
    }
    assert len(originals) == 2
    with Image.open(sheet_to) as sheet:
        assert sheet.size == (3 * 392 - 8, 296)  # noisy, ours, and the original
    table = done.stdout.decode().splitlines()
    assert "means over 1 images, noise of seed 0" in table[0]
    assert len(table) == 3 + 11 + 2 + 18


def test_other_denoisers_are_told_the_noise(
    tiny_bundle: Path, noisy: Path, monkeypatch: pytest.MonkeyPatch
):
    """What every method is called with, through stand-ins for the packages."""
    told: list[float] = []

    def bm3d_rgb(image: np.ndarray, sigma: float) -> np.ndarray:
        told.append(sigma)
        return image

    monkeypatch.setitem(sys.modules, "bm3d", types.SimpleNamespace(bm3d_rgb=bm3d_rgb))
    monkeypatch.setattr("vaecodec.bench.denoising_peers.metadata.version", lambda _: "4.0")
    report = measure_denoising(
        Codec(tiny_bundle),
        [noisy],
        damages=[Damage(25), Damage(jpeg=30)],
        methods=[METHODS["bm3d"]],
    )
    assert told == [0.1, 25 / 255]
    of_noisy, of_method = (
        next(row for row in report.means if row.method == name) for name in ("damaged", "CBM3D")
    )
    assert of_noisy.psnr_db == of_method.psnr_db
    assert of_method.seconds_per_megapixel is not None


@pytest.mark.parametrize("name", sorted(METHODS))
def test_other_denoisers_remove_noise(name: str):
    method = METHODS[name]
    pytest.importorskip(method.module)
    with Image.open(SAMPLES / "portrait.jpg") as image:
        clean = np.asarray(image.crop((300, 200, 364, 264)), np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32)
    restored = method(clean + noise, 0.1)
    assert restored.shape == clean.shape
    assert np.square(restored - clean).mean() < np.square(noise).mean() / 2


def test_an_image_that_fails_part_way_is_left_out(
    tiny_bundle: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = tmp_path / "other.png"
    shutil.copy(noisy, other)
    codec = Codec(tiny_bundle)
    ordinary = codec.denoise
    calls = 0

    def failing_once(image: np.ndarray, **options: bool) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 4:  # one to warm up, two at the first damage
            raise MemoryError
        return ordinary(image, **options)

    monkeypatch.setattr(codec, "denoise", failing_once)
    report = measure_denoising(codec, [noisy, other], damages=[Damage(10), Damage(20)])
    assert [one.image for one in report.skipped] == [noisy.name]
    assert {row.image for row in report.images} == {other.name}
    assert report.image_count == 1


def test_noise_of_a_grey_image_is_grey(tiny_bundle: Path, noisy: Path, tmp_path: Path):
    grey = tmp_path / "grey.png"
    with Image.open(noisy) as image:
        image.convert("L").save(grey)
    seen: list[np.ndarray] = []
    codec = Codec(tiny_bundle)

    class Seeing(Codec):
        def denoise(self, image: np.ndarray, **_: bool) -> np.ndarray:
            seen.append(image)
            return image

    codec.__class__ = Seeing
    measure_denoising(codec, [grey], damages=[Damage(30)])
    damaged = seen[1]  # after what warms up
    assert np.array_equal(damaged[:, :, 0], damaged[:, :, 2])
    assert damaged.max() > 1 or damaged.min() < 0 or len(np.unique(damaged)) > 256


def test_an_image_without_damage_is_exact(tiny_bundle: Path, noisy: Path):
    report = measure_denoising(Codec(tiny_bundle), [noisy], damages=[Damage(0)])
    assert [row.psnr_db for row in report.means if row.method == "damaged"] == [np.inf]
    assert "inf" in denoising_table(report)
