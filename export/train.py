"""Training: warm-up, stable, decay; exact resumption; averaged weights.

Everything random in step s is drawn from generators seeded by (seed, s), so a run that was
interrupted continues to the same weights as one that was not.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from export.architecture import PATCH, PIXEL_UNIT
from export.data import Crops, read_images
from export.dyadic import DyadicConv
from export.muon import Muon
from export.networks import Conv, Model
from export.objective import RateDistortion, loss, rate_distortion
from export.recipe import Recipe, Training

PCA_PATCHES = 30_000
VALIDATION_IMAGES = 16
VALIDATION_CROP = 256
VALIDATION_ANCHORS = (0, 12, 24, 36, 48, 63)
LOG_EVERY = 50
CHECKPOINT = "checkpoint.pt"


@dataclass
class State:
    """What a checkpoint holds, besides the recipe."""

    model: Model
    averaged: AveragedModel
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    """Time trained so far, in all sessions."""


def make_optimizers(model: Model, training: Training) -> list[torch.optim.Optimizer]:
    """Give the inner dense convolutions to Muon and everything else to AdamW."""
    inner: list[nn.Parameter] = []
    rates: dict[str, list[nn.Parameter]] = {"adam": [], "linear": [], "table": []}
    for name, module in model.named_modules():
        dense = isinstance(module, Conv) or (isinstance(module, DyadicConv) and module.groups == 1)
        edge = name.rpartition(".")[2] in ("stem", "head")
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if dense and not edge and parameter_name == "weight":
                inner.append(parameter)
            elif module is model:
                rates["table"].append(parameter)
            else:
                rates["linear" if parameter_name == "linear" else "adam"].append(parameter)
    groups = [
        {"params": rates["adam"], "lr": training.adam_rate},
        {"params": rates["linear"], "lr": training.linear_rate},
        {"params": rates["table"], "lr": training.table_rate},
    ]
    decay = training.weight_decay
    muon = Muon(inner, lr=training.muon_rate, weight_decay=decay)
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=decay)
    optimizers: list[torch.optim.Optimizer] = [muon, adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def start(recipe: Recipe, crops: Crops, initial: dict[str, Tensor] | None) -> State:
    """Make a fresh state: from `initial` weights if given, else from principal components."""
    torch.manual_seed(recipe.training.seed)
    model = Model(recipe.model)
    if initial is not None:
        model.load_state_dict(initial)
    else:
        model.start_linear(*principal_components(crops, recipe.model.latent))
    return _state(model, recipe.training)


def _state(model: Model, training: Training) -> State:
    average = get_ema_multi_avg_fn(training.ema_decay)
    averaged = AveragedModel(model, multi_avg_fn=average)
    return State(model, averaged, make_optimizers(model, training))


def principal_components(crops: Crops, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading components ``(count, 768)`` of 16x16 patches and their deviations."""
    patches = torch.from_numpy(crops.patches(PCA_PATCHES, PATCH)).flatten(1)
    patches = (patches - 0.5) / PIXEL_UNIT
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
    """Read a checkpoint; `training` replaces the schedule that it was made with."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    recipe = Recipe.from_dict(content["recipe"])
    if training is not None:
        recipe = replace(recipe, training=training)
    state = _state(Model(recipe.model), recipe.training)
    state.model.load_state_dict(content["model"])
    state.averaged.load_state_dict(content["averaged"])
    for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
        fresh = [group["base_lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved)
        for group, rate in zip(optimizer.param_groups, fresh, strict=True):
            group["base_lr"] = rate
    state.step, state.seconds = content["step"], content["seconds"]
    return recipe, state


def averaged_model(path: Path) -> tuple[Recipe, Model, int, float]:
    """Return recipe, averaged weights, steps and seconds trained of a checkpoint, for export."""
    recipe, state = load(path)
    model = state.averaged.module
    if not isinstance(model, Model):
        raise TypeError("the checkpoint holds another kind of model")
    return recipe, model.eval(), state.step, state.seconds


class Trainer:
    """One training run in a folder: log.csv, validation.csv, curve.png, checkpoint.pt."""

    def __init__(
        self,
        recipe: Recipe,
        state: State,
        crops: Crops,
        validation: Tensor,
        folder: Path,
        *,
        cpu: bool,
    ) -> None:
        self.recipe, self.state, self.crops, self.folder = recipe, state, crops, folder
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")
        self.device = self.accelerator.device
        state.model.to(self.device)
        state.averaged.to(self.device)
        _move_optimizers(state.optimizers, self.device)
        self.network = self.accelerator.prepare_model(state.model)
        self.validation = validation

    def run(self) -> None:
        """Train to the recipe's last step; write a checkpoint on the way, at the end and on ^C."""
        training, state = self.recipe.training, self.state
        main = self.accelerator.is_main_process
        saved = time.monotonic()
        with self._progress() as progress:
            task = progress.add_task("train", total=training.steps, completed=state.step, note="")
            log = _Log(self.folder / "log.csv")
            try:
                while state.step < training.steps:
                    began = time.monotonic()
                    measured, norm = self.step()
                    state.seconds += time.monotonic() - began
                    images = training.batch * self.accelerator.num_processes
                    log.add(state.step, measured, norm, images, time.monotonic() - began)
                    progress.update(task, completed=state.step, note=log.note)
                    if main and state.step % LOG_EVERY == 0:
                        log.write(training.rate_factor(state.step))
                    if main and state.step % training.validate_every == 0:
                        self.validate()
                    if main and time.monotonic() - saved > 60 * training.checkpoint_minutes:
                        save(self.folder / CHECKPOINT, self.recipe, state)
                        saved = time.monotonic()
            finally:
                if main:
                    save(self.folder / CHECKPOINT, self.recipe, state)

    def step(self) -> tuple[RateDistortion, float]:
        """Take one optimiser step; return what it measured and the gradient's norm."""
        training, state = self.recipe.training, self.state
        rank = self.accelerator.process_index
        x = self.crops.get(state.step, rank).to(self.device).float().div(255)
        x = x.contiguous(memory_format=torch.channels_last)
        torch.manual_seed((training.seed * 1_000_003 + state.step) * 1_009 + rank)
        anchor = (torch.rand(len(x)) * (self.recipe.model.anchors - 1)).to(self.device)
        factor = training.rate_factor(state.step)
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
        autocast = (
            torch.autocast(self.device.type, dtype=torch.bfloat16)
            if training.autocast == "bfloat16"
            else nullcontext()
        )
        with autocast:
            out = self.network(x, anchor)
        measured = rate_distortion(out, x, hard=False)
        self.accelerator.backward(loss(state.model, measured, anchor))
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), training.clip_norm)
        for optimizer in state.optimizers:
            optimizer.step()
        state.averaged.update_parameters(state.model)
        state.step += 1
        return measured, float(norm)

    @torch.no_grad()
    def validate(self) -> None:
        """Measure the averaged weights on held-out images, on hard symbols; log and plot."""
        rows: list[list[float]] = []
        model = self.state.averaged.module
        for level in VALIDATION_ANCHORS:
            parts = [
                _detached(
                    rate_distortion(
                        model(x, torch.full((len(x),), float(level), device=x.device)), x, hard=True
                    )
                )
                for x in self._validation_batches()
            ]
            bpp = torch.cat([bits for bits, _ in parts]).mean()
            psnr = (10 * torch.log10(255**2 / torch.cat([mse for _, mse in parts]))).mean()
            rows.append([self.state.step, level, round(float(bpp), 5), round(float(psnr), 4)])
        append_rows(self.folder / "validation.csv", ("step", "anchor", "bpp", "psnr_db"), rows)
        plot(self.folder)

    def _validation_batches(self) -> Iterator[Tensor]:
        for batch in self.validation.split(8):
            yield batch.to(self.device).float().div(255)

    def _progress(self) -> Progress:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        shown = self.accelerator.is_main_process
        return Progress(*columns, TimeRemainingColumn(), disable=not shown)


