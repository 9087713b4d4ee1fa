"""Training on a GPU: a recorded step does what a step does. Skipped where there is no GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import SAMPLES, TINY_RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from accelerate.state import AcceleratorState  # noqa: E402

from export.capture import WARM_UP  # noqa: E402
from export.data import Crops  # noqa: E402
from export.recipe import Recipe  # noqa: E402
from export.state import CHECKPOINT, load, start  # noqa: E402
from export.train import Trainer, validation_crops  # noqa: E402

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
def test_a_recorded_step_trains_as_a_step_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
):
    """Other inputs, rates and random numbers in every step, and other weights after it."""
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    recorded = trainer(tmp_path / "recorded", compiled=compiled)
    ordinary = trainer(tmp_path / "ordinary")
    ordinary._compute = ordinary._optimise
    for step in range(WARM_UP + 5):
        before = [parameter.clone() for parameter in recorded.state.model.parameters()]
        one, other = recorded.step(), ordinary.step()
        for name in ("loss", "gradient_norm"):
            # Sums of gradients have no order: what they differ by grows with the steps.
            assert float(one[name]) == pytest.approx(float(other[name]), rel=0.02), (step, name)
        pairs = zip(recorded.state.model.parameters(), before, strict=True)
        assert not all(torch.equal(new, old) for new, old in pairs), step
    for run in (recorded, ordinary):
        of_adam = run.state.optimizers[-1].state.values()
        assert {int(held["step"]) for held in of_adam} == {WARM_UP + 5}
    for kind in ("model", "averaged"):
        found, expected = (getattr(run.state, kind) for run in (recorded, ordinary))
        for (name, value), wanted in zip(
            found.named_parameters(), expected.parameters(), strict=True
        ):
            torch.testing.assert_close(value, wanted, rtol=0.01, atol=2e-3, msg=f"{kind}.{name}")


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
