"""Back from a bundle to trainable weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from export.architecture import EXPONENT_MAX, Architecture
from export.dyadic import ACTIVATION_STEPS, DyadicConv
from export.model import SCALE_SHIFT, Model
from export.onnx_graph import Array
from vaecodec.bundle import find_bundle
from vaecodec.tables import load_tables


def read_model(folder: Path) -> Model:
    """Return the model of a bundle, with its weights as they were rounded for shipping.

    Raises:
        ValueError: the graphs do not hold the parameters of the manifest's architecture.
    """
    import json

    manifest = json.loads((find_bundle(folder).path / "manifest.json").read_text("utf-8"))
    arch = Architecture(**manifest["architecture"])
    model = Model(arch)
    model.load_state_dict(read_weights(folder, arch))
    return model.eval()


def read_weights(folder: Path, arch: Architecture) -> dict[str, Tensor]:
    """Return a state dict for `Model(arch)` from the initialisers of a bundle's graphs.

    Raises:
        ValueError: a parameter is missing or of another shape.
    """
    bundle = find_bundle(folder)
    stored: dict[str, Array] = {}
    for name in bundle.files:
        if name.endswith(".onnx"):
            graph = onnx.load_model_from_string(bundle.read(name)).graph
            stored |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    model = Model(arch)
    state = model.state_dict()
    exact = {name for name, module in model.named_modules() if isinstance(module, DyadicConv)}
    try:
        for key, current in state.items():
            owner, _, leaf = key.rpartition(".")
            if owner in exact:
                value = _exact_parameter(stored, owner, leaf)
            elif owner:
                value = stored[key]
            else:
                continue
            state[key] = torch.from_numpy(value.astype(np.float32)).reshape(current.shape)
        for key in ("log_gain", "log_inverse_gain", "z_shift"):
            state[key] = torch.from_numpy(stored[key].copy())
        features = stored["level_features"][:: arch.knot_spacing] / ACTIVATION_STEPS
        state["level_features"] = torch.from_numpy(features.astype(np.float32))
        exponent = np.round(-np.log2(stored["shrink_z"])).clip(0, EXPONENT_MAX)
        state["exponent"] = torch.from_numpy(exponent.astype(np.float32))
        state["base_scale"] = torch.from_numpy(stored["base_scale"].copy())
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"the bundle {folder} does not fit the recipe's model: {error}") from error
    tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
    z_scale = tables.z_scale_index[:: arch.knot_spacing].astype(np.float32) / SCALE_SHIFT
    state["z_scale"] = torch.from_numpy(z_scale)
    for key, current in model.state_dict().items():
        if state[key].shape != current.shape:
            raise ValueError(f"the bundle {folder} does not fit the recipe's model: {key}")
    return state


def _exact_parameter(stored: dict[str, Array], owner: str, leaf: str) -> Array:
    if leaf == "bias":
        return stored[f"{owner}.bias"] / ACTIVATION_STEPS
    return stored[f"{owner}.weight"].astype(np.float32) * stored[f"{owner}.weight.scale"]
