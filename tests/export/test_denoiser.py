"""The denoiser: what it starts as, what training changes, and its place in a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden.test_golden import V1
from support import SAMPLES, TINY_DENOISER, TINY_RECIPE
from typer.testing import CliRunner

from export import denoising
from export.__main__ import RECIPES, app
from export.bundle import add_denoiser, write_bundle
from export.bundle_weights import read_denoiser, read_model
from export.data import Crops
from export.degrade import in_8_bits
from export.denoiser import Denoiser
from export.denoising import Denoising, _coded, _weighed
from export.model import Model
from export.recipe import DenoiserShape, Recipe
from export.state import CHECKPOINT, start, trained_model
from export.train import Trainer, validation_crops
from export.verify import verify
from vaecodec.bundle import DENOISER, find_bundle

RECIPE = Recipe.from_dict(TINY_RECIPE | {"denoiser": TINY_DENOISER})
PHOTOGRAPH = SAMPLES / "astronaut-sign.jpg"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """One that may be changed."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def trainer(folder: Path, bundle: Path, recipe: Recipe = RECIPE) -> Trainer:
    folder.mkdir(exist_ok=True)
    training = recipe.training
    crops = Crops([PHOTOGRAPH], training.crop, training.batch, seed=0)
    state = start(recipe, crops, read_model(bundle))
    return Trainer(recipe, state, crops, validation_crops([PHOTOGRAPH]), folder, cpu=True)


def test_it_starts_as_the_autoencoder(tiny_bundle: Path):
    vae = read_model(tiny_bundle)
    denoiser = Denoiser(vae.arch, DenoiserShape(**TINY_DENOISER)).eval()
    denoiser.inherit(vae)
    x = torch.rand(2, 3, 64, 64)
    anchor = torch.tensor([10.0, 50.0])
    with torch.no_grad():
        estimate, y = denoiser.analysis(x, anchor)
        out = denoiser(x, anchor, 1)
        assert torch.equal(estimate, x)
        assert torch.allclose(y, vae.g_a(x, anchor), atol=1e-5)
        assert torch.equal(out["restored"], out["decoded"].clamp(0, 1))
        assert torch.allclose(out["x_hat"], vae(x[:1], anchor[:1])["x_hat"], atol=1e-5)
    assert len(out["restored"]) == 1


def test_training_denoises_and_leaves_the_autoencoder_as_it_is(bundle: Path, tmp_path: Path):
    fast = {"muon_rate": 0.02, "adam_rate": 0.01, "batch": 4}
    training = replace(RECIPE.training, steps=160, validate_every=80, **fast)
    run = trainer(tmp_path / "run", bundle, replace(RECIPE, training=training))
    before = {name: value.clone() for name, value in run.state.model.state_dict().items()}
    task = run.task
    assert isinstance(task, Denoising)
    x = run.crops.get(0).float().div(255)
    batch = {
        "anchor": torch.tensor([10.0, 20.0, 40.0, 60.0]),
        **task.prepare(x, torch.Generator().manual_seed(1)),
    }

    def measured() -> tuple[float, float]:
        with torch.no_grad():
            torch.manual_seed(1)
            loss, _ = task.objective(run.state.model, batch)
        rows = {row[0]: row[1] for row in task.validate(run.state.model)}
        return float(loss), float(rows["noise 50"])

    loss, front_db = measured()
    run.run()
    trained_loss, trained_front_db = measured()
    assert trained_loss < loss - 0.5
    assert trained_front_db > front_db + 0.1
    changed = {n for n, value in run.state.model.state_dict().items() if not value.equal(before[n])}
    assert {name.partition(".")[0] for name in changed} == {"analysis", "refine"}
    assert any(name.startswith("analysis.g_a") for name in changed)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {CHECKPOINT, "validation.csv", "log.csv", "curve.png"}


def test_a_denoiser_is_adapted_to_another_autoencoder():
    shape = DenoiserShape(**TINY_DENOISER)
    torch.manual_seed(5)
    earlier, vae = Denoiser(RECIPE.model, shape), Model(RECIPE.model)
    adapted = Denoiser(RECIPE.model, shape)
    adapted.inherit(vae, earlier)
    for part, source in (
        (adapted.vae, vae),
        (adapted.analysis.g_a, vae.g_a),
        (adapted.analysis.front, earlier.analysis.front),
        (adapted.refine, earlier.refine),
    ):
        for name, value in part.state_dict().items():
            assert torch.equal(value, source.state_dict()[name]), name
    wider = Denoiser(RECIPE.model, replace(shape, front=(16, 8, 16)))
    with pytest.raises(ValueError, match="another shape"):
        adapted.inherit(vae, wider)


