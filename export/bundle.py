"""Writing a bundle: graphs, tables, manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from export.architecture import HYPER_STRIDE, PATCH
from export.networks import Model
from export.onnx_export import anchor_tables, build_graphs
from export.tables import build_tables
from vaecodec.bundle import MANIFEST, MANIFEST_FORMAT, find_bundle
from vaecodec.bundle import model_id as hash_of
from vaecodec.prior import Prior

ENCODING_ONLY = frozenset({"encoder.onnx", "hyper.onnx"})
"""Files that decide how an image is encoded, and not what a file decodes to."""


def write_bundle(model: Model, folder: Path, name: str, provenance: dict[str, Any]) -> None:
    """Write the bundle of a trained model.

    Args:
        model: the averaged weights.
        folder: made anew beside its place, then moved there; what was there is replaced, except a
            model card.
        name: the bundle's name.
        provenance: version, licence and training facts, for the manifest.
    """
    violations = unproven_channels(model)
    if violations:
        raise ValueError(f"the prior is not exact in {', '.join(violations)}")
    files = {file: graph.SerializeToString() for file, graph in build_graphs(model).items()}
    files["tables.npz"] = build_tables(anchor_tables(model)["z_scale_index"])
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())}
    decoding = [file for file in hashes if file not in ENCODING_ONLY]
    arch = model.arch
    manifest: dict[str, Any] = {
        "format": MANIFEST_FORMAT,
        "name": name,
        **provenance,
        "model_id": hash_of({file: hashes[file] for file in decoding}).hex(),
        "latent_channels": arch.latent,
        "hyper_channels": arch.hyper,
        "passes": arch.passes,
        "anchors": arch.anchors,
        "patch": PATCH,
        "hyper_stride": HYPER_STRIDE,
        "lmbda": [arch.lmbda_min, arch.lmbda_max],
        "architecture": arch.to_dict(),
        "known_answer": "",
        "decoding_files": decoding,
        "files": hashes,
    }
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file, data in files.items():
        (temporary / file).write_bytes(data)
    _write_manifest(temporary, manifest)
    manifest["known_answer"] = Prior(find_bundle(temporary)).known_answer()
    _write_manifest(temporary, manifest)
    card = folder / "MODEL_CARD.md"
    if card.exists():
        shutil.copy2(card, temporary / card.name)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def unproven_channels(model: Model) -> list[str]:
    """Return the names of exact layers with a channel whose sums could leave float32's integers."""
    bounds = exactness_bounds(model)
    return [name for name, (largest, limit) in bounds.items() if largest >= limit]


def exactness_bounds(model: Model) -> dict[str, tuple[float, float]]:
    """Return, for each exact layer, the largest channel's bound on its sums, and 2^24."""
    from export.dyadic import EXACT_STEPS, DyadicConv

    return {
        name: (float(module.steps_bound().max()), float(EXACT_STEPS))
        for name, module in model.named_modules()
        if isinstance(module, DyadicConv)
    }
