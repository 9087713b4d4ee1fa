"""The factory's command line: a line for what can be mended, a traceback for what is a bug."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SAMPLES, TINY_RECIPE

import export.__main__ as command
from export.data import Crops
from export.mistakes import can_be_mended
from export.recipe import Recipe
from export.state import start
from export.train import Trainer
from vaecodec.rate import level_of_quality


def failing(function, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command line where the command itself fails."""
    monkeypatch.setattr(command, "app", function)
    command.main()


@pytest.mark.parametrize(
    "bug",
    [
        lambda: torch.optim.SGD([torch.ones(1)], lr=-1),  # a ValueError of PyTorch's Python
        lambda: np.zeros(3).reshape(2, 2),  # and one of C
        lambda: int("a number"),
        lambda: 1 // 0,
        lambda: {}["a key"],
        lambda: torch.ones(2) @ torch.ones(3),
    ],
)
def test_bugs_show_where_they_are(bug, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises((ValueError, ArithmeticError, KeyError, RuntimeError)) as caught:
        failing(bug, monkeypatch)
    assert not can_be_mended(caught.value)


def test_what_a_library_raises_below_a_function_of_ours_is_a_bug(
    monkeypatch: pytest.MonkeyPatch,
):
    recipe = Recipe.from_dict(TINY_RECIPE)
    wrong = replace(recipe.training, batch=2)
    monkeypatch.setattr("export.recipe.Architecture", lambda **_: np.zeros(3).reshape(2, 2))
    with pytest.raises(ValueError, match="cannot reshape"):
        failing(lambda: Recipe.from_dict({"training": vars(wrong)}), monkeypatch)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: command._share("half"), "--share must be NAME=SHARE, not half"),
        (lambda: level_of_quality(101), "quality 101 is not in 0 to 100"),
        (lambda: Recipe.from_dict({"modle": {}}), "unknown tables in the recipe: modle"),
        (lambda: Path("no-such-file").read_text("utf-8"), ".*No such file.*no-such-file.*"),
    ],
)
def test_checks_are_a_line(mistake, message: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit, match=f"^export: error: {message}$"):
        failing(mistake, monkeypatch)


@pytest.mark.parametrize("content", [b"steps = ", b"\xff"])
def test_a_recipe_that_is_none_is_a_line(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"^export: error: the recipe .*recipe.toml cannot be"):
        failing(lambda: Recipe.read(path), monkeypatch)


def test_a_run_that_diverges_is_a_line_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = Recipe.from_dict(TINY_RECIPE)
    training = replace(recipe.training, steps=2, warmup_steps=0, decay_steps=0)
    recipe = replace(recipe, training=training)
    crops = Crops([SAMPLES / "astronaut-sign.jpg"], recipe.training.crop, 2, seed=0)
    held_out = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    state = start(recipe, crops, None)
    run = Trainer(recipe, state, crops, held_out, tmp_path, cpu=True)
    with torch.no_grad():
        state.model.g_a.linear[0, 0] = torch.nan
    with pytest.raises(SystemExit, match=r"^export: error: training has diverged: .*"):
        failing(run.run, monkeypatch)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crops")]
