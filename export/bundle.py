"""Writing a bundle: graphs, tables, manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.cost import kmac_per_pixel
from export.denoiser import Denoiser
from export.dyadic import EXACT_STEPS, DyadicConv
from export.folders import replaced
from export.model import Model
from export.onnx_export import anchor_tables, build_denoiser_graphs, build_graphs
from export.tables import build_tables
from vaecodec.bundle import (
    ANCHORS,
    CARD,
    HYPER_STRIDE,
    MANIFEST,
    MANIFEST_FORMAT,
    PASSES,
    PATCH,
    find_bundle,
    model_id,
)
from vaecodec.prior import Prior

UNDECIDING = frozenset({"encoder.onnx", "hyper.onnx", "preview.onnx"})
"""Graphs that do not decide what a file decodes to."""


def write_bundle(model: Model, folder: Path, name: str, provenance: dict[str, Any]) -> None:
    """Write the bundle of a trained model.

    Args:
        model: the averaged weights.
        folder: made beside its place and then moved there, in place of the bundle that was there;
            that one's model card is kept, and its denoiser, which was trained for it, is not.
        name: the bundle's name.
        provenance: version, licence and training facts, for the manifest.

    Raises:
        ValueError: the prior is not exact, or the folder holds something else than a bundle.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is not empty and not a bundle: name another folder")
    unproven = unproven_layers(model)
    if unproven:
        raise ValueError(f"the prior is not exact in {', '.join(unproven)}")
    files = {file: graph.SerializeToString() for file, graph in build_graphs(model).items()}
    files["tables.npz"] = build_tables(anchor_tables(model)["z_scale_index"])
    manifest = _manifest(model, name, provenance, files)
    with replaced(folder) as temporary:
        temporary.mkdir(parents=True)
        for file, data in files.items():
            (temporary / file).write_bytes(data)
        _write_manifest(temporary, manifest)
        bundle = find_bundle(temporary)
        manifest["known_answer"] = Prior(bundle).known_answer()
        manifest["kmac_per_pixel"] = kmac_per_pixel(bundle)
        _write_manifest(temporary, manifest)
        if (folder / CARD).exists():
            shutil.copy2(folder / CARD, temporary / CARD)


def add_denoiser(denoiser: Denoiser, folder: Path, training: dict[str, Any]) -> None:
    """Write a denoiser into the bundle of its autoencoder, in place of one that was there.

    Files that were made with the bundle stay as they are: no denoiser decides what they decode to.

    Args:
        denoiser: the averaged weights.
        folder: of the bundle.
        training: facts for the manifest.

    Raises:
        ValueError: the bundle is of another autoencoder.
    """
    bundle = find_bundle(folder)
    decoder = build_graphs(denoiser.vae)["decoder.onnx"].SerializeToString()
    if decoder != bundle.read("decoder.onnx"):
        raise ValueError(f"the denoiser was trained for another model than that in {folder}")
    files = {
        file: graph.SerializeToString() for file, graph in build_denoiser_graphs(denoiser).items()
    }
    manifest = {
        **bundle.manifest,
        "denoiser": {
            "halo": denoiser.analysis.halo,
            "refiner_halo": denoiser.refine.halo,
            "shape": asdict(denoiser.shape),
            "training": training,
        },
        "files": bundle.files | {file: _digest(data) for file, data in files.items()},
    }
    with replaced(folder) as temporary:
        shutil.copytree(folder, temporary)
        for file, data in files.items():
            (temporary / file).write_bytes(data)
        _write_manifest(temporary, manifest)
        manifest["kmac_per_pixel"] = kmac_per_pixel(find_bundle(temporary))
        _write_manifest(temporary, manifest)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _manifest(
    model: Model, name: str, provenance: dict[str, Any], files: dict[str, bytes]
) -> dict[str, Any]:
    hashes = {file: _digest(data) for file, data in sorted(files.items())}
    decoding = [file for file in hashes if file not in UNDECIDING]
    return {
        "format": MANIFEST_FORMAT,
        "name": name,
        **provenance,
        "model_id": model_id({file: hashes[file] for file in decoding}).hex(),
        "latent_channels": model.arch.latent,
        "hyper_channels": model.arch.hyper,
        "halo": model.arch.halo,
        "passes": PASSES,
        "anchors": ANCHORS,
        "patch": PATCH,
        "hyper_stride": HYPER_STRIDE,
        "architecture": model.arch.to_dict(),
        "known_answer": "",
        "kmac_per_pixel": {},
        "decoding_files": decoding,
        "files": hashes,
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def unproven_layers(model: Model) -> list[str]:
    """Return the names of exact layers with a channel whose sums could leave float32's integers."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, DyadicConv) and module.steps_bound().max() >= EXACT_STEPS
    ]