def test_what_is_coded_in_training_has_8_bits(tiny_bundle: Path):
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))
    task = Denoising(denoiser, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    x = torch.rand(18, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = task.prepare(x, torch.Generator().manual_seed(3))["noisy"]
    of_8_bits = [bool(torch.equal(image, in_8_bits(image))) for image in noisy]
    coded = _coded(len(x))
    assert coded == 6
    assert all(of_8_bits[:coded])
    assert not all(of_8_bits[coded:])


def test_grey_images_are_noisy_in_grey(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(denoising, "GREY_SHARE", 1.0)
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))
    task = Denoising(denoiser, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    batch = task.prepare(torch.rand(20, 3, 64, 64), torch.Generator().manual_seed(3))
    for image in (batch["x"], batch["noisy"]):
        torch.testing.assert_close(image, image[:, :1].expand_as(image))
    assert not torch.equal(batch["x"], batch["noisy"])


def test_what_the_refinement_could_mend_is_not_left_to_it():
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))
    out = denoiser(torch.rand(2, 3, 64, 64), torch.full((2,), 40.0), 1)
    out["restored"].sum().backward()
    assert all(parameter.grad is None for parameter in denoiser.analysis.parameters())
    assert any(parameter.grad is not None for parameter in denoiser.refine.parameters())


def test_a_bundle_gives_back_the_weights_that_it_was_given(bundle: Path):
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))
    denoiser.inherit(read_model(bundle))
    before = find_bundle(bundle)
    add_denoiser(denoiser, bundle, {"steps": 7})
    after = find_bundle(bundle)
    assert after.model_id == before.model_id
    assert after.manifest["denoiser"]["training"] == {"steps": 7}
    assert after.files[DENOISER] != before.files[DENOISER]
    found = read_denoiser(bundle)
    assert found is not None
    for name, value in denoiser.state_dict().items():
        assert torch.allclose(value, found.state_dict()[name], rtol=1e-3, atol=1e-6), name
    again = trained_model(bundle, denoiser=True)
    assert isinstance(again, Denoiser)


def test_a_denoiser_of_another_autoencoder_is_refused(bundle: Path):
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))  # whose weights are random
    before = (bundle / DENOISER).read_bytes()
    with pytest.raises(ValueError, match="another model"):
        add_denoiser(denoiser, bundle, {})
    assert (bundle / DENOISER).read_bytes() == before


def test_verify_finds_a_halo_that_is_too_small(bundle: Path):
    manifest = bundle / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    assert min(content["denoiser"]["halo"], content["denoiser"]["refiner_halo"]) > 1
    content["denoiser"] |= {"halo": 1, "refiner_halo": 1}
    manifest.write_text(json.dumps(content), "utf-8")
    outcomes = {finding.check: finding for finding in verify(bundle, [PHOTOGRAPH])}
    assert [check for check, finding in outcomes.items() if not finding.passed] == [
        "halos of the denoiser"
    ]


@pytest.mark.parametrize("wrong", [{"front": (8, 8)}, {"blocks": (1, 1, 0, 1, 1)}, {"back": 3}])
def test_a_recipe_that_does_not_fit_is_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"must be|does not fit"):
        Recipe.from_dict({"denoiser": wrong})


