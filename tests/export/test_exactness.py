from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support import SAMPLES, TINY_RECIPE

from export.bundle import write_bundle
from export.bundle_weights import read_model
from export.cost import macs_per_pixel
from export.fixed_point import InexactError, evaluate
from export.model import Model
from export.onnx_graph import Graph
from export.recipe import Recipe
from export.verify import verify
from vaecodec.bundle import MANIFEST, MODELS, find_bundle
from vaecodec.entropy import SymbolModels, SymbolReader, SymbolWriter
from vaecodec.prior import Prior
from vaecodec.quantise import Quantiser
from vaecodec.tables import load_tables

PHOTOGRAPH = SAMPLES / "astronaut-sign.jpg"


def outcome(folder: Path) -> dict[str, bool]:
    return {finding.check: finding.passed for finding in verify(folder, [PHOTOGRAPH])}


def test_the_bundle_is_exact_under_every_setting(tiny_bundle: Path):
    """One and two threads, every optimisation level, real and adversarial input, against int64."""
    findings = outcome(tiny_bundle)
    assert all(findings.values()), findings
    assert {"exact graphs, real input", "exact graphs, adversarial input"} <= set(findings)


def test_the_shipped_bundle_is_exact():
    findings = outcome(MODELS / "base")
    assert all(findings.values()), findings


