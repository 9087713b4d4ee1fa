"""What must hold of a bundle's denoiser, checked from its files."""

from __future__ import annotations

import numpy as np
import torch

from export.bundle_weights import read_denoiser
from export.graph_checks import (
    LATENT_TOLERANCE,
    PIXEL_TOLERANCE,
    LatentSides,
    error_beyond_halo,
    run_graph,
)
from export.onnx_graph import Array
from vaecodec.bundle import DENOISER, PATCH, REFINER, Bundle
from vaecodec.runtime import scalar_inputs

NOISE = 25 / 255
"""Standard deviation of what is added to the images."""


@torch.no_grad()
def compare_denoiser(bundle: Bundle, planes: list[Array], levels: tuple[int, ...]) -> str:
    """Compare both graphs with PyTorch, on noisy images, at levels that end with the top one."""
    model = read_denoiser(bundle.path)
    if model is None:
        raise ValueError("there is none")
    rng = np.random.default_rng(0)
    y_error = x_error = 0.0
    for clean in planes:
        x = (clean + NOISE * rng.standard_normal(clean.shape)).astype(np.float32)
        for level in levels:
            anchor = torch.tensor([level / 256])
            _, y = model.analysis(torch.from_numpy(x), anchor)
            (found,) = run_graph(bundle, DENOISER, {"x": x, **scalar_inputs(level)})
            y_error = max(y_error, float(np.abs(found - y.numpy()).max()))
        top = torch.tensor([levels[-1] / 256])
        noisy = torch.from_numpy(x)
        x_hat = model.decode(model.analysis(noisy, top)[1], top).clamp(0, 1)
        restored = model.refined(noisy, x_hat)
        (found,) = run_graph(bundle, REFINER, {"x": x, "x_hat": x_hat.numpy()})
        x_error = max(x_error, float(np.abs(found - restored.numpy()).max()))
    detail = f"y {y_error:.2g}, restored {x_error:.2g}"
    if y_error > LATENT_TOLERANCE or x_error > PIXEL_TOLERANCE:
        raise ValueError(f"they differ by {detail}")
    return f"they differ by at most {detail}"


def denoiser_halos(bundle: Bundle, level: int) -> str:
    """Check that either graph looks no further than the manifest says."""
    halos = bundle.require_denoiser()
    y = error_beyond_halo(
        bundle, DENOISER, scalar_inputs(level), LatentSides(PATCH, 1), halos.analysis
    )
    restored = error_beyond_halo(bundle, REFINER, {}, LatentSides(PATCH, PATCH), halos.refiner)
    detail = f"y moves by {y:.2g}, restored by {restored:.2g}"
    if y > LATENT_TOLERANCE or restored > PIXEL_TOLERANCE:
        raise ValueError(f"{halos.analysis} and {halos.refiner} latents are too few: {detail}")
    return f"{halos.analysis} and {halos.refiner} latents: {detail}"
