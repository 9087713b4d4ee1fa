"""The model repository for Triton, its Python models run by the server of `triton_server`."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from support import SAMPLES
from triton_server import (
    InferenceRequest,
    InferenceResponse,
    Server,
    Tensor,
    TritonError,
    configuration,
    data_type,
    server_module,
)
from tritonclient.grpc import model_config_pb2

from export.__main__ import main
from export.triton import CONFIG, graph_tensors, write_repository
from vaecodec.bundle import MANIFEST
from vaecodec.codec import Codec
from vaecodec.image import read_image

MODELS = ["tiny_encoder", "tiny_decoder", "tiny_compress", "tiny_decompress"]
ONNX_TYPES = {"TYPE_FP32": "tensor(float)"}


def files(name: str, *content: bytes) -> Tensor:
    return Tensor(name, np.array(content, np.object_))


def only(response: InferenceResponse) -> np.ndarray:
    error = response.error()
    assert error is None, error.message()
    (tensor,) = response.output_tensors()
    return tensor.as_numpy()


def refusal(response: InferenceResponse) -> tuple[str, int]:
    error = response.error()
    assert error is not None
    assert "\n" not in error.message()
    return error.message(), error.code()


def image_file(pixels: np.ndarray, suffix: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, suffix)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _server_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", server_module())


@pytest.fixture(scope="module")
def repository(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    assert write_repository(tiny_bundle, folder) == MODELS
    return folder


@pytest.fixture(scope="module")
def codec(tiny_bundle: Path) -> Codec:
    return Codec(tiny_bundle)


@pytest.fixture(scope="module")
def png() -> bytes:
    with Image.open(SAMPLES / "astronaut-sign.jpg") as image:
        return image_file(np.asarray(image.crop((0, 0, 61, 45))))


@pytest.fixture
def compressor(repository: Path) -> Iterator[Server]:
    server = Server(repository / "tiny_compress")
    yield server
    server.model.finalize()


@pytest.fixture
def decompressor(repository: Path) -> Iterator[Server]:
    server = Server(repository / "tiny_decompress")
    yield server
    server.model.finalize()


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_keeps_to_the_published_schema(repository: Path, name: str):
    config = configuration(repository / name)
    assert (config.name, config.max_batch_size) == (name, 0)
    runs_python = name.endswith("compress")
    assert config.backend == ("python" if runs_python else "")
    assert config.platform == ("" if runs_python else "onnxruntime_onnx")
    (group,) = config.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    for tensor in (*config.input, *config.output):
        # What Triton refuses where there are no batches.
        assert len(tensor.dims) > 0
        assert not tensor.HasField("reshape")


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_transform_is_declared_as_the_graph_has_it(
    repository: Path, tiny_bundle: Path, part: str
):
    model = repository / f"tiny_{part}"
    graph = model / "1" / "model.onnx"
    assert graph.read_bytes() == (tiny_bundle / f"{part}.onnx").read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    config = configuration(model)
    pairs = ((session.get_inputs(), config.input), (session.get_outputs(), config.output))
    for found, declared in pairs:
        assert [one.name for one in found] == [one.name for one in declared]
        for one, tensor in zip(found, declared, strict=True):
            assert one.type == ONNX_TYPES[data_type(tensor)]
            sides = [side if isinstance(side, int) else -1 for side in one.shape]
            assert list(tensor.dims) == (sides or [1])  # a scalar is declared as one number
    assert [len(one.shape) for one in session.get_inputs()] == [4, 0]


def test_each_image_of_each_request_is_what_the_codec_makes_of_it(
    compressor: Server, codec: Codec, png: bytes
):
    jpeg = image_file(np.full((20, 33), 90, np.uint8), "JPEG")
    one = InferenceRequest([files("IMAGE", png)])
    two = InferenceRequest([files("IMAGE", png, jpeg), quality(80)])
    each = InferenceRequest([files("IMAGE", png, jpeg), quality(0, 100)])
    answers = [only(response).tolist() for response in compressor.answer(one, two, each)]
    assert answers == [
        [codec.encode(read_image(png))],
        [codec.encode(read_image(file), quality=80) for file in (png, jpeg)],
        [codec.encode(read_image(png), quality=0), codec.encode(read_image(jpeg), quality=100)],
    ]


def quality(*values: float) -> Tensor:
    return Tensor("QUALITY", np.array(values, np.float32))


def test_the_image_is_the_codecs(decompressor: Server, codec: Codec, png: bytes):
    grey = codec.encode(np.full((20, 33), 90, np.uint8))
    data = codec.encode(read_image(png))
    requests = [InferenceRequest([files("VAEC", file)]) for file in (data, grey)]
    colour, plain = map(only, decompressor.answer(*requests))
    assert colour.shape == (45, 61, 3)
    np.testing.assert_array_equal(colour, codec.decode_raster(data).read())
    np.testing.assert_array_equal(plain, codec.decode_raster(grey).read())


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([files("IMAGE", b"no image")], "not an image"),
        ([files("IMAGE")], "no image"),
        ([files("IMAGE", b"\x89PNG\r\n\x1a\n")], "damaged"),
        ([files("IMAGE", b"a", b"b"), quality(1, 2, 3)], "3 numbers for 2 images"),
        ([files("IMAGE", b"a"), quality(101)], "quality 101 is not in 0 to 100"),
        ([files("IMAGE", b"a"), quality(float("nan"))], "quality nan"),
    ],
)
def test_a_bad_request_fails_alone(compressor: Server, png: bytes, inputs: list[Tensor], said: str):
    good = InferenceRequest([files("IMAGE", png)])
    before, bad, after = compressor.answer(good, InferenceRequest(inputs), good)
    message, code = refusal(bad)
    assert said in message
    assert code == TritonError.INVALID_ARG
    assert only(before).tolist() == only(after).tolist()


def test_the_bad_image_of_several_is_named(compressor: Server, png: bytes):
    (response,) = compressor.answer(InferenceRequest([files("IMAGE", png, b"no image")]))
    assert refusal(response)[0].startswith("image 2 of 2: ")


def test_a_damaged_file_fails_alone(decompressor: Server, codec: Codec, png: bytes):
    data = codec.encode(read_image(png))
    damaged = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    deep = codec.encode(np.full((9, 9), 40_000, np.uint16))
    requests = [InferenceRequest([files("VAEC", file)]) for file in (damaged, deep, png, data)]
    *bad, good = decompressor.answer(*requests)
    assert [code for _, code in map(refusal, bad)] == [TritonError.INVALID_ARG] * 3
    assert "16 bits" in refusal(bad[1])[0]
    np.testing.assert_array_equal(only(good), codec.decode_raster(data).read())


def test_a_bug_and_a_cancelled_request_fail_alone(
    compressor: Server, png: bytes, monkeypatch: pytest.MonkeyPatch
):
    real = compressor.model._codec.encode
    outcomes = iter([ZeroDivisionError("what nobody\nthought of"), None])

    def encode(image: Any, **options: Any) -> bytes:
        if error := next(outcomes):
            raise error
        return real(image, **options)

    monkeypatch.setattr(compressor.model._codec, "encode", encode)
    image = files("IMAGE", png)
    requests = (
        InferenceRequest([image], cancelled=cancelled) for cancelled in (True, False, False)
    )
    cancelled, bug, good = compressor.answer(*requests)
    assert refusal(cancelled)[1] == TritonError.CANCELLED
    message, code = refusal(bug)
    assert "bug" in message
    assert code == TritonError.INTERNAL
    assert only(good).tolist() == [real(read_image(png))]


def test_on_a_gpu_the_codec_runs_on_it(tiny_bundle: Path, tmp_path: Path, monkeypatch):
    write_repository(tiny_bundle, tmp_path / "models", "cuda")
    for name in MODELS:
        (group,) = configuration(tmp_path / "models" / name).instance_group
        assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
        assert list(group.gpus) == [0]
    asked: list[str] = []

    class Recorder(Codec):
        def __init__(self, bundle: Path, device: str = "cpu") -> None:
            asked.append(device)
            super().__init__(bundle)

    monkeypatch.setattr("vaecodec.codec.Codec", Recorder)
    Server(tmp_path / "models" / "tiny_compress", kind="GPU")
    assert asked == ["cuda"]


def test_other_models_of_a_repository_stay(tiny_bundle: Path, tmp_path: Path):
    other = tmp_path / "models" / "other"
    other.mkdir(parents=True)
    (other / CONFIG).write_text('name: "other"\n', "utf-8")
    write_repository(tiny_bundle, tmp_path / "models")
    stale = tmp_path / "models" / "tiny_compress" / "2"
    stale.mkdir()
    write_repository(tiny_bundle, tmp_path / "models", "cuda")
    assert not stale.exists()
    assert "KIND_GPU" in (tmp_path / "models" / "tiny_encoder" / CONFIG).read_text("utf-8")
    assert (other / CONFIG).read_text("utf-8") == 'name: "other"\n'
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(
        [*MODELS, "other"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_what_was_there_comes_back_where_a_model_cannot_be_moved(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_repository(tiny_bundle, tmp_path / "models")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.parent.name == "made":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space left"):
        write_repository(tiny_bundle, tmp_path / "models", "cuda")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(MODELS)
    assert "KIND_CPU" in (tmp_path / "models" / "tiny_encoder" / CONFIG).read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """Return what the command says as it fails."""
    monkeypatch.setattr(sys, "argv", ["export", "triton", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, str)
    assert len(caught.value.code.splitlines()) == 1
    return caught.value.code


def test_what_is_not_ours_is_refused(tiny_bundle: Path, tmp_path: Path, monkeypatch):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("mine", "utf-8")
    assert "not a model repository" in run(monkeypatch, tiny_bundle, notes)
    assert "is no folder" in run(monkeypatch, tiny_bundle, notes / "a.txt")
    assert "File exists" in run(monkeypatch, tiny_bundle, notes / "a.txt" / "models")
    theirs = tmp_path / "models" / "tiny_encoder" / CONFIG
    theirs.parent.mkdir(parents=True)
    theirs.write_text('name: "tiny_encoder"\n', "utf-8")
    assert "not written by this command" in run(monkeypatch, tiny_bundle, theirs.parent.parent)
    assert "is no bundle" in run(monkeypatch, notes, tmp_path / "new")
    assert "no device" in run(monkeypatch, tiny_bundle, tmp_path / "new", "--device", "tpu")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["notes", "a.txt", "models", "tiny_encoder", CONFIG]
    )


def test_a_name_that_triton_cannot_serve_is_refused(tiny_bundle: Path, tmp_path: Path):
    manifest = json.loads((tiny_bundle / MANIFEST).read_text("utf-8")) | {"name": "../tiny"}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ValueError, match=r"'\.\./tiny'"):
        write_repository(tmp_path, tmp_path / "models")


def test_a_file_outside_of_the_bundle_is_refused(tiny_bundle: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    manifest["files"]["../secret"] = hashlib.sha256(b"secret").hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(ValueError, match="no plain name"):
        write_repository(folder, tmp_path / "models")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "tiny"]


def test_a_graph_that_triton_cannot_serve_is_refused(tiny_bundle: Path):
    with pytest.raises(ValueError, match="cannot be read"):
        graph_tensors(b"no graph")
    with pytest.raises(ValueError, match=r"anchor .* is not of float32"):
        graph_tensors((tiny_bundle / "hyper.onnx").read_bytes())
