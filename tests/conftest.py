from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import SAMPLES, TINY_RECIPE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless it is asked for."""
    if os.environ.get("VAECODEC_EXHAUSTIVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.skip(reason="runs where VAECODEC_EXHAUSTIVE=1"))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle, made here: a small network after a few steps on a sample photograph."""

    from export.bundle import write_bundle
    from export.data import Crops
    from export.recipe import Recipe
    from export.train import start

    recipe = Recipe.from_dict(TINY_RECIPE)
    crops = Crops([SAMPLES / "astronaut-sign.jpg"], recipe.training.crop, 2, seed=0)
    state = start(recipe, crops, None)
    _stir(state.model)
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(state.model, folder, "tiny", {"version": "test", "licence": "Apache-2.0"})
    return folder


STIRRED = ("head.weight", "mean.weight", "scale.weight", "log_scale", "shift")
"""Parameters that start at zero: left there, half of each graph would go untested."""


def _stir(model) -> None:
    """Give what starts at zero some other value."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(STIRRED):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
