"""Where a run is: weights, their average, optimisers; its start, and checkpoints of it."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.architecture import PIXEL_UNIT
from export.bundle_weights import read_denoiser, read_model
from export.data import Crops
from export.denoiser import Denoiser
from export.inherit import inherit
from export.model import Model
from export.objective import find_balance
from export.optimizers import make_optimizers
from export.recipe import Recipe, Training
from vaecodec.bundle import PATCH

PCA_PATCHES = 30_000
BALANCE_BATCHES = 8
CHECKPOINT = "checkpoint.pt"


@dataclass
class State:
    """What a checkpoint holds, besides the recipe."""

    model: Model | Denoiser
    averaged: Model | Denoiser
    """Exponential average of the weights."""
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    """Time trained so far, in all sessions."""


def start(
    recipe: Recipe,
    crops: Crops,
    initial: Model | Denoiser | None,
    earlier: Denoiser | None = None,
) -> State:
    """Make a fresh state: from another model if given, else from principal components.

    Args:
        recipe: what to train.
        crops: what principal components are those of.
        initial: what to start from.
        earlier: for a denoiser, that of another autoencoder; see `Denoiser.inherit`.

    Raises:
        ValueError: the recipe is for another kind of model than the one to start from.
    """
    torch.manual_seed(recipe.training.seed)
    model = _build(recipe)
    if isinstance(model, Denoiser):
        if initial is None:
            raise ValueError("a denoiser starts from an autoencoder: name its bundle")
        model.inherit(initial, earlier)
        return _state(model, recipe.training)
    if isinstance(initial, Denoiser):
        raise ValueError("the model to start from is a denoiser")
    if initial is None or initial.arch.latent < model.arch.latent:
        model.start_linear(*principal_components(crops, recipe.model.latent))
    if initial is not None:
        inherit(model, initial)
    return _state(model, recipe.training)


def _build(recipe: Recipe) -> Model | Denoiser:
    return Denoiser(recipe.model, recipe.denoiser) if recipe.denoiser else Model(recipe.model)


def _state(model: Model | Denoiser, training: Training) -> State:
    averaged = copy.deepcopy(model).requires_grad_(False)
    return State(model, averaged, make_optimizers(model, training))


def with_balance(recipe: Recipe, state: State, crops: Crops) -> Recipe:
    """Return a recipe whose visual balance is that of the model a run begins with."""
    training = recipe.training
    if not training.visual_share or training.visual_balance or isinstance(state.model, Denoiser):
        return recipe
    batches = [crops.get(step).float().div(255) for step in range(BALANCE_BATCHES)]
    balance = find_balance(state.model, batches)
    return replace(recipe, training=replace(training, visual_balance=balance))


def principal_components(crops: Crops, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading components ``(count, 768)`` of 16x16 patches and their deviations."""
    patches = (crops.patches(PCA_PATCHES, PATCH).flatten(1) - 0.5) / PIXEL_UNIT
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    leading = vectors[:, -count:].flip(1).T.contiguous()
    return leading, values[-count:].flip(0).clamp_min(0).sqrt()


def save(path: Path, recipe: Recipe, state: State) -> None:
    """Write a checkpoint; the old one stays whole until the new one is."""
    content = {
        "recipe": recipe.to_dict(),
        "model": state.model.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "step": state.step,
        "seconds": state.seconds,
    }
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path, training: Training | None = None) -> tuple[Recipe, State]:
    """Read a checkpoint; `training` replaces the schedule that it was made with.

    Raises:
        ValueError: it is no checkpoint, or another version of the trainer wrote it.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        recipe = Recipe.from_dict(content["recipe"])
    except OSError:
        raise
    except Exception as error:  # PyTorch raises whatever damage runs it into
        raise ValueError(f"{path} is no checkpoint of this trainer") from error
    if training is not None:
        balance = training.visual_balance or recipe.training.visual_balance
        recipe = replace(recipe, training=replace(training, visual_balance=balance))
    state = _state(_build(recipe), recipe.training)
    try:
        state.model.load_state_dict(content["model"])
        state.averaged.load_state_dict(content["averaged"])
    except RuntimeError as error:
        raise ValueError(f"another version of the trainer wrote {path}") from error
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        keys = ("base_lr", "weight_decay")
        fresh = [{key: group[key] for key in keys} for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, settings in zip(optimizer.param_groups, fresh, strict=True):
            group.update(settings)
    state.step, state.seconds = content["step"], content["seconds"]
    return recipe, state


def averaged_model(path: Path) -> tuple[Recipe, Model | Denoiser, int, float]:
    """Return recipe, averaged weights, steps and seconds trained of a checkpoint, for export."""
    recipe, state = load(path)
    return recipe, state.averaged.eval(), state.step, state.seconds


def trained_model(folder: Path, *, denoiser: bool = False) -> Model | Denoiser:
    """Return the model of a run's folder (its averaged weights) or of a bundle's.

    Args:
        folder: of either.
        denoiser: whether a bundle's denoiser is wanted with its autoencoder, if it has one.

    Raises:
        ModelError: it is neither.
    """
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        return averaged_model(checkpoint)[1]
    return (read_denoiser(folder) if denoiser else None) or read_model(folder)
