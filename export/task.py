"""What a run trains: an autoencoder, or a denoiser for one. The loop is `export.train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

Network = Callable[..., dict[str, Tensor]]
"""A model's forward pass as the loop wraps it: autocast, and gradients shared by processes."""


class Task(Protocol):
    """An objective, and how a model is judged."""

    validation_fields: tuple[str, ...]
    """Columns of validation.csv after the step."""

    def objective(
        self, network: Network, x: Tensor, anchor: Tensor, seed: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, and what the log tells of it.

        Args:
            network: the model's forward pass.
            x: ``(n, 3, h, w)`` float32 in [0, 1].
            anchor: levels ``(n,)``.
            seed: for what is random; torch's own generator is seeded already.
        """
        ...

    def validate(self, model: nn.Module) -> list[list[float | str]]:
        """Return the rows of validation.csv for the averaged weights."""
        ...

    def plot(self, validation: Path, target: Path) -> None:
        """Draw validation.csv."""
        ...
