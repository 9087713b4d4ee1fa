"""`vaecodec bench` as a shell sees it: other codecs, metrics, plots and the page."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from golden.test_golden import V1
from PIL import Image
from support import SAMPLES
from test_cli import environment, misused, refused, run, run_python

MODEL = ("--bundle", str(V1 / "bundle"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, and two that cannot be used."""
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(SAMPLES / "portrait.jpg") as image:
        for index in range(2):
            left = 300 + 20 * index
            image.crop((left, 150, left + 208, 342)).save(folder / f"{index}.png")
        image.crop((300, 200, 400, 300)).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"junk")
    return folder


def test_everything_at_once(folder: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "png", "webp", "html")}
    done = run(
        *("bench", folder, *MODEL, "--qualities", "20 60 90", "--crops", "1"),
        *("--codecs", "jpeg,webp", "--metrics", "ms-ssim", "--json", outputs["json"]),
        *("--plot", outputs["png"], "--sheet", outputs["webp"], "--html", outputs["html"]),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().splitlines() == [
        "1/4 0.png",
        "2/4 1.png",
        "skipped broken.png: this is not an image that Pillow can read, or a damaged one",
        "skipped small.png: it has 100x100 pixels, and a metric needs 176 a side",
    ]

    text = done.stdout.decode()
    assert "means over 2 images" in text
    ours, jpeg, webp, gains = text.rstrip().split("\n\n")
    assert "psnr_db ms_ssim_db" in ours
    assert len({len(line) for line in ours.splitlines()[1:]}) == 1  # aligned
    assert re.match(r"JPEG \(libjpeg.*\): 4:4:4", jpeg)
    assert len(webp.splitlines()) == 2 + 8
    heads = [line for line in gains.splitlines() if line.startswith("BD-rate")]
    assert heads == [
        f"BD-rate ({metric}) against the codecs measured here" for metric in ("PSNR", "MS-SSIM")
    ]

    report = json.loads(outputs["json"].read_text())
    assert report["metrics"] == ["psnr", "ms-ssim"]
    assert len(report["images"]) == 2 * 3
    assert len(report["peer_images"]) == 2 * 2 * 8
    assert [row["codec"] for row in report["peers"]] == ["jpeg"] * 8 + ["webp"] * 8
    assert all(0 < row["ms_ssim"] < 1 for row in (*report["qualities"], *report["peers"]))
    assert [(gain["codec"], gain["metric"]) for gain in report["gains"]] == [
        ("jpeg", "psnr"),
        ("webp", "psnr"),
        ("jpeg", "ms-ssim"),
        ("webp", "ms-ssim"),
    ]
    assert [skipped["image"] for skipped in report["skipped"]] == ["broken.png", "small.png"]
    with Image.open(io.BytesIO(outputs["png"].read_bytes())) as plot:
        assert plot.format == "PNG"
    with Image.open(outputs["webp"]) as sheet:
        assert sheet.format == "WEBP"
        assert sheet.size == (4 * (384 + 8) - 8, 256 + 40)  # original, ours, JPEG, WebP
    page = outputs["html"].read_text("utf-8")
    assert re.findall(r'data-view="([^"]*)"', page) == ["0.png"]
    assert page.count("<svg") == 2
    assert f"{report['peers'][0]['bpp']:.3f}" in page


def test_another_bundle_beside_ours(folder: Path, tmp_path: Path):
    """The same one, in another folder: what is to be compared differs in nothing."""
    (folder / "small.png").unlink()
    (folder / "broken.png").unlink()
    other = shutil.copytree(V1 / "bundle", tmp_path / "other")
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "png", "html")}
    done = run(
        *("bench", folder, *MODEL, "--codecs", f"jpeg,bundle:{other}", "--metrics", "ms-ssim"),
        *("--json", outputs["json"], "--sheet", outputs["png"], "--html", outputs["html"]),
        *("--crops", "1"),
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(outputs["json"].read_text())
    title = f"tiny {report['model_id'][:8]}"
    assert [(info["name"], info["title"]) for info in report["codecs"]][1:] == [
        (f"bundle:{other}", title)
    ]
    same = ("quality", "bpp", "psnr_db", "ms_ssim")
    ours = [[row[key] for key in same] for row in report["qualities"]]
    theirs = [[row[key] for key in same] for row in report["peers"][8:]]
    assert len(ours) == 8
    assert ours == theirs
    gains = [gain for gain in report["gains"] if gain["codec"] == f"bundle:{other}"]
    assert [gain["metric"] for gain in gains] == ["psnr", "ms-ssim"]
    assert [gain["percent"] for gain in gains] == pytest.approx([0, 0], abs=1e-9)
    assert f"\n{title} (tiny test, model {report['model_id']}): another" in done.stdout.decode()
    with Image.open(outputs["png"]) as sheet:
        assert sheet.size == (4 * (384 + 8) - 8, 256 + 40)  # original, ours, JPEG, the other
    assert f">{title}</option>" in outputs["html"].read_text("utf-8")


def test_an_unknown_bundle_among_codecs(folder: Path):
    refused(run("bench", folder, "--codecs", "jpeg,bundle:nonesuch"), 4, "no bundle named nonesuch")
    refused(run("bench", folder, "--codecs", f"bundle:{folder}"), 4, "is no bundle")


QUICK = (*MODEL, "--qualities", "20 90")


def test_what_people_see_is_measured_by_default(folder: Path, tmp_path: Path):
    pytest.importorskip("ssimulacra2")
    pytest.importorskip("PIL._avif")
    (folder / "small.png").unlink()
    (folder / "1.png").unlink()
    page, report_path = tmp_path / "out.html", tmp_path / "out.json"
    done = run(
        *("bench", folder, "--qualities", "20 90", "--codecs", "jpeg,avif,avif-psnr"),
        *("--json", report_path, "--html", page, "--crops", "0"),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [line.split()[0] for line in done.stderr.decode().splitlines()] == ["1/2", "skipped"]
    report = json.loads(report_path.read_text())
    assert report["metrics"] == ["psnr", "ms-ssim", "ssimulacra2"]
    codecs = ["jpeg", "avif", "avif-psnr"]
    assert [info["name"] for info in report["codecs"]] == codecs
    assert [(gain["codec"], gain["score"]) for gain in report["score_gains"]] == [
        (codec, score) for codec in codecs for score in (50, 70, 80, 90)
    ]
    heading, scores, *rows = done.stdout.decode().rstrip().split("\n\n")[-1].splitlines()
    assert heading.startswith("Bits of ours at SSIMULACRA 2 scores")
    assert scores.split() == ["50", "70", "80", "90"]
    assert len({len(line) for line in (scores, *rows)}) == 1  # aligned
    shown = [f"{gain['percent']:+.2f}%" for gain in report["score_gains"] if gain["percent"]]
    assert shown
    assert [cell for row in rows for cell in row.split() if cell.endswith("%")] == shown
    assert "at fixed SSIMULACRA 2 scores" in page.read_text("utf-8")


def test_a_default_metric_that_not_all_images_are_large_enough_for_is_left_out(folder: Path):
    done = run("bench", folder, *QUICK, "--json", "-")
    assert done.returncode == 0, done.stderr.decode()
    told = "left out MS-SSIM because of small.png: it has 100x100 pixels, and a metric needs 176"
    assert done.stderr.decode().startswith(told)
    report = json.loads(done.stdout)
    assert "ms-ssim" not in report["metrics"]
    assert {row["ms_ssim"] for row in report["images"]} == {None}
    assert {row["image"] for row in report["images"]} == {"0.png", "1.png", "small.png"}


def test_images_with_alpha_are_measured_by_psnr_alone(folder: Path):
    """As without codecs they have always been."""
    with Image.open(folder / "0.png") as image:
        image.putalpha(200)
        image.save(folder / "clear.png")
    done = run("bench", folder, *QUICK, "--json", "-")
    assert done.returncode == 0, done.stderr.decode()
    told = r"left out MS-SSIM( and SSIMULACRA 2)? because of clear\.png: it has alpha"
    assert re.match(told, done.stderr.decode())
    assert done.stderr.count(b"left out") == 1
    report = json.loads(done.stdout)
    assert report["metrics"] == ["psnr"]
    assert "clear.png" in {row["image"] for row in report["images"]}


def test_just_the_metrics_that_are_named_are_measured(folder: Path):
    done = run("bench", folder, *QUICK, "--metrics", "psnr", "--codecs", "jpeg", "--json", "-")
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["metrics"], report["score_gains"]) == (["psnr"], [])
    assert {row["ms_ssim"] for row in report["images"]} == {None}
    assert {row["ssimulacra2"] for row in report["images"]} == {None}


def test_without_its_package_ssimulacra2_is_no_default(folder: Path):
    (folder / "small.png").unlink()
    arguments = ["vaecodec", "bench", str(folder), *QUICK, "--codecs", "jpeg", "--json", "-"]
    code = (
        "import sys; sys.modules['ssimulacra2'] = None\n"
        f"sys.argv = {arguments!r}\n"
        "from vaecodec.cli import main; main()"
    )
    done = run_python("-c", code, env=environment())
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["metrics"], report["score_gains"]) == (["psnr", "ms-ssim"], [])


