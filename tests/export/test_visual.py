"""Training for the eye: the balance of the two errors, and what becomes of it in checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import SAMPLES, TINY_RECIPE

from export.data import Crops
from export.measure import Measured, compare_measured, read_measured, write_measured
from export.objective import Visual, find_balance, loss, rate_distortion
from export.recipe import Recipe, Training
from export.state import CHECKPOINT, load, save, start, with_balance
from export.train import Trainer, validation_crops

TINY = Recipe.from_dict(TINY_RECIPE)
RECIPE = replace(TINY, training=replace(TINY.training, crop=128, visual_share=0.5))
PHOTOGRAPH = SAMPLES / "portrait.jpg"


@pytest.fixture(scope="module")
def crops() -> Crops:
    return Crops([PHOTOGRAPH], RECIPE.training.crop, RECIPE.training.batch, seed=0)


def test_the_balance_makes_both_errors_equal_at_every_knot(crops: Crops):
    model = start(RECIPE, crops, None).model
    x = crops.get(0).float().div(255)
    balance = find_balance(model, [x])
    assert len(balance) == model.arch.knots
    for knot in (0, 4, model.arch.knots - 1):
        anchor = torch.full((len(x),), float(knot * model.arch.knot_spacing))
        with torch.no_grad():
            measured = rate_distortion(model(x, anchor), x, hard=True, visual=True)
        # Of one batch, so that the means stand for the sums.
        apart = [
            loss(model.arch, measured, anchor, Visual(share, balance)) for share in (0.0, 0.5, 1.0)
        ]
        torch.testing.assert_close(apart[0], apart[2], rtol=1e-3, atol=0)
        torch.testing.assert_close(apart[0], apart[1], rtol=1e-3, atol=0)
        torch.testing.assert_close(apart[0], loss(model.arch, measured, anchor))
    assert all(balance[k] < balance[k + 1] for k in range(len(balance) - 1))


def test_a_run_keeps_the_balance_that_it_began_with(crops: Crops, tmp_path: Path):
    state = start(RECIPE, crops, None)
    recipe = with_balance(RECIPE, state, crops)
    balance = recipe.training.visual_balance
    assert len(balance) == RECIPE.model.knots
    save(tmp_path / CHECKPOINT, recipe, state)
    assert load(tmp_path / CHECKPOINT, RECIPE.training)[0].training.visual_balance == balance
    other = replace(RECIPE.training, visual_balance=(1.0,) * RECIPE.model.knots)
    assert load(tmp_path / CHECKPOINT, other)[0].training == other
    assert with_balance(replace(RECIPE, training=other), state, crops).training == other
    assert with_balance(TINY, state, crops) == TINY


def test_training_follows_the_looks(crops: Crops):
    """A step along the gradient of the visual loss lowers it, with a distortion of looks alone."""
    model = start(RECIPE, crops, None).model
    x = crops.get(0).float().div(255)
    anchor = torch.full((len(x),), 40.0)
    visual = Visual(1.0, find_balance(model, [x]))
    # The synthesis alone, so that the rate stays.
    optimizer = torch.optim.Adam(model.g_s.parameters(), 1e-4)
    distances: list[float] = []
    for _ in range(15):
        torch.manual_seed(0)
        measured = rate_distortion(model(x, anchor), x, hard=False, visual=True)
        distances.append(float(measured.distance.detach().mean()))
        optimizer.zero_grad()
        loss(model.arch, measured, anchor, visual).backward()
        optimizer.step()
    assert distances[-1] < 0.98 * distances[0]


def test_a_run_tells_of_the_looks(crops: Crops, tmp_path: Path):
    state = start(RECIPE, crops, None)
    recipe = with_balance(RECIPE, state, crops)
    run = Trainer(recipe, state, crops, validation_crops([PHOTOGRAPH]), tmp_path, cpu=True)
    assert float(run.step()["distance"]) > 0
    run.validate()
    assert "ssimulacra2" in (tmp_path / "validation.csv").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"visual_share": 1.5}, "from 0 to 1"),
        ({"visual_share": 0.5, "crop": 64}, "128 pixels"),
        ({"visual_balance": (1.0, 0.0)}, "above 0"),
    ],
)
def test_recipes_that_do_not_fit(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        Training(**changes)


def test_curves_are_compared_in_every_measure(tmp_path: Path):
    rates = (0.1, 0.3, 1.0, 2.5)
    curve = [Measured(r, 30 + i, 40.0 + 17 * i, 10.0 + i) for i, r in enumerate(rates)]
    write_measured(tmp_path / "curve.json", curve)
    assert read_measured(tmp_path / "curve.json") == curve
    cheaper = [point._replace(bpp=0.8 * point.bpp) for point in curve]
    lines = list(compare_measured(curve, cheaper))
    assert lines[:3] == [
        f"BD-rate at equal {name}: -20.0%" for name in ("psnr_db", "ms_ssim_db", "ssimulacra2")
    ]
    assert lines[3] == "bits at SSIMULACRA 2 of 50: -20.0%"
    worse = [point._replace(ssimulacra2=point.ssimulacra2 - 10) for point in curve]
    assert "spans" in list(compare_measured(worse, worse))[-1]
    (tmp_path / "curve.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="no curve"):
        read_measured(tmp_path / "curve.json")
