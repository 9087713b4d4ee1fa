from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import SAMPLES, TINY_RECIPE
from typer.testing import CliRunner

from export.__main__ import RECIPES, app
from export.bundle import write_bundle
from export.bundle_weights import read_model
from export.data import Crops, read_images
from export.likelihood import bits
from export.log import append_rows, drop_rows_after
from export.muon import Muon, _owners, orthogonalise
from export.objective import _with_noisy_gradient, loss, rate_distortion
from export.recipe import Recipe, Training
from export.state import CHECKPOINT, load, start, trained_model
from export.train import OUTLIER, Trainer, draw_levels, validation_crops
from export.verify import _latents, _read_planes

RECIPE = Recipe.from_dict(TINY_RECIPE)
PHOTOGRAPH = SAMPLES / "astronaut-sign.jpg"


@pytest.fixture(scope="module")
def crops() -> Crops:
    return Crops([PHOTOGRAPH], RECIPE.training.crop, RECIPE.training.batch, seed=0)


def trainer(recipe: Recipe, crops: Crops, folder: Path) -> Trainer:
    path = folder / CHECKPOINT
    folder.mkdir(exist_ok=True)
    recipe, state = (
        load(path, recipe.training) if path.exists() else (recipe, start(recipe, crops, None))
    )
    return Trainer(recipe, state, crops, validation_crops([PHOTOGRAPH]), folder, cpu=True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    return content["model"] | {f"averaged.{k}": v for k, v in content["averaged"].items()}


def loss_at(run: Trainer, crops: Crops, level: float) -> float:
    """What a fixed batch costs, with hard symbols."""
    x = crops.get(0).float().div(255)
    anchor = torch.full((len(x),), level)
    with torch.no_grad():
        measured = rate_distortion(run.state.model(x, anchor), x, hard=True)
        return float(loss(run.recipe.model, measured, anchor))


@pytest.mark.parametrize(
    "changes",
    [{}, {"levels": (40.0, 40.0)}, {"inner_optimizer": "adamw"}],
    ids=["as usual", "one level", "AdamW"],
)
def test_twenty_steps_reduce_the_loss(changes: dict, crops: Crops, tmp_path: Path):
    recipe = replace(RECIPE, training=replace(RECIPE.training, **changes))
    run = trainer(recipe, crops, tmp_path)
    before = loss_at(run, crops, 40)
    start_weights = [parameter.clone() for parameter in run.state.averaged.parameters()]
    run.run()
    assert run.state.step == 20
    assert loss_at(run, crops, 40) < 0.97 * before
    moved = [
        not torch.equal(averaged, initial)
        for averaged, initial in zip(run.state.averaged.parameters(), start_weights, strict=True)
    ]
    assert sum(moved) > 0.8 * len(moved)
    assert {path.name for path in tmp_path.iterdir()} >= {
        CHECKPOINT,
        "validation.csv",
        "curve.png",
    }


def test_latents_get_the_gradient_of_their_rate_under_noise(crops: Crops):
    run_model = start(RECIPE, crops, None).model
    x = crops.get(0).float().div(255)
    out = run_model(x, torch.full((len(x),), 40.0))
    for name, index in (("residual", out["scale_index"]), ("z", out["z_scale_index"])):
        value = out[name].detach().requires_grad_()
        torch.manual_seed(1)
        exact = torch.zeros_like(value)
        found = _with_noisy_gradient(exact, value, index.expand_as(value))
        assert torch.equal(found, exact)
        found.sum().backward()
        gradient, value.grad = value.grad, None
        torch.manual_seed(1)
        noise = torch.rand_like(value) - 0.5
        bits(value + noise, index.expand_as(value).detach()).sum().backward()
        torch.testing.assert_close(gradient, value.grad)
        assert float(gradient.abs().mean()) > 1e-3
        out[name].retain_grad()
    rate_distortion(out, x, hard=False).bpp.sum().backward()
    assert all(float(out[name].grad.abs().mean()) > 1e-9 for name in ("residual", "z"))


def test_resuming_gives_the_weights_of_no_interruption(crops: Crops, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(RECIPE, crops, whole).run()
    interrupted = trainer(RECIPE, crops, parts)
    ordinary_step = interrupted.step

    def step_with_a_signal():
        if interrupted.state.step == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return ordinary_step()

    interrupted.step = step_with_a_signal
    interrupted.run()
    assert interrupted.state.step == 10
    trainer(RECIPE, crops, parts).run()
    expected, found = weights(whole), weights(parts)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_checkpoint_is_never_half_written(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = trainer(RECIPE, crops, tmp_path)
    run.run()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def fail(content: object, file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        trainer(RECIPE, crops, tmp_path).run()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("weight", [torch.nan, 1e12])
def test_training_that_diverges_keeps_the_checkpoint(crops: Crops, tmp_path: Path, weight: float):
    run = trainer(
        replace(RECIPE, training=replace(RECIPE.training, decay_steps=0)), crops, tmp_path
    )
    run.run()
    before = (tmp_path / CHECKPOINT).read_bytes()
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=30))
    resumed = trainer(longer, crops, tmp_path)
    with torch.no_grad():
        resumed.state.model.g_a.linear[0, 0] = weight
    with pytest.raises(FloatingPointError, match="has diverged: the gradient of step 20"):
        resumed.run()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_step_of_an_outlier_is_left_out(crops: Crops, tmp_path: Path):
    """One gradient far beyond the usual ones moves weights no more than momentum does."""
    run = trainer(RECIPE, crops, tmp_path)
    for _ in range(3):
        run.step()
    ordinary = run.task.objective

    def magnified(network, batch):
        objective, measured = ordinary(network, batch)
        return objective * 1e6, measured

    run.task.objective = magnified
    assert float(run.step()["gradient_norm"]) > OUTLIER
    assert all(not p.grad.any() for p in run.state.model.parameters() if p.grad is not None)
    run.task.objective = ordinary
    run.run()
    assert run.state.step == RECIPE.training.steps


def test_rows_of_steps_taken_again_are_dropped(tmp_path: Path):
    path = tmp_path / "log.csv"
    append_rows(path, ("step", "bpp"), [[10, 1.5], [20, 1.25], [30, 1.0]])
    drop_rows_after(path, 20)
    assert path.read_text() == "step,bpp\n10,1.5\n20,1.25\n"
    drop_rows_after(tmp_path / "none.csv", 20)
    (tmp_path / "empty.csv").touch()
    drop_rows_after(tmp_path / "empty.csv", 20)
    assert (tmp_path / "empty.csv").read_text() == ""


def test_a_batch_has_levels_of_every_part_of_the_range():
    generator = torch.Generator().manual_seed(0)
    levels = draw_levels(16, (10.0, 42.0), generator)
    assert sorted(((levels - 10) // 2).tolist()) == list(range(16))
    assert levels.tolist() != sorted(levels.tolist())
    assert draw_levels(4, (40.0, 40.0), generator).tolist() == [40.0] * 4


def test_the_schedule():
    training = Training(steps=100, warmup_steps=10, decay_steps=50)
    factors = [training.rate_factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:50] == [1.0] * 41
    assert factors[99] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"latent": 30}}, "multiple"),
        ({"model": {"width": 30}}, "width"),
        ({"training": {"crop": 100}}, "multiple of 64"),
        ({"training": {"crop": 0}}, "crop must be a whole number from 1"),
        ({"training": {"batch": 2.5}}, "batch must be a whole number"),
        ({"training": {"validate_every": 0}}, "validate_every must be"),
        ({"training": {"adam_rate": "x"}}, "adam_rate must be a number"),
        ({"training": {"autocast": "float16"}}, "autocast"),
        ({"training": {"steps": 10}}, "exceed"),
        ({"training": {"inner_optimizer": "lion"}}, "inner_optimizer"),
        ({"training": {"levels": [40, 64]}}, "levels"),
        ({"optimiser": {}}, "optimiser"),
    ],
)
def test_recipes_that_do_not_fit(tables: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(tables)


def test_training_starts_from_a_bundle(tiny_bundle: Path):
    """What is shipped, and nothing else, comes back: the first validation is the bundle's."""
    shipped = read_model(tiny_bundle).state_dict()
    crops = Crops([PHOTOGRAPH], 64, 2, seed=0)
    model = start(RECIPE, crops, trained_model(tiny_bundle)).model
    for name, value in model.state_dict().items():
        assert torch.equal(value, shipped[name]), name


def test_a_bundle_holds_the_model_that_it_was_made_of(crops: Crops, tmp_path: Path):
    torch.manual_seed(3)
    model = start(RECIPE, crops, None).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.base_scale.copy_(torch.randint(4, 60, model.base_scale.shape))
        model.exponent.copy_(torch.randint(0, 6, model.exponent.shape))
    write_bundle(model, tmp_path / "bundle", "mine", {"version": "1", "licence": "none"})
    found = read_model(tmp_path / "bundle").state_dict()
    for name, value in model.state_dict().items():
        if name in ("base_scale", "exponent", "log_gain", "log_inverse_gain"):
            assert torch.equal(found[name], value), name
        else:
            assert torch.allclose(found[name], value, atol=0.04, rtol=0.01), name


def test_a_bundle_of_another_architecture_is_refused(tiny_bundle: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["architecture"]["blocks_8"] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"does not hold.*blocks_8"):
        read_model(copy)


def test_images_come_from_folders_and_packs(tmp_path: Path):
    pixels = np.arange(70 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(70, 80, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.jpg").write_bytes(b"no image either")
    with tarfile.open(tmp_path / "pack.tar", "w") as pack:
        member = tarfile.TarInfo("b.png")
        member.size = len(buffer.getvalue())
        pack.addfile(member, io.BytesIO(buffer.getvalue()))
    found = list(read_images([tmp_path, tmp_path / "pack.tar"], smallest=64))
    assert len(found) == 2
    for image in found:
        np.testing.assert_array_equal(image, pixels)
    assert not list(read_images([tmp_path], smallest=71))
    with pytest.raises(FileNotFoundError):
        list(read_images([tmp_path / "missing"], smallest=1))
    with pytest.raises(ValueError, match="no image"):
        Crops([tmp_path], 128, 1, seed=0)
    whole = (tmp_path / "pack.tar").read_bytes()
    for damaged in (b"no tar", whole[:700]):
        (tmp_path / "pack.tar").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pack\.tar is no whole \.tar"):
            list(read_images([tmp_path / "pack.tar"], smallest=1))


@pytest.mark.parametrize("content", [{}, {"recipe": 1}, {"model": {}, "recipe": {}}, b"junk"])
def test_what_is_no_checkpoint(content: object, tmp_path: Path):
    path = tmp_path / CHECKPOINT
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"no checkpoint|another version"):
        load(path)


def test_verify_takes_photographs_of_any_size(tiny_bundle: Path, tmp_path: Path):
    with Image.open(PHOTOGRAPH) as image:
        image.crop((100, 100, 300, 250)).save(tmp_path / "part.png")
    planes = _read_planes(tmp_path / "part.png")
    assert planes.shape == (1, 3, 192, 256)
    assert _latents(read_model(tiny_bundle), planes, 40 * 256).y_hat.shape[2:] == (12, 16)


def test_batches_depend_on_the_step_alone(crops: Crops):
    other = Crops([PHOTOGRAPH], 64, 2, seed=0)
    assert torch.equal(crops.get(5), other.get(5))
    assert torch.equal(crops.get(3), other.get(3))
    assert not torch.equal(crops.get(3), crops.get(4))
    assert not torch.equal(crops.get(3), crops.get(3, rank=1))


def test_muon_orthogonalises():
    torch.manual_seed(0)
    for shape in ((2, 8, 32), (2, 32, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.4


def test_muon_descends():
    torch.manual_seed(0)
    goal, weight = torch.randn(8, 8), torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        error = (weight - goal).square().mean()
        error.backward()
        optimizer.step()
        losses.append(float(error.detach()))
    assert losses[-1] < 0.2 * losses[0]


def write_tiny_recipe(folder: Path) -> Path:
    recipe = folder / "tiny.toml"
    model = "\n".join(f"{key} = {value}" for key, value in TINY_RECIPE["model"].items())
    training = "\n".join(f"{key} = {value}" for key, value in TINY_RECIPE["training"].items())
    recipe.write_text(f"[model]\n{model}\n[training]\n{training}\n")
    return recipe


def test_the_command_line_trains_resumes_exports_and_verifies(tmp_path: Path):
    """The factory's three commands, one after the other, as the README has them."""
    recipe = write_tiny_recipe(tmp_path)
    run, bundle = tmp_path / "run", tmp_path / "tiny"
    runner = CliRunner()

    def call(*arguments: str) -> str:
        result = runner.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    train = ("train", "--data", str(PHOTOGRAPH), "--run", str(run), "--recipe", str(recipe))
    call(*train, "--cpu", "--steps", "12")
    assert "resuming" in call(*train, "--cpu")
    other = runner.invoke(app, [*train[:-1], str(RECIPES / "base.toml")])
    assert isinstance(other.exception, ValueError)
    assert "of another model than" in str(other.exception)
    assert "20 steps" in call("onnx", str(run), str(bundle))
    report = call("verify", str(bundle), "--images", str(PHOTOGRAPH))
    assert "FAIL" not in report
    assert report.count("ok  ") >= 12
    call(*train[:4], str(tmp_path / "again"), *train[5:], "--cpu", "--init-from", str(bundle))


@pytest.mark.parametrize("able", [True, False])
def test_a_processor_without_bfloat16_trains_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    recipe = write_tiny_recipe(tmp_path)
    recipe.write_text(recipe.read_text() + 'autocast = "bfloat16"\n')
    run = ("--run", str(tmp_path / "run"), "--recipe", str(recipe), "--cpu", "--steps", "12")
    result = CliRunner().invoke(app, ["train", "--data", str(PHOTOGRAPH), *run])
    assert result.exit_code == 0, result.output
    assert ("training in float32" in result.output) != able
    used = load(tmp_path / "run" / CHECKPOINT)[0].training.autocast
    assert used == ("bfloat16" if able else "off")


def test_the_curve_of_a_bundle_is_estimated(tiny_bundle: Path, tmp_path: Path):
    """Rates rise with the level, and `--every` leaves images out."""
    for index in range(2):
        with Image.open(PHOTOGRAPH) as image:
            image.resize((150 + 50 * index, 100)).save(tmp_path / f"{index}.png")
    arguments = ["curve", str(tiny_bundle), "--images", str(tmp_path), "--levels", "3"]
    result = CliRunner().invoke(app, [*arguments, "--every", "2"])
    assert result.exit_code == 0, result.output
    rates = [float(line.split()[2]) for line in result.output.splitlines()]
    assert len(rates) == 3
    assert rates == sorted(rates)
    whole = CliRunner().invoke(app, arguments)
    assert whole.output != result.output


def test_two_processes_train_one_model(tmp_path: Path):
    """As the recipes' README starts it, and again: one of the two writes the folder."""
    recipe = write_tiny_recipe(tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--"]
    run = ["export", "train", "--recipe", str(recipe), "--run", str(tmp_path / "run"), "--cpu"]
    data = ["--data", str(PHOTOGRAPH), "--validation", str(PHOTOGRAPH)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for steps in (12, 15):
        done = subprocess.run(
            [*launcher, *run, *data, "--steps", str(steps)],
            cwd=SAMPLES.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert load(tmp_path / "run" / CHECKPOINT)[1].step == steps
        rows = (tmp_path / "run" / "validation.csv").read_text().splitlines()
        assert rows[0].startswith("step,")
        assert rows[1].startswith("10,")


MUON_ALONE_AND_TOGETHER = """
import torch
from torch import distributed
from export.muon import Muon

def trained():
    torch.manual_seed(0)
    shapes = ((8, 32), (32, 8), (8, 32), (16, 16))
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = Muon(weights, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        sum((weight.square() * (1 + weight)).sum() for weight in weights).backward()
        optimizer.step()
    return weights

alone = trained()
distributed.init_process_group("gloo")
together = trained()
assert distributed.get_world_size() == 2
assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(alone, together, strict=True))
assert any(not torch.equal(a, torch.zeros_like(a)) for a in together)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_divide_the_work_of_muon(tmp_path: Path):
    script = tmp_path / "muon.py"
    script.write_text(MUON_ALONE_AND_TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert _owners([torch.Size((8, 8))] * 4, 2) == [0, 1, 0, 1]
    assert _owners([torch.Size((2, 2)), torch.Size((64, 64)), torch.Size((2, 2))], 2) == [1, 0, 1]
