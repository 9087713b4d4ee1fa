from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vaecodec import bundle as module
from vaecodec.bundle import MANIFEST, bundle_name, find_bundle, find_by_id, installed
from vaecodec.codec import Codec
from vaecodec.errors import ModelError, ModelMismatchError, ModelNotFoundError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(folder: Path, **fields: object) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | fields), "utf-8")


def test_the_installed_bundle_is_found_by_name_and_id():
    base = find_bundle("base")
    assert base.name == "base"
    assert base in installed()
    assert find_by_id(base.model_id) == base
    assert bundle_name(base.model_id) == "base"
    assert bundle_name(b"\0" * 8) is None


def test_every_file_of_the_installed_bundles_is_as_the_manifest_says():
    for bundle in installed():
        for name in bundle.files:
            bundle.read(name)
        stored = json.loads((bundle.path / MANIFEST).read_text("utf-8"))
        assert stored["model_id"] == bundle.model_id.hex()


def test_no_installed_bundle_is_named_or_identified_so():
    with pytest.raises(ModelNotFoundError, match="installed: base"):
        find_bundle("no-such")
    with pytest.raises(ModelNotFoundError, match="0000000000000000"):
        find_by_id(b"\0" * 8)


def test_the_id_depends_on_what_decodes_and_on_nothing_else(copy: Path):
    bundle = find_bundle(copy)
    other = {name: digest[::-1] for name, digest in bundle.files.items()}
    edit(copy, files=bundle.files | {"encoder.onnx": other["encoder.onnx"]})
    assert find_bundle(copy).model_id == bundle.model_id
    edit(copy, files=bundle.files | {"prior.onnx": other["prior.onnx"]})
    assert find_bundle(copy).model_id != bundle.model_id


def test_a_changed_file_is_refused(copy: Path):
    path = copy / "prior.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelMismatchError, match="install the bundle again"):
        Codec(copy)


def test_a_missing_file_is_refused(copy: Path):
    (copy / "tables.npz").unlink()
    with pytest.raises(ModelNotFoundError, match=r"tables\.npz"):
        Codec(copy)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 1},
        {"format": 99},
        {"passes": 0},
        {"passes": "four"},
        {"anchors": 32},
        {"hyper_channels": "many"},
        {"files": {}},
        {"files": None},
        {"decoding_files": 3},
    ],
)
def test_a_broken_manifest_is_refused(copy: Path, fields: dict[str, object]):
    edit(copy, **fields)
    with pytest.raises(ModelError):
        find_bundle(copy)


@pytest.mark.parametrize("text", ["", "{}", "[]", "{"])
def test_a_manifest_that_is_none_is_refused(copy: Path, text: str):
    (copy / MANIFEST).write_text(text, "utf-8")
    with pytest.raises(ModelError):
        find_bundle(copy)


def test_no_bundle_installed_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(module, "MODELS", tmp_path)
    with pytest.raises(ModelNotFoundError, match="installed: none"):
        find_bundle("base")
