"""A bundle as a model repository of the Triton Inference Server.

    NAME_encoder     x, level -> y                       encoder.onnx, in Triton's ONNX Runtime
    NAME_decoder     y_hat, level -> x_hat               decoder.onnx, in the same
    NAME_compress    IMAGE (files), QUALITY? -> VAEC     the codec, in Triton's Python backend
    NAME_decompress  VAEC (one file) -> IMAGE (h, w, c)  the same

The first two are the transforms alone, for who wants latents; the last two make and read files.
Each folder holds all that its model needs, but for the package vaecodec in the server's Python.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto

from export import triton_codec
from export.folders import put_in_place
from export.triton_codec import BUNDLE_FOLDER, DIRECTION
from vaecodec.bundle import CARD, MANIFEST, Bundle, find_bundle

CONFIG = "config.pbtxt"
VERSION = "1"
TRANSFORMS = ("encoder", "decoder")
"""Graphs that are served as they are."""
INSTANCES = {"cpu": "kind: KIND_CPU", "cuda": "kind: KIND_GPU gpus: [ 0 ]"}
"""Where an instance of a model runs. Without a number of a GPU there would be one on each, and the
codec knows but the first."""
_MARK = "# Written by `python -m export triton`, which may replace this model."
_TYPES: dict[int, str] = {TensorProto.FLOAT: "TYPE_FP32"}
_ANY = -1
# Triton takes a model's name from an address, and the command line from a folder's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model, as Triton declares it.

    Attributes:
        name: as requests call it.
        data_type: one of Triton's, as in TYPE_FP32.
        dims: the shape; -1 is any length.
        optional: whether a request may leave it out.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


CODEC_TENSORS = {
    "compress": (
        (Tensor("IMAGE", "TYPE_STRING", (_ANY,)), Tensor("QUALITY", "TYPE_FP32", (_ANY,), True)),
        (Tensor("VAEC", "TYPE_STRING", (_ANY,)),),
    ),
    "decompress": (
        (Tensor("VAEC", "TYPE_STRING", (1,)),),
        (Tensor("IMAGE", "TYPE_UINT8", (_ANY, _ANY, _ANY)),),
    ),
}
"""Inputs and outputs of the two directions of the codec."""


def write_repository(source: Path, repository: Path, device: str = "cpu") -> list[str]:
    """Write the models of a bundle into a model repository, which may hold others.

    Args:
        source: folder of the bundle.
        repository: made beside its place and then moved there; where there is a repository
            already, the models are moved into it one by one, in place of what was written before.
        device: "cpu", or "cuda" for the first GPU.

    Returns:
        The names of the models.

    Raises:
        ValueError: the folder is no model repository, or a model in it is somebody else's; the
            bundle's name or graphs are none that Triton can serve; the device is unknown.
        ModelError: the bundle is missing or damaged.
        OSError: the folder cannot be written.
    """
    if device not in INSTANCES:
        raise ValueError(f"no device is called {device} (known: {', '.join(INSTANCES)})")
    bundle = find_bundle(source)
    if not _NAME.fullmatch(bundle.name):
        raise ValueError(f"the bundle's name, {bundle.name!r}, cannot be in that of a Triton model")
    models = [f"{bundle.name}_{part}" for part in (*TRANSFORMS, *CODEC_TENSORS)]
    repository = repository.resolve()
    _check_place(repository, models)
    repository.parent.mkdir(parents=True, exist_ok=True)
    # Not inside the repository, where a server that looks for changes would take it for a model.
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".triton-") as beside:
        made, replaced = Path(beside, "made"), Path(beside, "replaced")
        replaced.mkdir()
        _write_models(bundle, made, INSTANCES[device])
        if repository.exists():
            for model in models:
                put_in_place(made / model, repository / model, replaced / model)
        else:
            made.rename(repository)
    return models


def config_text(
    name: str,
    implementation: str,
    tensors: tuple[Iterable[Tensor], Iterable[Tensor]],
    instance: str,
    parameters: dict[str, str] | None = None,
) -> str:
    """Return a model's configuration in the text format of protocol buffers.

    Args:
        name: of the model and its folder.
        implementation: the field that says what runs it.
        tensors: inputs and outputs.
        instance: where it runs, a value of `INSTANCES`.
        parameters: what the model reads of its configuration.
    """
    inputs, outputs = tensors
    lines = [
        _MARK,
        f'name: "{name}"',
        implementation,
        # Triton would add a first axis to every tensor: a scalar has none, and images differ.
        "max_batch_size: 0",
        *_tensor_lines("input", inputs),
        *_tensor_lines("output", outputs),
        f"instance_group [ {{ count: 1 {instance} }} ]",
    ]
    for key, value in (parameters or {}).items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}')
    return "\n".join(lines) + "\n"


def graph_tensors(graph: bytes) -> tuple[list[Tensor], list[Tensor]]:
    """Return inputs and outputs of an ONNX graph, as Triton's ONNX Runtime wants them declared.

    Raises:
        ValueError: it is no graph, or has a tensor that is not of float32.
    """
    try:
        parsed = onnx.load_from_string(graph).graph
    except Exception as error:  # whose class is private to protobuf
        raise ValueError(f"a graph of the bundle cannot be read: {error}") from error
    return [_declared(value) for value in parsed.input], [
        _declared(value) for value in parsed.output
    ]


def _declared(value: ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        raise ValueError(f"the tensor {value.name} of a graph of the bundle is not of float32")
    dims = tuple(dim.dim_value or _ANY for dim in tensor.shape.dim)
    # Triton refuses a shape without axes, and without batches also a reshaping to none. Its ONNX
    # Runtime makes a scalar of the one number that [1] holds.
    return Tensor(value.name, _TYPES[tensor.elem_type], dims or (1,))


def _tensor_lines(field: str, tensors: Iterable[Tensor]) -> Iterator[str]:
    for tensor in tensors:
        yield f"{field} {{"
        yield f'  name: "{tensor.name}"'
        yield f"  data_type: {tensor.data_type}"
        yield f"  dims: [ {', '.join(map(str, tensor.dims))} ]"
        if tensor.optional:
            yield "  optional: true"
        yield "}"


def _write_models(bundle: Bundle, folder: Path, instance: str) -> None:
    """Write the models of a bundle into a new folder."""
    for part in TRANSFORMS:
        _write_transform(bundle, part, folder, instance)
    for direction in CODEC_TENSORS:
        _write_codec(bundle, direction, folder, instance)


def _write_transform(bundle: Bundle, part: str, models: Path, instance: str) -> None:
    name, graph = f"{bundle.name}_{part}", bundle.read(f"{part}.onnx")
    implementation = 'platform: "onnxruntime_onnx"'
    config = config_text(name, implementation, graph_tensors(graph), instance)
    (_new_model(models / name, config) / "model.onnx").write_bytes(graph)


def _write_codec(bundle: Bundle, direction: str, models: Path, instance: str) -> None:
    name, tensors = f"{bundle.name}_{direction}", CODEC_TENSORS[direction]
    config = config_text(name, 'backend: "python"', tensors, instance, {DIRECTION: direction})
    version = _new_model(models / name, config)
    shutil.copyfile(triton_codec.__file__, version / "model.py")
    copy = version / BUNDLE_FOLDER
    copy.mkdir()
    for file in bundle.files:
        if Path(file).name != file:  # which would lead out of the folder
            raise ValueError(f"the bundle names a file {file!r}, which is no plain name")
        (copy / file).write_bytes(bundle.read(file))  # which holds each to the manifest's hash
    for file in (MANIFEST, CARD):
        if (bundle.path / file).exists():
            shutil.copyfile(bundle.path / file, copy / file)


def _new_model(folder: Path, config: str) -> Path:
    """Make a model's folder and return that of its version."""
    version = folder / VERSION
    version.mkdir(parents=True)
    (folder / CONFIG).write_text(config, encoding="utf-8")
    return version


def _check_place(repository: Path, models: list[str]) -> None:
    """Refuse a folder that this command has no business in.

    Raises:
        ValueError: it is one.
    """
    if not repository.exists():
        return
    if not repository.is_dir():
        raise ValueError(f"{repository} is no folder")
    if any(repository.iterdir()) and not any(repository.glob(f"*/{CONFIG}")):
        raise ValueError(f"{repository} is not empty and not a model repository: name another")
    for model in models:
        place = repository / model
        if place.is_symlink() or (place.exists() and not _is_ours(place)):
            raise ValueError(f"{place} was not written by this command: name another repository")


def _is_ours(model: Path) -> bool:
    config = model / CONFIG
    return config.is_file() and config.read_bytes().startswith(_MARK.encode())
