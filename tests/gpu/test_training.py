"""Training on a GPU: a recorded step does what a step does. Skipped where there is no GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import SAMPLES, TINY_RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from accelerate.state import AcceleratorState  # noqa: E402

from export.data import Crops  # noqa: E402
from export.recipe import Recipe  # noqa: E402
from export.train import CHECKPOINT, Trainer, load, start, validation_crops  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU for PyTorch")

RECIPE = Recipe.from_dict(TINY_RECIPE)
PHOTOGRAPH = SAMPLES / "astronaut-sign.jpg"


def trainer(folder: Path, **changes: bool) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    folder.mkdir()
    training = RECIPE.training
    crops = Crops([PHOTOGRAPH], training.crop, training.batch, seed=0, device="cuda")
    state = start(RECIPE, crops, None)
    held_out = validation_crops([PHOTOGRAPH])
    return Trainer(RECIPE, state, crops, held_out, folder, cpu=False, **changes)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_recorded_step_trains_as_a_step_does(tmp_path: Path, compiled: bool):
    recorded = trainer(tmp_path / "recorded", compiled=compiled)
    ordinary = trainer(tmp_path / "ordinary")
    ordinary._compute = ordinary._optimise
    recorded.run()
    ordinary.run()
    # Sums of gradients have no order: what they differ by grows with the steps.
    for step, (one, other) in enumerate(zip(_losses(recorded), _losses(ordinary), strict=True)):
        assert one == pytest.approx(other, rel=0.02), step
    for (name, one), other in zip(
        recorded.state.averaged.named_parameters(),
        ordinary.state.averaged.parameters(),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=0.05, atol=0.02), name


def _losses(run: Trainer) -> list[float]:
    rows = (run.folder / "validation.csv").read_text().splitlines()[1:]
    return [float(row.rpartition(",")[2]) for row in rows]


def test_a_gpus_checkpoint_goes_on_on_a_cpu(tmp_path: Path):
    run = trainer(tmp_path / "run")
    run.run()
    AcceleratorState._reset_state(reset_partial_state=True)
    longer = replace(RECIPE.training, steps=24)
    recipe, state = load(tmp_path / "run" / CHECKPOINT, longer)
    crops = Crops([PHOTOGRAPH], longer.crop, longer.batch, seed=0)
    resumed = Trainer(recipe, state, crops, validation_crops([PHOTOGRAPH]), run.folder, cpu=True)
    resumed.run()
    assert resumed.state.step == 24
