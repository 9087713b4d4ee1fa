"""`vaecodec models`: what is installed; and where it runs: `--device` and `-v`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cli.test_cli import FILE, environment, imported_by, misused, refused, run, run_python
from golden.test_golden import V1

from vaecodec import runtime
from vaecodec.bundle import MANIFEST, MODELS, find_bundle
from vaecodec.cli.device import DEVICES

BUNDLE = V1 / "bundle"
RGB = V1 / "rgb.vaec"
HEAVY = {"numpy", "PIL", "onnxruntime", "constriction", "torch", "rich"}


def edit(folder: Path, **fields: object) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | fields), "utf-8")


def run_with(installed: Path, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command where other models are installed than ours."""
    code = (
        "import pathlib, sys, vaecodec.bundle\n"
        "vaecodec.bundle.MODELS = pathlib.Path(sys.argv.pop(1))\n"
        "from vaecodec.cli import main\n"
        "main()"
    )
    return run_python("-c", code, installed, *args, env=environment())


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Three models: one that is whole, one without a manifest to speak of, one damaged."""
    for name in ("alpha", "beta", "gamma"):
        shutil.copytree(BUNDLE, tmp_path / name)
    (tmp_path / "beta" / MANIFEST).write_text("{}")
    (tmp_path / "gamma" / "prior.onnx").write_bytes(b"damaged")
    return tmp_path


# The list


def test_the_installed_models():
    base = find_bundle("base")
    done = run("models")
    assert (done.returncode, done.stderr) == (0, b"")
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[:2] == ["name", "version"]
    assert len(rows) == len(list(MODELS.glob(f"*/{MANIFEST}")))
    (row,) = (row for row in rows if row.startswith("base "))
    size = sum((base.path / file).stat().st_size for file in base.files)
    assert row.split()[:4] == ["base", base.version, base.model_id.hex(), f"{size / 1e6:.1f}"]
    assert row.endswith(base.manifest["licence"])


def test_the_same_as_json():
    done = run("models", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    facts = {fact["name"]: fact for fact in map(json.loads, done.stdout.splitlines())}
    base, found = find_bundle("base"), facts["base"]
    assert found["model_id"] == base.model_id.hex()
    assert found["size_bytes"] == sum((base.path / file).stat().st_size for file in base.files)
    assert found["last_run_hours"] == base.manifest["training"]["hours"]
    assert found["lmbda_max"] == base.manifest["architecture"]["lmbda_max"]
    assert (found["licence"], found["error"]) == (base.manifest["licence"], None)
    one = run("models", "base", "--json")
    assert json.loads(one.stdout) == found


def test_broken_models_are_shown_as_broken(installed: Path):
    done = run_with(installed, "models")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("alpha  test     0340114b3eb8159a")
    assert lines[2].startswith("beta: broken: the manifest of the bundle ")
    assert lines[3].startswith("gamma: broken: prior.onnx in the bundle ")
    facts = [
        json.loads(line)
        for line in run_with(installed, "models", "--json").stdout.split(b"\n")[:-1]
    ]
    assert [fact["error"] is None for fact in facts] == [True, False, False]
    assert len({frozenset(fact) for fact in facts}) == 1  # the same names in each
    shutil.rmtree(installed / "alpha")
    done = run_with(installed, "models")
    assert done.stdout.decode().splitlines() == lines[2:]


def test_a_broken_model_stands_in_nobodys_way(installed: Path, tmp_path: Path):
    (installed / "alpha").rename(installed / "z")  # so that the broken one comes first
    shutil.rmtree(installed / "gamma")
    done = run_with(installed, "info", RGB)
    assert done.returncode == 0
    assert b"(bundle tiny)" in done.stdout
    assert run_with(installed, "decompress", RGB, tmp_path / "out.png").returncode == 0
    shutil.rmtree(installed / "z")
    done = run_with(installed, "decompress", RGB, tmp_path / "none.png")
    refused(done, 4, r"0340114b3eb8159a \(not looked into, as they are broken: beta\)")


def test_no_models_at_all(tmp_path: Path):
    done = run_with(tmp_path, "models")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"no models are installed: ")
    assert run_with(tmp_path, "models", "--json").stdout == b""


def test_a_manifest_may_say_anything_else(installed: Path):
    folder = installed / "alpha"
    edit(folder, kmac_per_pixel={"encoding": 16.5, "decoding": 16.25}, training={"hours": 7})
    row = run_with(installed, "models").stdout.decode().splitlines()[1]
    assert "16.5 + 16.25" in row
    for name, nonsense in (
        ("beta", {"licence": "MIT\x1b[2J", "training": [1], "architecture": None}),
        (
            "gamma",
            {"licence": 1, "training": {"hours": "long"}, "architecture": {"lmbda_min": "a"}},
        ),
        ("delta", {"licence": "MIT", "training": {"hours": True, "steps": float("nan")}}),
        ("zeta", {"kmac_per_pixel": {"encoding": -1e300, "decoding": float("inf")}}),
    ):
        shutil.rmtree(installed / name, ignore_errors=True)
        edit(Path(shutil.copytree(BUNDLE, installed / name)), **nonsense)
    done = run_with(installed, "models")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    assert [line.split()[0] for line in done.stdout.decode().splitlines()[1:]] == [
        "alpha",
        "beta",
        "delta",
        "gamma",
        "zeta",
    ]
    facts = [
        json.loads(line) for line in run_with(installed, "models", "--json").stdout.splitlines()
    ]
    for fact in facts[1:]:
        assert fact["error"] is fact["last_run_hours"] is fact["encode_kmac"] is None


def test_nothing_heavy_is_imported():
    assert not imported_by("models") & HEAVY


# One model


def test_a_card():
    card = (MODELS / "base" / "MODEL_CARD.md").read_text("utf-8")
    done = run("models", "base")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == card


def test_a_card_of_anybodys(tmp_path: Path):
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "mine"))
    refused(run("models", bundle), 4, r"has no readable MODEL_CARD\.md")
    (bundle / "MODEL_CARD.md").write_bytes(b"# mine\n\tgood\x1b[2J \xff\n\n")
    done = run("models", bundle)
    assert (done.returncode, done.stdout.decode()) == (
        0,
        "# mine\n\tgood[2J \N{REPLACEMENT CHARACTER}\n",
    )
    assert json.loads(run("models", bundle, "--json").stdout)["version"] == "test"


def test_a_model_that_is_not_there(tmp_path: Path):
    refused(run("models", "nonesuch"), 4, "no bundle named nonesuch")
    refused(run("models", tmp_path, "--json"), 4, "is no bundle")


# Where it runs


def decompress(target: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return run("decompress", RGB, target, "--bundle", BUNDLE, *options)


def test_devices(tmp_path: Path):
    assert DEVICES == runtime.DEVICES
    out = tmp_path / "out.png"
    misused(decompress(out, "--device", "tpu"), "tpu is none of cpu, cuda")
    done = decompress(out, "--device", "cpu")
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1


def test_a_device_that_is_not_there(tmp_path: Path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has it")
    out = tmp_path / "out.png"
    refused(decompress(out, "--device", "cuda"), 4, "no support for the device cuda .try: pip")
    assert not out.exists()


def test_verbosity(tmp_path: Path):
    out = tmp_path / "out.png"
    times = r"  load [\d.]+ s, prior [\d.]+ s, .*synthesis [\d.]+ s, .*write [\d.]+ s"
    done = decompress(out, "-v")
    assert done.stdout == b""
    _, line = done.stderr.decode().splitlines()
    assert re.fullmatch(times, line)
    done = decompress(out, "--force", "-vv")
    model, device, _, line = done.stderr.decode().splitlines()
    assert model == f"  bundle tiny test, 0340114b3eb8159a, in {BUNDLE}"
    assert re.match(r"  ONNX Runtime [\d.]+, transforms on CPUExecutionProvider", device)
    assert re.fullmatch(times, line)


def test_tracebacks_are_shown_on_request(tmp_path: Path):
    bad = tmp_path / "bad.vaec"
    bad.write_bytes(FILE[:-1])
    refused(run("decompress", bad, "-v"), 4, "no installed bundle")
    done = run("decompress", bad, "-vv")
    assert (done.returncode, done.stdout) == (4, b"")
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("vaecodec: error: no installed bundle")