def rehash(folder: Path) -> None:
    """Make the manifest agree with the files again, as an attacker or a mistake would."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest), "utf-8")


def change_initialiser(folder: Path, file: str, name: str, change) -> None:
    model = onnx.load(folder / file)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = change(numpy_helper.to_array(tensor).copy())
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, folder / file)
    rehash(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("h_s.project.bias", lambda a: a + np.float32(1e-4)),
        ("h_s.project.bias", lambda a: a + np.float32(2**24)),
        ("h_s.project.weight.scale", lambda a: a * np.float32(0.7)),
        ("h_s.project.weight", lambda a: a * np.float32(0.5)),
    ],
)
def test_verify_finds_layers_that_are_not_exact(tiny_bundle: Path, tmp_path: Path, name, change):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    change_initialiser(folder, "prior.onnx", name, change)
    assert not outcome(folder)["proof obligation"]


def test_verify_finds_a_prior_that_answers_otherwise(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    change_initialiser(folder, "prior.onnx", "h_s.project.bias", lambda a: a + np.float32(1))
    assert not outcome(folder)["known answer"]


def test_verify_finds_a_halo_that_is_too_small(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    assert manifest["halo"] == 2
    path.write_text(json.dumps(manifest | {"halo": 1}), "utf-8")
    assert not outcome(folder)["halo"]


def test_cost_is_that_of_the_layers(tiny_bundle: Path):
    """By hand, for 16 channels at 1/8 and 1/16, one block each, 32 latent channels."""
    linear, stem, down, head = 768 * 32 / 256, 192 * 16 / 64, 4 * 16 * 16 / 256, 16 * 32 / 256
    dense = 8 * 16**2
    unchanged = 16  # by the convolution after the modulation of a level
    block_8, block_16 = (dense + kernel**2 * 16 + unchanged for kernel in (5, 3))
    expected = linear + stem + block_8 / 64 + down + block_16 / 256 + head
    assert macs_per_pixel(find_bundle(tiny_bundle), ("encoder.onnx",)) == expected


def test_the_manifest_says_what_a_pixel_costs(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    encoder = macs_per_pixel(find_bundle(tiny_bundle), ("encoder.onnx",)) / 1000
    assert manifest["kmac_per_pixel"]["encoding"] > encoder
    assert outcome(folder)["cost"]
    path.write_text(json.dumps(manifest | {"kmac_per_pixel": {}}), "utf-8")
    assert not outcome(folder)["cost"]


def test_a_bundle_never_replaces_another_folder(tmp_path: Path):
    (tmp_path / "photograph.jpg").write_bytes(b"dear")
    with pytest.raises(ValueError, match="not a bundle"):
        write_bundle(Model(Recipe.from_dict(TINY_RECIPE).model), tmp_path, "x", {})
    assert (tmp_path / "photograph.jpg").read_bytes() == b"dear"


def test_an_unproven_layer_is_not_exported(tmp_path: Path):
    model = Model(Recipe.from_dict(TINY_RECIPE).model)
    with torch.no_grad():
        model.h_s.project.bias.fill_(2.0**20)
    with pytest.raises(ValueError, match=r"not exact in h_s\.project"):
        write_bundle(model, tmp_path / "new", "x", {})
    assert not (tmp_path / "new").exists()


def test_graphs_hold_nothing_of_their_maker(tiny_bundle: Path):
    manifest = json.loads((tiny_bundle / "manifest.json").read_text("utf-8"))
    graphs = [name for name in manifest["files"] if name.endswith(".onnx")]
    assert len(graphs) == 11
    for name in graphs:
        data = (tiny_bundle / name).read_bytes()
        model = onnx.load_model_from_string(data)
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        for fragment in (b"/home", b"/root", b"/tmp", b"/usr", b".py"):
            assert fragment not in data


def one_operation(kind: str, *constants: np.ndarray, **attributes) -> onnx.ModelProto:
    g = Graph("one")
    x = g.input("x", np.float32, (1, "c", "h", "w"))
    inputs = [g.constant(f"c{i}", value) for i, value in enumerate(constants)]
    g.output(g.op(kind, x, *inputs, **attributes), "y", np.float32, (1, "c", "h", "w"))
    return g.model({})


def test_the_reference_rounds_half_to_even():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.25, 0.75], np.float32).reshape(1, 8, 1, 1)
    found = evaluate(one_operation("Round"), {"x": x})["y"]
    np.testing.assert_array_equal(found, np.rint(x))


def test_the_reference_refuses_to_lose_bits():
    x = np.full((1, 1, 1, 1), 2.0**-20, np.float32)
    with pytest.raises(InexactError, match="finer"):
        evaluate(one_operation("Mul", np.array(0.5, np.float32)), {"x": x})
    with pytest.raises(InexactError, match="finer"):
        evaluate(one_operation("Round"), {"x": np.full((1, 1, 1, 1), 1e-9, np.float32)})
    with pytest.raises(InexactError, match="Sqrt"):
        evaluate(one_operation("Sqrt"), {"x": x})
    kernel = np.ones((1, 1, 3, 3), np.float32)
    dense = one_operation("Conv", kernel, np.zeros(1, np.float32), pads=[1, 1, 1, 1])
    with pytest.raises(InexactError, match="dense"):
        evaluate(dense, {"x": np.zeros((1, 1, 3, 3), np.float32)})


def test_the_runtime_codes_what_the_model_does(tiny_bundle: Path):
    """The same latents, symbol by symbol, through the model and through the bundle's files."""
    bundle, model = find_bundle(tiny_bundle), read_model(tiny_bundle)
    torch.manual_seed(5)
    level, shape = 63 * 256, (8, 12)
    y = 30 * torch.randn(1, model.arch.latent, *shape)
    z_hat = torch.randint(-9, 10, (1, model.arch.hyper, 2, 3)).float()
    anchor = torch.tensor([63.0])
    with torch.no_grad():
        expected = model.code(y, model.features(z_hat, anchor), anchor)
    models = SymbolModels(load_tables(bundle.read("tables.npz"), bundle.hyper_channels))
    prior, writer = Prior(bundle), SymbolWriter(models)
    features = prior.features(z_hat.numpy(), level)
    prior.write(y.numpy(), shape, features, level, Quantiser(models.tables), writer)
    reader = SymbolReader(models, writer.finish())
    y_hat = prior.read(shape, features, level, reader)
    reader.close()
    np.testing.assert_array_equal(y_hat, expected.y_hat.numpy())
    assert float(expected.scale_index.std()) > 1
