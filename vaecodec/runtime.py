"""ONNX Runtime: sessions on a device, loaded only when a network is needed."""

from __future__ import annotations

import ctypes
import io
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.errors import InsufficientMemoryError, ModelError, RuntimeUnavailableError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DEVICES = tuple(PROVIDERS)
_OPTIONS = {
    "cpu": {},
    # By default every algorithm is timed for every new shape, which takes longer than an image, and
    # memory is taken in doubling blocks, which several processes on one GPU have no room for.
    "cuda": {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    },
}

Tensor = NDArray[Any]
Expected = tuple[type[np.generic], tuple[int | None, ...]]
"""Type and shape of an output; a side that is None may be any."""

# How a tensor names a file that holds its values: a key of 8 bytes, its length spelt in any way.
_ELSEWHERE = re.compile(rb"[\x00\x08]location")
_OUT_OF_MEMORY = re.compile("bad_alloc|[Ff]ailed to allocate|out of memory|ALLOC_FAILED|cudaMalloc")


class Network:
    """One ONNX graph, ready to run."""

    def __init__(self, model: bytes, device: str = "cpu", threads: int | None = None) -> None:
        """Load a graph.

        Args:
            model: the bytes of an `.onnx` file.
            device: "cpu" or "cuda".
            threads: threads of one operator; None leaves it to ONNX Runtime (every core).

        Raises:
            RuntimeUnavailableError: ONNX Runtime or the device is missing.
            ModelError: the graph is not valid.
        """
        ort = load_onnxruntime(device)
        if _ELSEWHERE.search(model):  # which ONNX Runtime would look for in the working directory
            raise ModelError("a graph of the bundle keeps data outside of its file")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # Sessions run one after the other: one arena for all, whose pages stay mapped, makes them
        # a quarter faster than none, at half the peak. A plan of what each shape needs would set
        # aside as much again.
        _share_arena(ort)
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that spin while they wait take cores from whatever else runs: beside two busy
        # processes on two cores, an encoding took ten times as long; alone, a third longer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            providers = [(PROVIDERS[device], _OPTIONS[device])]
            session = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot load a graph of the bundle: {error}") from error
        if session.get_providers()[0] != PROVIDERS[device]:
            raise RuntimeUnavailableError(
                f"the device {device} was asked for, and ONNX Runtime cannot use it",
                "pip install 'vaecodec[cuda]'",
            )
        self._session = session
        self._inputs: set[str] = {value.name for value in session.get_inputs()}
        self._outputs: list[str] = [value.name for value in session.get_outputs()]
        self._bound_to = device if device != "cpu" else None

    def __call__(
        self,
        inputs: Mapping[str, Tensor],
        *expected: Expected,
        finite: bool = True,
        out: Tensor | None = None,
    ) -> list[Tensor]:
        """Run the graph, and hold what it gives to what it should.

        Args:
            inputs: arrays by name; those that the graph does not take are passed over.
            expected: type and shape of each output.
            finite: whether infinities and NaN are refused, too.
            out: where the only output goes, of the expected type and shape; elsewhere than on a
                CPU it is not used.

        Raises:
            ModelError: the graph fails, or gives something else.
        """
        fed = {name: value for name, value in inputs.items() if name in self._inputs}
        try:
            outputs = self._run(fed, out)
        except Exception as error:  # whose classes are private to ONNX Runtime
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError from error
            raise ModelError(f"a graph of the bundle failed: {error}") from error
        _check_outputs(outputs, expected, finite=finite)
        return outputs

    def _run(self, inputs: Mapping[str, Tensor], out: Tensor | None) -> list[Tensor]:
        """Return the outputs, each copied once to the device or from it."""
        if self._bound_to is None and out is None:
            return self._session.run(None, inputs)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        if self._bound_to is None and out is not None:
            (name,) = self._outputs
            binding.bind_output(name, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)
            return [out]
        for name in self._outputs:
            binding.bind_output(name, self._bound_to)
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()


@contextmanager
def memory_errors() -> Generator[None]:
    """Turn a failed allocation inside into an error of this package.

    Raises:
        InsufficientMemoryError: instead of MemoryError.
    """
    try:
        yield
    except InsufficientMemoryError:
        raise
    except MemoryError as error:
        raise InsufficientMemoryError(
            "this machine has not enough memory for an image of this size"
        ) from error


def _check_outputs(outputs: list[Any], expected: tuple[Expected, ...], *, finite: bool) -> None:
    if len(outputs) != len(expected):
        raise ModelError(f"a graph of the bundle has {len(outputs)} outputs, not {len(expected)}")
    for output, (kind, shape) in zip(outputs, expected, strict=True):
        found: tuple[int, ...] = getattr(output, "shape", ())  # which lists have not
        fits = len(found) == len(shape) and all(
            wanted in (None, side) for side, wanted in zip(found, shape, strict=True)
        )
        if not fits or getattr(output, "dtype", None) != kind:
            raise ModelError("a graph of the bundle gives another type or shape than it should")
        if finite and not np.isfinite(output).all():
            raise ModelError("a graph of the bundle gives infinities, or what is no number")


def scalar_inputs(level: int) -> dict[str, Tensor]:
    """Return the graphs' inputs that tell the level (0 to 63 * 256)."""
    return {
        "level": np.array(level / 256, np.float32),
        "anchor": np.array(nearest_anchor(level), np.int64),
    }


def nearest_anchor(level: int) -> int:
    """Return the anchor whose prior tables serve a level; halves go up."""
    return (level + 128) >> 8


def load_onnxruntime(device: str) -> Any:
    """Return the module onnxruntime, which supports a device.

    Raises:
        RuntimeUnavailableError: it does not, or is missing, or there are two of it.
        ValueError: no device has that name.
    """
    if device not in PROVIDERS:
        known = ", ".join(DEVICES)
        raise ValueError(f"no device is called {device!r} (known: {known})")
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        raise RuntimeUnavailableError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other",
            f"pip uninstall onnxruntime onnxruntime-gpu && pip install 'vaecodec[{device}]'",
        )
    try:
        ort: Any = import_module("onnxruntime")  # which has no complete type stubs
    except ImportError as error:
        raise RuntimeUnavailableError(
            "ONNX Runtime is not installed", f"pip install 'vaecodec[{device}]'"
        ) from error
    if PROVIDERS[device] not in ort.get_available_providers():
        raise RuntimeUnavailableError(
            f"the installed ONNX Runtime has no support for the device {device}",
            f"pip uninstall onnxruntime && pip install 'vaecodec[{device}]'",
        )
    if device == "cuda":
        _prepare_cuda(ort)
    return ort


@cache
def _prepare_cuda(ort: Any) -> None:
    """Load the libraries of CUDA that pip installed, which the system's loader does not find.

    Raises:
        RuntimeUnavailableError: there is no driver, which pip does not install.
    """
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"the device cuda was asked for, and NVIDIA's driver is not installed: no {driver}"
        ) from error
    # What does not load is said by the session that does not start, and in one line.
    ort.set_default_logger_severity(4)
    with redirect_stdout(io.StringIO()):  # where it prints, and where data may go
        ort.preload_dlls()


@cache
def _share_arena(ort: Any) -> None:
    """Set up the memory that all sessions of this process share."""
    kind, place = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    # Another package may have set up one before us, which serves as well: this does nothing then.
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, place), None)


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