def _detached(measured: RateDistortion) -> tuple[Tensor, Tensor]:
    return measured.bpp, measured.mse


def _move_optimizers(optimizers: list[torch.optim.Optimizer], device: torch.device) -> None:
    for optimizer in optimizers:
        for held in optimizer.state.values():
            for key, value in held.items():
                if isinstance(value, Tensor) and value.dim():
                    held[key] = value.to(device)


def validation_crops(sources: list[Path]) -> Tensor:
    """Return the middles of the first held-out images, ``(n, 3, 256, 256)`` uint8."""
    crops: list[Tensor] = []
    for image in read_images(sources, VALIDATION_CROP):
        top = (image.shape[0] - VALIDATION_CROP) // 2
        left = (image.shape[1] - VALIDATION_CROP) // 2
        middle = image[top : top + VALIDATION_CROP, left : left + VALIDATION_CROP]
        crops.append(torch.from_numpy(middle.copy()).permute(2, 0, 1))
        if len(crops) == VALIDATION_IMAGES:
            break
    if not crops:
        raise ValueError(f"no image of {VALIDATION_CROP} pixels a side in the validation data")
    return torch.stack(crops)


class _Log:
    """Means over the steps since the last row of log.csv."""

    FIELDS = ("step", "rate_factor", "bpp", "psnr_db", "gradient_norm", "images_per_s", "seconds")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        self._clear()

    def _clear(self) -> None:
        self.count, self.images, self.elapsed = 0, 0, 0.0
        self.bpp, self.psnr, self.norm = 0.0, 0.0, 0.0

    def add(
        self, step: int, measured: RateDistortion, norm: float, images: int, elapsed: float
    ) -> None:
        self.step = step
        self.count += 1
        self.images += images
        self.elapsed += elapsed
        self.bpp += float(measured.bpp.detach().mean())
        self.psnr += float((10 * torch.log10(255**2 / measured.mse.detach())).mean())
        self.norm += norm
        speed = self.images / self.elapsed
        rate, quality = self.bpp / self.count, self.psnr / self.count
        self.note = f"{rate:.3f} bpp  {quality:.2f} dB  {speed:.1f} images/s"

    def write(self, factor: float) -> None:
        n = self.count
        means = (
            self.bpp / n,
            self.psnr / n,
            self.norm / n,
            self.images / self.elapsed,
            self.elapsed,
        )
        row = [self.step, round(factor, 5), *(round(value, 5) for value in means)]
        append_rows(self.path, self.FIELDS, [row])
        self._clear()


def append_rows(path: Path, fields: tuple[str, ...], rows: list[list[float]]) -> None:
    """Append to a CSV file, with a header where it is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(fields)
        writer.writerows(rows)


def plot(folder: Path) -> None:
    """Draw the rate-distortion curves of the first, middle and last validations to curve.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with (folder / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = sorted({int(row["step"]) for row in rows})
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
        points = [(float(r["bpp"]), float(r["psnr_db"])) for r in rows if int(r["step"]) == step]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"step {step:,}")
    axes.set(xlabel="bits per pixel", ylabel="PSNR (dB)", xscale="log", title="validation")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(folder / "curve.png", dpi=120)
    plt.close(figure)
