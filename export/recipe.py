"""A training recipe: everything but the data that decides what comes out of a run."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export.architecture import Architecture
from export.ssimulacra2 import LEAST_SIDE
from vaecodec.bundle import ANCHORS

_COUNTS = {
    "steps": 1,
    "warmup_steps": 0,
    "decay_steps": 0,
    "crop": 1,
    "batch": 1,
    "seed": 0,
    "validate_every": 1,
}
"""What a recipe counts, and from where."""
_RATES = (
    *("muon_rate", "adam_rate", "linear_rate", "table_rate", "weight_decay"),
    *("clip_norm", "ema_decay", "checkpoint_minutes"),
)


@dataclass(frozen=True)
class Training:
    """Hyperparameters of the optimisation.

    Attributes:
        steps: optimiser steps in all, the decay included.
        warmup_steps: steps over which the rates rise linearly from zero.
        decay_steps: steps at the end over which the rates fall linearly to zero. Between the two
            they stay constant, so a run can be taken up again from before its decay.
        crop: side of the training crops, pixels; a multiple of 64.
        batch: crops per step and process.
        inner_optimizer: what trains the inner dense convolutions: "muon" or "adamw".
        muon_rate: its learning rate (Muon's updates are scaled to AdamW's root mean square).
        adam_rate: learning rate of every other weight (AdamW).
        linear_rate: learning rate of the linear path, which starts near its goal.
        table_rate: learning rate of gains and the other tables over levels.
        weight_decay: decoupled decay of Muon's and Adam's weights, per unit of their rate.
        clip_norm: gradients are scaled down to this norm where theirs is larger.
        ema_decay: decay per step of the averaged weights, which are what is exported.
        autocast: "bfloat16" or "off". A processor without it is slower with it by far.
        levels: range of levels that are drawn, in anchors; the same twice trains one level alone.
        visual_share: share of the distortion that is how different images look (SSIMULACRA 2)
            instead of squared error, 0 to 1; crops are then of 128 pixels or more.
        visual_balance: what weighs the one against the other at each knot, for `Visual`. Measured
            at the start of a run, and kept in its checkpoint, where none is given.
        seed: fixes crops, levels, noise and initial weights.
        validate_every: steps between validations.
        checkpoint_minutes: minutes between checkpoints.
    """

    steps: int = 20000
    warmup_steps: int = 200
    decay_steps: int = 5000
    crop: int = 128
    batch: int = 16
    inner_optimizer: str = "muon"
    muon_rate: float = 2e-3
    adam_rate: float = 1e-3
    linear_rate: float = 2e-4
    table_rate: float = 5e-3
    weight_decay: float = 0.0
    clip_norm: float = 20.0
    ema_decay: float = 0.999
    autocast: str = "off"
    levels: tuple[float, float] = (0, ANCHORS - 1)
    visual_share: float = 0.0
    visual_balance: tuple[float, ...] = ()
    seed: int = 0
    validate_every: int = 1000
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
        for name in _RATES:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number from 0, not {value!r}")
        if self.crop % 64:
            raise ValueError(f"crop must be a multiple of 64, not {self.crop}")
        if self.autocast not in ("off", "bfloat16"):
            raise ValueError(f'autocast must be "off" or "bfloat16", not "{self.autocast}"')
        if self.inner_optimizer not in ("muon", "adamw"):
            known = '"muon" or "adamw"'
            raise ValueError(f'inner_optimizer must be {known}, not "{self.inner_optimizer}"')
        if len(self.levels) != 2 or not 0 <= self.levels[0] <= self.levels[1] <= ANCHORS - 1:
            raise ValueError(f"levels must be two anchors, 0 to {ANCHORS - 1}: {self.levels}")
        if not 0 <= self.visual_share <= 1:
            raise ValueError(f"visual_share must be from 0 to 1, not {self.visual_share}")
        if self.visual_share and self.crop < LEAST_SIDE:
            raise ValueError(f"visual_share needs crops of {LEAST_SIDE} pixels or more")
        if any(weight <= 0 for weight in self.visual_balance):
            raise ValueError(f"visual_balance must be above 0 everywhere: {self.visual_balance}")
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError("warmup_steps + decay_steps must not exceed steps")

    def rate_factor(self, step: int) -> float:
        """Return what multiplies the learning rates at a step: warm-up, stable, decay."""
        rising = (step + 1) / max(self.warmup_steps, 1)
        falling = (self.steps - step) / max(self.decay_steps, 1)
        return max(0.0, min(1.0, rising, falling))


@dataclass(frozen=True)
class DenoiserShape:
    """Sizes of what a denoiser has besides its autoencoder.

    Attributes:
        front: channels at 1/2, 1/4 and 1/8 of the network before the analysis.
        refine: channels of the network after the decoder.
        blocks: blocks of either at 1/2, 1/4, 1/8, and again at 1/4 and 1/2.
    """

    front: tuple[int, ...] = (32, 48, 128)
    refine: tuple[int, ...] = (48, 96, 192)
    blocks: tuple[int, ...] = (1, 1, 2, 1, 2)

    def __post_init__(self) -> None:
        for name, length in (("front", 3), ("refine", 3), ("blocks", 5)):
            sizes = tuple(getattr(self, name))
            if len(sizes) != length or min(sizes) < 1:
                raise ValueError(f"{name} must be {length} whole numbers from 1, not {sizes}")
            object.__setattr__(self, name, sizes)


@dataclass(frozen=True)
class Pictures:
    """What the training crops show. By default, all images are as likely, and their colours stay.

    Attributes:
        shares: share of the crops that are taken from a source, by the name of its file or folder.
            The other sources share what is left, in proportion to their images.
        drawn: share of the crops that a program draws; see `export.graphics`.
        grey: share of the crops, of any origin, that are turned grey.
        permuted: share of the crops whose colour channels change places.
        saturated: share of the crops whose saturation is multiplied by a random factor.
        hold_back: whether the photographs of `recipes/held-back.txt` are left out.
    """

    shares: dict[str, float] = field(default_factory=dict)
    drawn: float = 0.0
    grey: float = 0.0
    permuted: float = 0.0
    saturated: float = 0.0
    hold_back: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.shares, dict):
            raise ValueError(f"shares must be a table of names and shares, not {self.shares!r}")
        named = {name: getattr(self, name) for name in ("drawn", "grey", "permuted", "saturated")}
        named |= {f"the share of {name}": share for name, share in self.shares.items()}
        for name, share in named.items():
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not number or not 0 <= share <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, not {share!r}")
        total = math.fsum([self.drawn, *self.shares.values()])
        if total > 1 + 1e-9:
            raise ValueError(f"shares and drawn must not exceed 1 together: {total:g}")
        if not isinstance(self.hold_back, bool):
            raise ValueError(f"hold_back must be true or false, not {self.hold_back!r}")
        object.__setattr__(self, "shares", dict(self.shares))


@dataclass(frozen=True)
class Recipe:
    """What to train and how: an autoencoder, or a denoiser for one that is given."""

    model: Architecture = field(default_factory=Architecture)
    training: Training = field(default_factory=Training)
    denoiser: DenoiserShape | None = None
    pictures: Pictures = field(default_factory=Pictures)

    def __post_init__(self) -> None:
        if self.denoiser is not None and self.training.batch < 2:
            raise ValueError("a denoiser is trained on batches of 2 or more: some crops are coded")

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> Recipe:
        """Build from the tables ``model``, ``training``, ``denoiser`` and ``pictures``.

        Raises:
            ValueError: an unknown table or key, or a value that does not fit.
        """
        unknown = set(tables) - {"model", "training", "denoiser", "pictures"}
        if unknown:
            raise ValueError(f"unknown tables in the recipe: {', '.join(sorted(unknown))}")
        try:
            model = Architecture(**tables.get("model", {}))
            sizes = tables.get("denoiser")
            denoiser = None if sizes is None else DenoiserShape(**sizes)
            pictures = Pictures(**tables.get("pictures", {}))
            return cls(model, Training(**tables.get("training", {})), denoiser, pictures)
        except TypeError as error:
            raise ValueError(f"the recipe does not fit: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a TOML file; see `from_dict`."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # of TOML, or of UTF-8
            raise ValueError(f"the recipe {path} cannot be read: {error}") from error
        return cls.from_dict(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return asdict(self)
