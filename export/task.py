"""What a run trains: an autoencoder, or a denoiser for one. The loop is `export.train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

Network = Callable[..., dict[str, Tensor]]
"""A model's forward pass as the loop wraps it: autocast, and gradients shared by processes."""
Batch = dict[str, Tensor]
"""What a step takes: images ``x``, levels ``anchor``, and what a task adds to them."""


class Task(Protocol):
    """An objective, and how a model is judged."""

    validation_fields: tuple[str, ...]
    """Columns of validation.csv after the step."""

    def prepare(self, x: Tensor, generator: torch.Generator) -> Batch:
        """Return what `objective` sees of images, besides their levels.

        This runs while the step before is computed, and may wait for the device.

        Args:
            x: ``(n, 3, h, w)`` float32 in [0, 1].
            generator: on the same device, for what is random.
        """
        ...

    def objective(self, network: Network, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and what the log tells of it, without waiting for the device.

        Args:
            network: the model's forward pass.
            batch: what `prepare` gave, and ``anchor``, levels ``(n,)``.
        """
        ...

    def validate(self, model: nn.Module) -> list[list[float | str]]:
        """Return the rows of validation.csv for the averaged weights."""
        ...

    def plot(self, validation: Path, target: Path) -> None:
        """Draw validation.csv."""
        ...
