"""The transforms as a GPU runs them, here on a CPU: pixels in and out, halves in between."""

from __future__ import annotations

import builtins
import ctypes
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, checker, shape_inference
from PIL import Image
from support import SAMPLES

from vaecodec import gpu, runtime
from vaecodec.bundle import Bundle, find_bundle
from vaecodec.codec import Codec
from vaecodec.errors import RuntimeUnavailableError
from vaecodec.runtime import Network, scalar_inputs
from vaecodec.segments import Box
from vaecodec.trace import Trace
from vaecodec.transforms import PixelTransforms, Transforms

LEVEL = 32 * 256


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return find_bundle("base")


@pytest.fixture(scope="module")
def planes(bundle: Bundle) -> Transforms:
    return Transforms(bundle)


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> Transforms:
    return PixelTransforms(bundle)


def photograph(mode: str = "RGB", *, deep: bool = False) -> np.ndarray:
    """A photograph whose sides are no multiples of a patch, ``(h, w, c)``."""
    with Image.open(SAMPLES / "portrait.jpg") as image:
        crop = image.crop((300, 150, 430, 251)).convert(mode)
    if "A" in mode:
        crop.putalpha(Image.linear_gradient("L").resize(crop.size).point(lambda a: a - 40))
    samples = np.atleast_3d(np.asarray(crop))
    return samples.astype(np.uint16) * 257 if deep else samples


modes = pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
depths = pytest.mark.parametrize("deep", [False, True])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@depths
def test_an_analysis_of_pixels_is_that_of_planes(
    planes: Transforms, pixels: Transforms, mode: str, deep: bool
):
    samples = photograph(mode, deep=deep)
    expected, found = (one.analyse(samples, LEVEL, Trace()) for one in (planes, pixels))
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    # The first is a patch's mean, 0 to 444 before its offset, where halves are an eighth apart.
    close = np.testing.assert_allclose
    close(found[:, :1], expected[:, :1], rtol=0, atol=1e-4 if deep else 0.2)
    close(found[:, 1:], expected[:, 1:], rtol=0, atol=1e-4 if deep else 0.05)
    assert np.abs(expected).max() > 3


@pytest.fixture(scope="module")
def codec(bundle: Bundle) -> Codec:
    return Codec(bundle)


@pytest.fixture(scope="module")
def pixel_codec(bundle: Bundle, pixels: Transforms) -> Codec:
    codec = Codec(bundle)
    codec._transforms = pixels
    return codec


@modes
@depths
@pytest.mark.parametrize("quality", [0, 60, 100])
def test_files_of_either_decode_with_either(
    codec: Codec, pixel_codec: Codec, mode: str, quality: float, deep: bool
):
    samples = photograph(mode, deep=deep)
    files = [one.encode(samples, quality=quality) for one in (codec, pixel_codec)]
    # A word of the entropy coder is four bytes, of the 150 that such a file may have.
    assert len(files[1]) == pytest.approx(len(files[0]), rel=0.01, abs=4)
    for data in files:
        one, other = (reader.decode_raster(data).read() for reader in (codec, pixel_codec))
        assert one.dtype == other.dtype == samples.dtype
        assert one.shape == other.shape == samples.shape
        assert np.abs(one.astype(int) - other).max() <= 1
    # That is not for want of anything to tell apart.
    assert np.std(one) > 1000 if deep else np.std(one) > 10


def test_a_region_is_that_of_the_whole(pixel_codec: Codec):
    data = pixel_codec.encode(photograph(), quality=60)
    whole = pixel_codec.decode_raster(data).read().astype(int)
    part = pixel_codec.decode_raster(data, region=Box(20, 33, 90, 101)).read()
    assert np.abs(whole[20:90, 33:101] - part).max() <= 1


def types(model: bytes) -> tuple[onnx.GraphProto, dict[str, int]]:
    proto = onnx.load_from_string(model)
    checker.check_model(proto, full_check=True)
    graph = shape_inference.infer_shapes(proto, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return graph, found | {tensor.name: tensor.data_type for tensor in graph.initializer}


REWRITE = {"encoder": gpu.encoder_of_pixels, "decoder": gpu.decoder_of_pixels}


@pytest.mark.parametrize("name", REWRITE)
def test_convolutions_are_of_halves_and_levels_are_not(bundle: Bundle, name: str):
    graph, of = types(REWRITE[name](bundle.read(f"{name}.onnx"), np.uint8))
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 30
    for node in convolutions:
        assert {of[value] for value in node.input} == {TensorProto.FLOAT16}
    of_levels = [node for node in graph.node if node.op_type in ("Floor", "Gather", "Exp")]
    assert len(of_levels) > 10
    for node in of_levels:
        assert of[node.output[0]] == TensorProto.FLOAT
    assert of["pixels"] == TensorProto.UINT8


@pytest.mark.parametrize("name", REWRITE)
def test_deep_pixels_are_computed_in_full(bundle: Bundle, name: str):
    graph, of = types(REWRITE[name](bundle.read(f"{name}.onnx"), np.uint16))
    computed = {of[value] for node in graph.node if node.op_type == "Conv" for value in node.input}
    assert computed == {TensorProto.FLOAT}
    assert of["pixels"] == TensorProto.UINT16


def test_without_onnx_it_says_what_to_install(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def fails(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "onnx" or (name == "vaecodec" and "gpu" in arguments[2]):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(RuntimeUnavailableError, match=r"onnx.*pip install 'vaecodec\[cuda\]'"):
        PixelTransforms(bundle).analyse(photograph(), LEVEL, Trace())


def test_bound_inputs_and_outputs_are_those_of_a_run(bundle: Bundle):
    """What a device other than the CPU goes through."""
    network = Network(bundle.read("hyper.onnx"))
    y = np.random.default_rng(0).normal(size=(1, bundle.latent_channels, 8, 12))
    inputs = {"y": y.astype(np.float32), **scalar_inputs(LEVEL)}
    expected = [(np.float32, (1, None, 8, 12)), (np.float32, (1, None, 2, 3))]
    run = network(inputs, *expected)
    network._bound_to = "cpu"
    bound = network(inputs, *expected)
    for one, other in zip(run, bound, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cuda_is_prepared_without_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: name)
    prepared: list[object] = []

    class Runtime:
        @staticmethod
        def set_default_logger_severity(severity: int) -> None:
            prepared.append(severity)

        @staticmethod
        def preload_dlls() -> None:
            sys.stdout.write("Failed to load libcudnn.so.9")
            prepared.append("dlls")

    runtime._prepare_cuda(Runtime())
    assert prepared == [4, "dlls"]
    assert capsys.readouterr() == ("", "")


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    def fails(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", fails)
    with pytest.raises(RuntimeUnavailableError, match="driver is not installed: no libcuda"):
        runtime._prepare_cuda(object())
