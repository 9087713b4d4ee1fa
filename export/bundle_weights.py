"""Back from a bundle to trainable weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from export.architecture import EXPONENT_MAX, Architecture
from export.denoiser import Denoiser
from export.dyadic import ACTIVATION_STEPS, DyadicConv
from export.model import SCALE_SHIFT, Model
from export.onnx_graph import Array
from export.recipe import DenoiserShape
from vaecodec.bundle import DENOISER, MANIFEST, REFINER, Bundle, find_bundle
from vaecodec.tables import load_tables


def read_model(folder: Path) -> Model:
    """Return the model of a bundle, with its weights as they were rounded for shipping.

    Tables that the exact prior knows at whole anchors come back at the knots alone: between two of
    these they may differ from the bundle's by one step.

    Raises:
        ValueError: the graphs do not hold the parameters of the manifest's architecture.
    """
    bundle = find_bundle(folder)
    manifest: dict[str, Any] = json.loads((bundle.path / MANIFEST).read_text("utf-8"))
    try:
        model = Model(Architecture.from_dict(manifest["architecture"]))
        model.load_state_dict(_state(bundle, model))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the bundle {folder} does not hold the model of its manifest: {error}"
        ) from error
    return model.eval()


def read_denoiser(folder: Path) -> Denoiser | None:
    """Return the denoiser of a bundle with its autoencoder, as `read_model` does; None if none.

    Raises:
        ValueError: the graphs do not hold the parameters of the manifest's denoiser.
    """
    bundle = find_bundle(folder)
    if bundle.denoiser_halos is None:
        return None
    vae = read_model(folder)
    try:
        denoiser = Denoiser(vae.arch, DenoiserShape(**bundle.manifest["denoiser"]["shape"]))
        denoiser.inherit(vae)
        stored = _initialisers(bundle, (DENOISER, REFINER))
        state = {
            key: torch.from_numpy(stored[key].astype(np.float32)).reshape(current.shape)
            for key, current in denoiser.state_dict().items()
            if not key.startswith("vae.")
        }
        denoiser.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the bundle {folder} does not hold the denoiser of its manifest: {error}"
        ) from error
    return denoiser.eval()


def _initialisers(bundle: Bundle, files: Iterable[str]) -> dict[str, Array]:
    """Return what graphs hold, by name."""
    stored: dict[str, Array] = {}
    for name in files:
        graph = onnx.load_model_from_string(bundle.read(name)).graph
        stored |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return stored


def _state(bundle: Bundle, model: Model) -> dict[str, Tensor]:
    denoising = (DENOISER, REFINER)
    graphs = (name for name in bundle.files if name.endswith(".onnx") and name not in denoising)
    stored = _initialisers(bundle, graphs)
    spacing = model.arch.knot_spacing
    tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
    # A pass knows the base of what it codes, in its own order; one pass codes every channel.
    base_scale = np.empty_like(stored["context.0.base_scale"])
    base_scale[:, model.coded_channels(0).numpy()] = stored["context.0.base_scale"]
    values = {
        "level_features": stored["level_features"][::spacing] / ACTIVATION_STEPS,
        "exponent": np.round(-np.log2(stored["shrink_z"])).clip(0, EXPONENT_MAX),
        "base_scale": base_scale,
        "z_scale": tables.z_scale_index[::spacing].astype(np.float32) / SCALE_SHIFT,
    }
    exact = {name for name, module in model.named_modules() if isinstance(module, DyadicConv)}
    state: dict[str, Tensor] = {}
    for key, current in model.state_dict().items():
        owner, _, leaf = key.rpartition(".")
        if owner in exact:
            value = _exact_parameter(stored, owner, leaf)
        else:
            value = values[key] if key in values else stored[key]
        state[key] = torch.from_numpy(value.astype(np.float32)).reshape(current.shape)
    return state


def _exact_parameter(stored: dict[str, Array], owner: str, leaf: str) -> Array:
    if leaf == "bias":
        return stored[f"{owner}.bias"] / ACTIVATION_STEPS
    return stored[f"{owner}.weight"].astype(np.float32) * stored[f"{owner}.weight.scale"]
