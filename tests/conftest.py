from __future__ import annotations

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle, made here: a small network after a few steps on a sample photograph."""
    import torch

    from export.bundle import write_bundle
    from export.data import Crops
    from export.recipe import Recipe
    from export.train import start

    torch.set_num_threads(2)
    recipe = Recipe.from_dict(TINY_RECIPE)
    crops = Crops([SAMPLES / "astronaut-sign.jpg"], recipe.training.crop, 2, seed=0)
    state = start(recipe, crops, None)
    _stir(state.model)
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(state.model, folder, "tiny", {"version": "test", "licence": "Apache-2.0"})
    return folder


TINY_RECIPE = {
    "model": {
        "channels_8": 16,
        "channels_16": 16,
        "blocks_8": 1,
        "blocks_16": 1,
        "latent": 32,
        "hyper": 16,
        "prior": 16,
    },
    "training": {
        "steps": 20,
        "warmup_steps": 2,
        "decay_steps": 5,
        "crop": 64,
        "batch": 2,
        "validate_every": 10,
    },
}


def _stir(model) -> None:
    """Give the heads, which start at zero, weights: else half of each graph would go untested."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("head.weight"):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
