"""What is promised between a CPU and CUDA. Skipped where there is no GPU."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import SAMPLES

from vaecodec.bundle import HYPER_STRIDE, PASSES, Bundle, find_bundle
from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.errors import VaecodecError
from vaecodec.runtime import scalar_inputs

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
SHAPES = [(64, 64), (8, 64), (36, 20)]
"""Latents of a whole segment, of a strip and of a corner of an image."""
QUALITIES = [0, 50, 100]


def has_gpu() -> bool:
    try:
        Codec("base", "cuda").encode(np.zeros((64, 64, 3), np.uint8))
    except VaecodecError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_gpu(), reason="no GPU, or no ONNX Runtime for one")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return find_bundle("base")


@pytest.fixture(scope="module", params=["portrait.jpg", "forest-from-above.jpg"])
def photograph(request: pytest.FixtureRequest) -> np.ndarray:
    with Image.open(SAMPLES / request.param) as image:
        return np.asarray(image.convert("RGB"))


def session(model: bytes, *providers: Any) -> Any:
    ort: Any = importlib.import_module("onnxruntime")
    return ort.InferenceSession(model, providers=list(providers))


@pytest.mark.parametrize("tf32", ["0", "1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_graphs_give_the_same_bits(bundle: Bundle, shape: tuple[int, int], tf32: str):
    rng = np.random.default_rng(7)
    rows, columns = shape
    z_shape = (1, bundle.hyper_channels, rows // HYPER_STRIDE, columns // HYPER_STRIDE)
    y_shape = (1, bundle.latent_channels, rows, columns)
    inputs: dict[str, np.ndarray] = {
        "z_hat": rng.integers(-32, 33, z_shape).astype(np.float32),
        "y_hat": (rng.integers(-4000, 4001, y_shape) / 8).astype(np.float32),
        **scalar_inputs(32 * 256),
    }
    for name in ("prior.onnx", *(f"context_{index}.onnx" for index in range(PASSES))):
        model = bundle.read(name)
        on_cpu, on_gpu = session(model, CPU), session(model, (CUDA, {"use_tf32": tf32}), CPU)
        assert on_gpu.get_providers()[0] == CUDA
        fed = {value.name: inputs[value.name] for value in on_cpu.get_inputs()}
        expected, found = on_cpu.run(None, fed), on_gpu.run(None, fed)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
        if name == "prior.onnx":
            inputs["features"] = expected[0]


def test_the_prior_of_the_device_is_used_to_read(photograph: np.ndarray):
    codec = Codec("base", "cuda")
    prior = codec._latents._device_prior
    assert prior is not None
    calls: list[object] = []
    read = prior.read

    def counted(*arguments: Any) -> Any:
        y_hat = read(*arguments)
        calls.append(y_hat)
        return y_hat

    prior.read = counted
    data = Codec("base").encode(photograph)
    codec.decode(data)
    assert len(calls) == len(unpack(data).latents)  # which it has read to the end: none failed


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
@pytest.mark.parametrize("deep", [False, True])
def test_other_modes_are_the_same_image(photograph: np.ndarray, mode: str, deep: bool):
    samples = np.atleast_3d(np.asarray(Image.fromarray(photograph).convert(mode)))
    if deep:
        samples = samples.astype(np.uint16) * 257
    data = Codec("base", "cuda").encode(samples)
    one, other = (
        Codec("base", device).decode_raster(data).read().astype(int) for device in ("cpu", "cuda")
    )
    assert np.abs(one - other).max() <= (4 * 257 if deep else 4)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("maker", "reader"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_files_decode_on_the_other_device(
    photograph: np.ndarray, maker: str, reader: str, quality: float
):
    """99.9% of the samples are within one step, and none is further than four."""
    data = Codec("base", maker).encode(photograph, quality=quality)
    at_home, abroad = (
        Codec("base", device).decode_raster(data).read().astype(int) for device in (maker, reader)
    )
    moved = np.abs(at_home - abroad)
    assert moved.max() <= 4
    assert np.mean(moved <= 1) >= 0.999


@pytest.mark.parametrize("quality", QUALITIES)
def test_files_are_as_large_and_as_good_on_either_device(photograph: np.ndarray, quality: float):
    sizes, errors = [], []
    for device in ("cpu", "cuda"):
        codec = Codec("base", device)
        data = codec.encode(photograph, quality=quality)
        sizes.append(len(data))
        errors.append(np.mean((codec.decode_raster(data).read() - photograph.astype(float)) ** 2))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.005)
    assert errors[1] == pytest.approx(errors[0], rel=0.005)
