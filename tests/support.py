"""What several tests share."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "samples"

TINY_RECIPE = {
    "model": {
        "channels_8": 16,
        "channels_16": 16,
        "blocks_8": 1,
        "blocks_16": 1,
        "latent": 32,
        "hyper": 16,
        "prior": 16,
        "context_blocks": 1,
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

STIRRED = ("head.weight", "mean.weight", "scale.weight", "log_scale", "shift")
"""Parameters that start at zero: left there, half of each graph would go untested."""


TINY_DENOISER = {"front": (16, 8, 8), "refine": (16, 8, 8), "blocks": (1, 1, 1, 1, 1)}


def make_tiny_bundle(folder: Path) -> Path:
    """Write a bundle whose linear path fits a sample photograph, and whose networks are random."""
    from export.bundle import add_denoiser, write_bundle
    from export.data import Crops
    from export.denoiser import Denoiser
    from export.recipe import DenoiserShape, Recipe
    from export.state import start, trained_model

    recipe = Recipe.from_dict(TINY_RECIPE)
    crops = Crops([SAMPLES / "astronaut-sign.jpg"], recipe.training.crop, 2, seed=0)
    state = start(recipe, crops, None)
    _stir(state.model)
    write_bundle(state.model, folder, "tiny", {"version": "test", "licence": "Apache-2.0"})
    denoiser = Denoiser(recipe.model, DenoiserShape(**TINY_DENOISER))
    denoiser.inherit(trained_model(folder))
    _stir(denoiser.analysis.front)
    _stir(denoiser.refine)
    add_denoiser(denoiser, folder, {})
    return folder


def _stir(model) -> None:
    """Give what starts at zero some other value."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(STIRRED):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
