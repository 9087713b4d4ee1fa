"""A training step as one CUDA graph.

Its thousands of launches take longer than what they launch; replayed, they are one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Calls that are carried out as they are: optimisers make their state, cuDNN chooses algorithms."""

Tensors = dict[str, Tensor]


class Captured:
    """A function of tensors on a GPU that is recorded once and replayed from then on.

    Args:
        function: always given tensors of the same shapes; it must not wait for the device. What it
            changes (weights, the state of optimisers), it changes in place. No other thread may
            use the device in the call that records it, the one after `WARM_UP`.
    """

    def __init__(self, function: Callable[[Tensors], Tensors]) -> None:
        self._function = function
        self._calls = 0
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()
        self._inputs: Tensors = {}
        self._outputs: Tensors = {}
        self._done: list[torch.cuda.Event] = []

    def __call__(self, inputs: Tensors) -> Tensors:
        """Return the function's outputs, which the device may yet have to compute."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._on_stream(inputs)
        if self._calls == WARM_UP + 1:
            self._record(inputs)
        for name, held in self._inputs.items():
            held.copy_(inputs[name])
        self._graph.replay()
        outputs = {name: value.clone() for name, value in self._outputs.items()}
        self._stay_near()
        return outputs

    def _on_stream(self, inputs: Tensors) -> Tensors:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._function(inputs)
        current.wait_stream(self._stream)
        return outputs

    def _record(self, inputs: Tensors) -> None:
        self._inputs = {name: value.clone() for name, value in inputs.items()}
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph):
            self._outputs = self._function(self._inputs)

    def _stay_near(self) -> None:
        """Wait for the call before the last: inputs of calls to come would fill the memory."""
        event = torch.cuda.Event()
        event.record()
        self._done.append(event)
        if len(self._done) > 2:
            self._done.pop(0).synchronize()
