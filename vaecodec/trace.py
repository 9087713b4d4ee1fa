"""What an encoding or decoding cost, and how far it is, for those who measure or wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

Progress = Callable[[int, int], None]
"""Called with the steps done, and with the steps that there are as far as is known by then."""
Step = TypeVar("Step")


@dataclass
class Trace:
    """Times and sizes of one encoding or decoding.

    Attributes:
        seconds: by stage: "image", "analysis", "prior", "entropy", "synthesis", "alpha",
            "container", "refinement"; and what its user adds.
        estimates: whether an encoding is to estimate its rate, which takes time.
        estimated_bits: the model's own estimate of the latents' rate.
        progress: told of every tile that is done.
    """

    estimates: bool = True
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    estimated_bits: float = 0.0
    progress: Progress | None = None
    _done: int = field(default=0, init=False)
    _known: int = field(default=0, init=False)

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

    def steps(self, of: Sequence[Step]) -> Iterator[Step]:
        """Return steps to take, known from now on; one is done when the next is asked for."""
        self._known += len(of)
        return self._taken(of)

    def _taken(self, of: Sequence[Step]) -> Iterator[Step]:
        for step in of:
            yield step
            self._done += 1
            if self.progress:
                self.progress(self._done, self._known)