def test_the_command_line_trains_resumes_and_exports(bundle: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.toml"
    training = "\n".join(f"{key} = {value}" for key, value in TINY_RECIPE["training"].items())
    shape = "\n".join(f"{key} = {list(value)}" for key, value in TINY_DENOISER.items())
    recipe.write_text(f"[denoiser]\n{shape}\n[training]\n{training}\n")
    run = tmp_path / "run"
    common = ["train", "--data", str(PHOTOGRAPH), "--run", str(run), "--recipe", str(recipe)]

    def invoke(*args: str) -> None:
        CliRunner().invoke(app, args, catch_exceptions=False)

    with pytest.raises(ValueError, match="starts from an autoencoder"):
        invoke(*common, "--cpu")
    shutil.rmtree(run)
    adapting = ("--init-from", str(bundle), "--denoiser-from", str(bundle))
    with pytest.raises(ValueError, match="for a recipe of one"):
        invoke(*common[:-1], str(RECIPES / "trial.toml"), "--cpu", *adapting)
    invoke(*common, "--cpu", *adapting, "--steps", "12")
    shutil.rmtree(run)
    invoke(*common, "--cpu", "--init-from", str(bundle), "--steps", "12")
    invoke(*common, "--cpu")
    before = find_bundle(bundle).files[DENOISER]
    invoke("onnx", str(run), str(bundle))
    after = find_bundle(bundle)
    assert after.files[DENOISER] != before
    assert after.manifest["denoiser"]["training"]["steps"] == 20
    measured = CliRunner().invoke(app, ["parts", str(bundle), "--images", str(PHOTOGRAPH)])
    lines = measured.stdout.splitlines()
    assert [line[:11].strip() for line in lines[1:]] == [
        *(f"noise {sigma}" for sigma in (0, 15, 25, 50)),
        "JPEG 20",
        "JPEG 20 cut",
    ]
    assert len({line[-6:] for line in lines[1:]}) == 1  # the ceiling knows no damage
    with pytest.raises(ValueError, match="is a denoiser"):
        invoke("curve", str(run), "--images", str(PHOTOGRAPH))


def test_writing_a_bundle_anew_keeps_its_denoiser(bundle: Path, tmp_path: Path):
    target = tmp_path / "anew"
    done = CliRunner().invoke(app, ["rewrite", str(bundle), str(target)])
    assert done.exit_code == 0
    old, new = read_denoiser(bundle), read_denoiser(target)
    assert old is not None
    assert new is not None
    for name, value in old.state_dict().items():
        if not name.startswith("vae."):
            assert torch.equal(value, new.state_dict()[name]), name


def test_a_bundle_gets_the_denoiser_of_another(bundle: Path, tmp_path: Path):
    """Networks on pixels are taken over, and stand before the analysis of the other bundle."""
    other = tmp_path / "other"
    larger = Model(replace(RECIPE.model, blocks_8=2, latent=48))
    larger.start_linear(torch.eye(768)[:48], torch.full((48,), 2.0))
    write_bundle(larger, other, "other", {"version": "1", "licence": "none"})
    before = find_bundle(other).model_id
    done = CliRunner().invoke(app, ["adapt-denoiser", str(other), str(bundle)])
    assert done.exit_code == 0, done.output
    assert find_bundle(other).model_id == before
    source, found = read_denoiser(bundle), read_denoiser(other)
    assert source is not None
    assert found is not None
    for name, value in source.state_dict().items():
        if name.startswith(("analysis.front", "refine")):
            assert torch.equal(found.state_dict()[name], value), name
    vae = read_model(other)
    for name, value in vae.g_a.state_dict().items():
        assert torch.equal(found.analysis.g_a.state_dict()[name], value), name
    training = find_bundle(other).manifest["denoiser"]["training"]
    assert training["adapted_from"] == find_bundle(bundle).model_id.hex()
    done = CliRunner().invoke(app, ["adapt-denoiser", str(bundle), str(V1 / "bundle")])
    assert isinstance(done.exception, ValueError)
    assert "has no denoiser" in str(done.exception)


def test_a_bundle_is_never_half_changed(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    denoiser = Denoiser(RECIPE.model, DenoiserShape(**TINY_DENOISER))
    denoiser.inherit(read_model(bundle))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}

    def fail(_bundle: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("export.bundle.kmac_per_pixel", fail)
    with pytest.raises(OSError, match="no space"):
        add_denoiser(denoiser, bundle, {})
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_denoiser_has_no_name_of_its_own(bundle: Path, tmp_path: Path):
    run = trainer(tmp_path / "run", bundle)
    run.run()
    arguments = ["onnx", str(tmp_path / "run"), str(bundle), "--name", "other"]
    with pytest.raises(ValueError, match="those of its bundle"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_lost_image_sways_no_other():
    """The loss is smooth where a power gives way to a logarithm, whose gradient falls."""
    error = torch.tensor([0.0, 50.0, 1998.9, 1999.1, 1e10], requires_grad=True)
    weighed = _weighed(error)
    (gradient,) = torch.autograd.grad(weighed.sum(), error)
    assert torch.equal(weighed.argsort(), torch.arange(5))
    torch.testing.assert_close(gradient[2], gradient[3], rtol=1e-3, atol=0)
    torch.testing.assert_close(weighed[2], weighed[3], rtol=1e-4, atol=0)
    assert gradient[4] * error.detach()[4] < 10
    assert weighed[4] < 200
