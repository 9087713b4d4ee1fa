"""What of the Triton Inference Server its Python models see, for tests: it has no package.

Made after the server's documentation of its Python backend: `triton_python_backend_utils`, and how
a model is loaded and asked. What is sent and what comes back is held to the configuration.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from export.triton import CONFIG

NUMPY_TYPES = {"TYPE_FP32": np.float32, "TYPE_STRING": np.object_, "TYPE_UINT8": np.uint8}


class Tensor:
    """As in the server: arrays of str are refused, and bytes come as objects."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        assert array.dtype.kind not in "USV", "the server takes no such type"
        assert array.flags.c_contiguous, "the server copies the buffer as it is"
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError:
    INTERNAL, INVALID_ARG, CANCELLED = 2, 4, 8

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class InferenceRequest:
    def __init__(self, inputs: list[Tensor], *, cancelled: bool = False) -> None:
        self._inputs, self._cancelled = inputs, cancelled

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def is_cancelled(self) -> bool:
        return self._cancelled


class InferenceResponse:
    def __init__(
        self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None
    ) -> None:
        self._tensors, self._error = output_tensors or [], error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def configuration(model: Path) -> Any:
    """Return what a configuration says, by the schema that Triton publishes."""
    text = (model / CONFIG).read_text("utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def data_type(tensor: Any) -> str:
    return model_config_pb2.DataType.Name(tensor.data_type)


class Server:
    """Loads a Python model as Triton does, and holds its tensors to its configuration."""

    def __init__(self, model: Path, kind: str = "CPU") -> None:
        self.config = configuration(model)
        path = model / "1" / "model.py"
        spec = importlib.util.spec_from_file_location(f"{model.name}_model", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model = module.TritonPythonModel()
        self.model.initialize(
            {
                "model_config": json.dumps(
                    json_format.MessageToDict(self.config, preserving_proto_field_name=True)
                ),
                "model_instance_kind": kind,
                "model_instance_device_id": "0",
                "model_repository": str(model),
                "model_version": "1",
                "model_name": model.name,
            }
        )

    def answer(self, *requests: InferenceRequest) -> list[InferenceResponse]:
        for request in requests:
            required = {one.name for one in self.config.input if not one.optional}
            assert required <= {tensor.name() for tensor in request.inputs()}
            check_tensors(request.inputs(), self.config.input)
        responses = self.model.execute(list(requests))
        assert len(responses) == len(requests)
        for response in responses:
            if not response.has_error():
                assert len(response.output_tensors()) == len(self.config.output)
                check_tensors(response.output_tensors(), self.config.output)
        return responses


def check_tensors(tensors: list[Tensor], declared: Any) -> None:
    by_name = {one.name: one for one in declared}
    for tensor in tensors:
        one, array = by_name[tensor.name()], tensor.as_numpy()
        assert array.dtype == NUMPY_TYPES[data_type(one)]
        assert len(array.shape) == len(one.dims)
        assert all(dim in (-1, side) for dim, side in zip(one.dims, array.shape, strict=True))
        if array.dtype == np.object_:
            assert all(type(element) is bytes for element in array.flat)


def server_module() -> ModuleType:
    """Return the module that models import in the server's Python, and nowhere else."""
    module = ModuleType("triton_python_backend_utils")
    for one in (Tensor, TritonError, InferenceRequest, InferenceResponse, get_input_tensor_by_name):
        setattr(module, one.__name__, one)
    return module
