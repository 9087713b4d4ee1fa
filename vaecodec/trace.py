"""What an encoding or decoding cost, for those who measure."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Trace:
    """Times and sizes of one encoding or decoding.

    Attributes:
        seconds: by stage: "image", "analysis", "prior", "entropy", "synthesis", "alpha",
            "container", "refinement"; and what its user adds.
        estimates: whether an encoding is to estimate its rate, which takes time.
        estimated_bits: the model's own estimate of the latents' rate.
    """

    estimates: bool = True
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    estimated_bits: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count a part of one stage's time under another."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds
