"""The codec in the Python backend of the Triton Inference Server: images to `.vaec` files and back.

`python -m export triton` copies this file as `model.py`, with a bundle beside it and a
`config.pbtxt` that says which of the two it is. It runs where the package vaecodec is installed,
and nothing else of this repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from vaecodec.codec import Codec
from vaecodec.errors import ExitCode, VaecodecError, described
from vaecodec.image import read_image
from vaecodec.rate import DEFAULT_QUALITY, level_of_quality

BUNDLE_FOLDER = "bundle"
"""The bundle's folder, beside this file."""
DIRECTION = "direction"
"""The parameter of the configuration that says "compress" or "decompress"."""
_CLIENTS_FAULT = frozenset({ExitCode.INPUT, ExitCode.LIMIT, ExitCode.USAGE})


class RequestError(VaecodecError):
    """A request asks for what the model does not do."""

    exit_code = ExitCode.USAGE


class TritonPythonModel:
    """What Triton makes one of for every instance of the model; it asks for this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle, and use it once: what is missing shows now, and no request waits.

        Args:
            args: what Triton tells of the model and the instance.
        """
        # Only the server's own Python has this module.
        self._server: Any = import_module("triton_python_backend_utils")
        folder = Path(__file__).resolve().parent / BUNDLE_FOLDER
        device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        self._codec = Codec(folder, device)
        directions: dict[str, Callable[[Any], Any]] = {
            "compress": self._compress,
            "decompress": self._decompress,
        }
        parameters = json.loads(args["model_config"])["parameters"]
        direction = parameters[DIRECTION]["string_value"]
        self._answer = directions[direction]
        blank = np.zeros((1, 1, 3), np.uint8)
        if direction == "compress":
            self._codec.encode(blank)
        else:
            self._codec.decode_raster(Codec(folder).encode(blank))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each for itself: what is wrong with one is no matter of the others."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Let go of the networks before the model is unloaded."""
        del self._answer, self._codec

    def _respond(self, request: Any) -> Any:
        """Return the response to a request, which is an error where it cannot be answered."""
        server = self._server
        if request.is_cancelled():
            error = server.TritonError("the request was cancelled", server.TritonError.CANCELLED)
            return server.InferenceResponse(error=error)
        try:
            return server.InferenceResponse(output_tensors=[self._answer(request)])
        except Exception as error:  # a bug that one image finds must not take the others along
            message, exit_code = described(error)
            is_clients = exit_code in _CLIENTS_FAULT
            code = server.TritonError.INVALID_ARG if is_clients else server.TritonError.INTERNAL
            return server.InferenceResponse(error=server.TritonError(message, code))

    def _compress(self, request: Any) -> Any:
        """Return VAEC ``(n,)``: the file of each of IMAGE ``(n,)``."""
        images: list[bytes] = self._input(request, "IMAGE").tolist()
        if not images:
            raise RequestError("IMAGE holds no image")
        files = np.empty(len(images), np.object_)
        for number, quality in enumerate(self._qualities(request, len(images))):
            try:
                files[number] = self._codec.encode(read_image(images[number]), quality=quality)
            except Exception as error:
                if len(images) > 1:  # the others of this request go with it: say which it was
                    error.add_note(f"image {number + 1} of {len(images)}")
                raise
        return self._server.Tensor("VAEC", files)

    def _decompress(self, request: Any) -> Any:
        """Return IMAGE ``(h, w, 1 to 4)`` uint8 of the one file in VAEC."""
        (file,) = self._input(request, "VAEC").tolist()
        samples = self._codec.decode_raster(file).read()
        if samples.dtype != np.uint8:
            raise RequestError("the image has 16 bits per sample, and IMAGE holds 8")
        return self._server.Tensor("IMAGE", np.ascontiguousarray(samples))

    def _qualities(self, request: Any, count: int) -> list[float]:
        """Return the quality of each image: one is given for all or each, or none."""
        given = self._input(request, "QUALITY")
        qualities: list[float] = [DEFAULT_QUALITY] if given is None else given.tolist()
        if len(qualities) not in (1, count):
            said = f"QUALITY holds {len(qualities)} numbers for {count} images"
            raise RequestError(f"{said}: give one for all, or one for each")
        try:
            for quality in qualities:
                level_of_quality(quality)
        except ValueError as error:
            raise RequestError(str(error)) from error
        return qualities if len(qualities) == count else qualities * count

    def _input(self, request: Any, name: str) -> Any:
        """Return an input as an array; None for an optional one that was left out.

        Triton refuses, before they come here, requests that lack another or have other shapes.
        """
        tensor = self._server.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()
