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
