"""Training of the autoencoder as a task: rate and distortion at every level."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor, nn

from export.log import save_plot
from export.measure import measure
from export.model import Model
from export.objective import Visual, loss, rate_distortion
from export.recipe import Training
from export.task import Batch, Network

VALIDATION_ANCHORS = (0, 12, 24, 36, 48, 63)
VALIDATION_BATCH = 8


class Autoencoding:
    """See `export.task.Task`."""

    validation_fields: tuple[str, ...] = ("anchor", "bpp", "psnr_db", "ssimulacra2")

    def __init__(self, model: Model, held_out: Tensor, training: Training) -> None:
        self.arch, self.held_out = model.arch, held_out
        share = training.visual_share
        self.visual = Visual(share, training.visual_balance) if share else None

    def prepare(self, x: Tensor, generator: torch.Generator) -> Batch:
        """Return the images."""
        return {"x": x}

    def objective(self, network: Network, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted mean of rate and distortion."""
        x, anchor = batch["x"], batch["anchor"]
        visual = self.visual is not None
        measured = rate_distortion(network(x, anchor), x, hard=False, visual=visual)
        psnr = 10 * torch.log10(255**2 / measured.mse.detach())
        means = {"bpp": measured.bpp.detach().mean(), "psnr_db": psnr.mean()}
        if measured.distance is not None:
            means["distance"] = measured.distance.detach().mean()
        return loss(self.arch, measured, anchor, self.visual), means

    def validate(self, model: nn.Module) -> list[list[float | str]]:
        """Measure some levels, on hard symbols."""
        if not isinstance(model, Model):
            raise TypeError(f"a {type(model).__name__} is no autoencoder")
        rows: list[list[float | str]] = []
        for level in VALIDATION_ANCHORS:
            found = measure(model, self.held_out.split(VALIDATION_BATCH), float(level))
            rows.append([level, *(round(value, 4) for value in found)])
        return rows

    def plot(self, validation: Path, target: Path) -> None:
        """Draw the curves of the first, the middle and the last validation."""
        with validation.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        steps = sorted({int(row["step"]) for row in rows})
        curves = {
            f"step {step:,}": [
                (float(row["bpp"]), float(row["psnr_db"]))
                for row in rows
                if int(row["step"]) == step
            ]
            for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]})
        }
        save_plot(curves, target, x="bits per pixel", y="PSNR (dB)", logarithmic=True)