def test_verbose_shows_every_measurement(folder: Path, tmp_path: Path):
    report = tmp_path / "report.json"
    done = run(
        *("bench", folder, *MODEL, "--qualities", "20 60", "--codecs", "jpeg", "-vv"),
        *("--json", report, "--quiet"),
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    assert "ONNX Runtime" in lines[1]
    assert [line for line in lines if not line.startswith("  ")][:2] == ["1/4 0.png", "2/4 1.png"]
    shown = [line for line in lines if re.match(r"  (vaecodec|jpeg) ", line)]
    assert len(shown) == 3 * (2 + 8)
    first = json.loads(report.read_text())["images"][0]
    assert shown[0].startswith(f"  vaecodec 20: {first['bpp']:.4f} bpp, {first['psnr_db']:.3f} dB,")


def test_images_with_alpha_are_skipped_beside_other_codecs(folder: Path):
    Image.new("RGBA", (64, 64)).save(folder / "clear.png")
    done = run("bench", folder, *MODEL, "--qualities", "50", "--codecs", "jpeg", "--quiet")
    assert done.returncode == 0, done.stderr.decode()
    assert "skipped clear.png: it has alpha" in done.stderr.decode()


def test_no_image_can_be_used(folder: Path):
    for path in folder.glob("*.png"):
        path.write_bytes(b"junk")
    done = run("bench", folder, *MODEL, "--qualities", "50")
    assert (done.returncode, done.stdout) == (3, b"")
    assert "no image of 4 can be used; the first is 0.png" in done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--codecs", "jpeg,gif"], r"gif is none of jpeg, webp"),
        (["--codecs", " , "], "the list is empty"),
        (["--codecs", "bundle:"], "followed by no name or folder"),
        (["--metrics", "vmaf"], "vmaf is none of psnr, ms-ssim, ssimulacra2"),
        (["--plot", "out.gif"], r"\.png or \.svg"),
        (["--html", "-"], "standard output has the table"),
        (["--sheet", "out.gif"], r"\.png, \.webp, \.jpg"),
        (["--sheet", "out.png", "--crops", "0"], "it needs --crops"),
        (["--crops", "-1"], "--crops"),
        (["--plot", "out.svg", "--qualities", "50,50"], "a curve needs two"),
        (["--html", "a.html", "--json", "a.html"], "named twice"),
    ],
)
def test_misuse_is_noticed_before_anything_is_measured(
    folder: Path, arguments: list[str], reason: str
):
    misused(run("bench", folder, *arguments), reason)


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_outputs_are_not_overwritten(folder: Path, tmp_path: Path, option: str):
    target = tmp_path / f"there.{'png' if option == '--plot' else 'html'}"
    target.write_bytes(b"mine")
    refused(run("bench", folder, *MODEL, option, target), 6, "exists already")
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("matplotlib.figure", ["--plot", "out.png"], r"pip install 'vaecodec\[bench\]'"),
        ("ssimulacra2", ["--metrics", "ssimulacra2"], r"pip install 'vaecodec\[bench\]'"),
        ("scipy.interpolate", ["--codecs", "jpeg"], r"pip install 'vaecodec\[bench\]'"),
        ("pillow_heif", ["--codecs", "heic"], "pip install pillow-heif"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_measured(
    folder: Path, module: str, arguments: list[str], line: str
):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"sys.argv = ['vaecodec', 'bench', {str(folder)!r}, *{arguments!r}]\n"
        "from vaecodec.cli import main; main()"
    )
    refused(run_python("-c", code, env=environment()), 4, line)
