"""Everything that must hold of a bundle, checked from its files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import constriction  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper

from export.bundle_weights import read_model
from export.cost import kmac_per_pixel
from export.dyadic import ACTIVATION_MAX, ACTIVATION_STEPS, EXACT_STEPS, WEIGHT_MAX
from export.fixed_point import evaluate
from export.graph_checks import (
    LATENT_TOLERANCE,
    PIXEL_TOLERANCE,
    LatentSides,
    error_beyond_halo,
    run_graph,
)
from export.measure import HYPER_PATCH
from export.model import MEAN_MAX, MEAN_STEPS, Model
from export.onnx_graph import Array
from export.verify_denoiser import compare_denoiser, denoiser_halos
from vaecodec.bundle import PASSES, PATCH, Bundle, find_bundle
from vaecodec.entropy import SymbolModels
from vaecodec.errors import VaecodecError
from vaecodec.image import read_image
from vaecodec.prior import Prior
from vaecodec.raster import from_array, to_planes
from vaecodec.runtime import scalar_inputs
from vaecodec.segments import Box
from vaecodec.tables import FREQUENCY_BITS, SCALE_COUNT, load_tables

LEVELS = (0, 10 * 256 + 77, 32 * 256, 48 * 256 + 200, 63 * 256)
"""The ends, and between them whole anchors and fractions on either side of one half."""
CROP = 256
ADVERSARIAL_SIDE = 8
Z_REACH = ACTIVATION_MAX / ACTIVATION_STEPS


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Latents:
    """What one image gives at one level, from PyTorch; arrays as the graphs take them."""

    level: int
    z_hat: Array
    features: Array
    y_hat: Array


def verify(folder: Path, images: list[Path]) -> Iterator[Finding]:
    """Check a bundle; `images` are photographs for real latents and for the clipped shares."""
    bundle = find_bundle(folder)
    for check, run in (("hashes", _hashes), ("proof obligation", _proofs), ("tables", _tables)):
        finding = _attempt(check, partial(run, bundle))
        yield finding
        if not finding.passed:
            return
    yield _attempt("cost", partial(_cost, bundle))
    model = read_model(folder)
    planes = [_read_planes(path) for path in images]
    real = [_latents(model, x, level) for x in planes for level in LEVELS]
    yield _attempt("ONNX against PyTorch", partial(_transforms, bundle, model, planes))
    yield _attempt("halo", partial(_halo, bundle))
    if bundle.denoiser_halos is not None:
        compared = partial(compare_denoiser, bundle, planes, LEVELS)
        yield _attempt("denoiser against PyTorch", compared)
        yield _attempt("halos of the denoiser", partial(denoiser_halos, bundle, LEVELS[-1]))
    yield _attempt("exact graphs against PyTorch", partial(_prior, bundle, model, real))
    yield _attempt("exact graphs, real input", partial(_exact, bundle, real))
    yield _attempt("exact graphs, adversarial input", partial(_exact, bundle, _adversarial(model)))
    yield _attempt("known answer", partial(_known_answer, bundle))
    for level in LEVELS:
        at_level = [latents for latents in real if latents.level == level]
        yield Finding(f"clipped at level {level}", True, _clipped(bundle, model, at_level))


def _attempt(check: str, run: Callable[[], str]) -> Finding:
    """Run a check; what it raises is what it found."""
    try:
        return Finding(check, True, run())
    except (ValueError, ArithmeticError, VaecodecError) as error:
        return Finding(check, False, str(error))


def _hashes(bundle: Bundle) -> str:
    total = sum(len(bundle.read(name)) for name in bundle.files)
    return f"{len(bundle.files)} files, {total / 1e6:.2f} MB, model id {bundle.model_id.hex()}"


def _cost(bundle: Bundle) -> str:
    cost = kmac_per_pixel(bundle)
    if bundle.manifest.get("kmac_per_pixel") != cost:
        raise ValueError(f"the manifest does not say what it is: {cost}")
    return f"encoding {cost['encoding']} kMAC per pixel, decoding {cost['decoding']}"


def _exact_graphs(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    names = ["prior.onnx", *(f"context_{index}.onnx" for index in range(PASSES))]
    return {name: onnx.load_model_from_string(bundle.read(name)) for name in names}


def _proofs(bundle: Bundle) -> str:
    """Check every convolution of the exact graphs: kind, integers, and the bound on its sums."""
    largest, channels = 0.0, 0
    for file, graph in _exact_graphs(bundle).items():
        stored = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
        for name in (key.removesuffix(".scale") for key in stored if key.endswith(".scale")):
            k = stored[name].astype(np.int64)
            scale = stored[f"{name}.scale"].astype(np.float64).ravel()
            k_bias = stored[name.replace(".weight", ".bias")] / scale
            depthwise = k.shape[1] == 1 and k.shape[2] == 3
            if stored[name].dtype != np.int8 or np.abs(k).max() > WEIGHT_MAX:
                raise ValueError(f"{file}: {name} is not of 8-bit integers")
            if k.shape[2:] != (1, 1) and not depthwise:
                raise ValueError(f"{file}: {name} is neither 1x1 nor depthwise")
            if np.any(np.frexp(scale)[0] != 0.5) or np.any(k_bias != np.rint(k_bias)):
                raise ValueError(f"{file}: {name} is not dyadic")
            bound = np.abs(k).sum((1, 2, 3)) * ACTIVATION_MAX + np.abs(k_bias)
            if bound.max() >= EXACT_STEPS:
                raise ValueError(f"{file}: {name} may reach {bound.max():,.0f} steps, over 2^24")
            largest, channels = max(largest, float(bound.max())), channels + len(k)
        _check_rows(file, stored)
        convolutions = sum(node.op_type == "Conv" for node in graph.graph.node)
        if convolutions != sum(key.endswith(".scale") for key in stored):
            raise ValueError(f"{file} holds a convolution that is not dyadic")
    return f"{channels:,} channels, largest sum {largest:,.0f} of {EXACT_STEPS:,} steps"


def _check_rows(file: str, stored: dict[str, Array]) -> None:
    """Check the tables over levels: whole numbers, or powers of two, in every row."""
    for name, table in stored.items():
        whole = name.endswith(("level_features", "base_scale"))
        if whole and (np.any(table != np.rint(table)) or np.abs(table).max() > ACTIVATION_MAX):
            raise ValueError(f"{file}: {name} is not of whole numbers up to {ACTIVATION_MAX}")
        if name.endswith(("shrink", "grow")) and np.any(np.frexp(table)[0] != 0.5):
            raise ValueError(f"{file}: {name} is not of powers of two")


def _tables(bundle: Bundle) -> str:
    """Probe both sides of every boundary of every table, through the coder itself."""
    tables = load_tables(bundle.read("tables.npz"), bundle.hyper_channels)
    models, stream = SymbolModels(tables), cast("Any", constriction).stream
    probes = 0
    for index in range(1, SCALE_COUNT):
        ends = np.cumsum(tables.frequencies[index].astype(np.int64))
        for symbol, end in enumerate(ends.tolist()):
            for quantile, expected in ((end - 1, symbol), (end, symbol + 1)):
                if quantile == 1 << FREQUENCY_BITS:
                    continue
                words = np.array([quantile, 1], np.uint32)
                found = int(stream.stack.AnsCoder(words).decode(models[index]))
                if found != expected:
                    raise ValueError(f"scale index {index}: {quantile} is {found}, not {expected}")
                probes += 1
    return f"{probes:,} probes of the boundaries of {SCALE_COUNT - 1} tables, none moved"


def _read_planes(path: Path) -> Array:
    raster = read_image(path.read_bytes())
    top, left = (max(0, side - CROP) // 2 for side in (raster.height, raster.width))
    middle = Box(top, left, top + CROP, left + CROP).within(raster.box)
    planes = to_planes(from_array(raster.read(middle)).rgb())
    edges = [(0, 0), (0, 0), *((0, -side % HYPER_PATCH) for side in planes.shape[2:])]
    return np.pad(planes, edges, mode="edge")


@torch.no_grad()
def _latents(model: Model, planes: Array, level: int) -> Latents:
    anchor = torch.tensor([level / 256])
    y = model.gained(model.g_a(torch.from_numpy(planes), anchor), anchor)
    z_hat = model.round_z(model.hyper_latent(y, anchor))
    features = model.features(z_hat, anchor)
    y_hat = model.code(y, features, anchor).y_hat
    return Latents(level, z_hat.numpy(), features.numpy(), y_hat.numpy())


@torch.no_grad()
def _transforms(bundle: Bundle, model: Model, planes: list[Array]) -> str:
    """Compare encoder, hyper-analysis and decoder with PyTorch."""
    worst = {"y": 0.0, "z": 0.0, "x_hat": 0.0}

    def compare(name: str, expected: torch.Tensor, found: Array) -> None:
        worst[name] = max(worst[name], float(np.abs(found - expected.numpy()).max()))

    for x in planes:
        for level in LEVELS:
            anchor, scalars = torch.tensor([level / 256]), scalar_inputs(level)
            y = model.g_a(torch.from_numpy(x), anchor)
            compare("y", y, run_graph(bundle, "encoder.onnx", {"x": x, **scalars})[0])
            gained = model.gained(y, anchor)
            found, z = run_graph(bundle, "hyper.onnx", {"y": y.numpy(), **scalars})
            compare("y", gained, found)
            # Before rounding, which would turn any small difference into a whole one.
            compare("z", model.hyper_latent(gained, anchor).clamp(-Z_REACH, Z_REACH), z)
            y_hat = gained.round()
            x_hat = model.g_s(model.ungained(y_hat, anchor), anchor).clamp(0, 1)
            (found,) = run_graph(bundle, "decoder.onnx", {"y_hat": y_hat.numpy(), **scalars})
            compare("x_hat", x_hat, found)
    limits = {"y": LATENT_TOLERANCE, "z": 0.5 + LATENT_TOLERANCE, "x_hat": PIXEL_TOLERANCE}
    detail = ", ".join(f"{name} {difference:.2g}" for name, difference in worst.items())
    if any(worst[name] > limit for name, limit in limits.items()):
        raise ValueError(f"they differ by {detail}")
    return f"they differ by at most {detail} (z is rounded in one of them)"


def _halo(bundle: Bundle) -> str:
    scalars = scalar_inputs(LEVELS[-1])
    x_hat = error_beyond_halo(bundle, "decoder.onnx", scalars, LatentSides(1, PATCH), bundle.halo)
    y = error_beyond_halo(bundle, "encoder.onnx", scalars, LatentSides(PATCH, 1), bundle.halo)
    if x_hat > PIXEL_TOLERANCE or y > LATENT_TOLERANCE:
        raise ValueError(f"{bundle.halo} latents are too few: x_hat moves by {x_hat}, y by {y}")
    return f"{bundle.halo} latents: x_hat moves by {x_hat:.2g}, y by {y:.2g}"


@torch.no_grad()
def _prior(bundle: Bundle, model: Model, cases: list[Latents]) -> str:
    """Compare the exact graphs with the model, at the ends: its tables are exact at knots."""
    elements = 0
    for case in cases:
        if case.level not in (LEVELS[0], LEVELS[-1]):
            continue
        anchor, scalars = torch.tensor([case.level / 256]), scalar_inputs(case.level)
        inputs = {"z_hat": case.z_hat, "features": case.features, "y_hat": case.y_hat, **scalars}
        pairs = [(case.features, run_graph(bundle, "prior.onnx", inputs)[0])]
        features, y_hat = torch.from_numpy(case.features), torch.from_numpy(case.y_hat)
        for index in range(PASSES):
            expected = model.predict(index, features, y_hat, anchor)
            found = run_graph(bundle, f"context_{index}.onnx", inputs)
            pairs += [(e.numpy(), f) for e, f in zip(expected, found, strict=True)]
        for expected, found in pairs:
            if not np.array_equal(expected, found):
                raise ValueError(f"at level {case.level} an exact graph is not the model's")
            elements += found.size
    return f"{elements:,} elements equal"


def runtime_settings() -> Iterator[tuple[int, ort.GraphOptimizationLevel]]:
    """Yield one and two threads under every level of graph optimisation."""
    for level in ort.GraphOptimizationLevel.__members__.values():
        for threads in (1, 2):
            yield threads, level


def _exact(bundle: Bundle, cases: list[Latents]) -> str:
    """Compare every exact graph with the int64 reference, under every setting of the runtime."""
    elements = 0
    for case in cases:
        inputs = {
            "z_hat": case.z_hat,
            "features": case.features,
            "y_hat": case.y_hat,
            "anchor": scalar_inputs(case.level)["anchor"],
        }
        for name, graph in _exact_graphs(bundle).items():
            taken = {value.name for value in graph.graph.input}
            fed = {key: value for key, value in inputs.items() if key in taken}
            reference = evaluate(graph, fed)
            for threads, level in runtime_settings():
                outputs = run_graph(bundle, name, fed, threads, level)
                for (output, expected), found in zip(reference.items(), outputs, strict=True):
                    wrong = int((expected != found).sum())
                    if wrong:
                        raise ValueError(f"{name}: {wrong} elements of {output} differ")
                    elements += found.size
    return f"{elements:,} elements equal to the int64 reference, under every runtime setting"


def _adversarial(model: Model) -> list[Latents]:
    """Make inputs at the limits: all extremes, random extremes, and ties everywhere."""
    rng = np.random.default_rng(0)
    arch, side = model.arch, ADVERSARIAL_SIDE
    z_shape = (1, arch.hyper, side // 4, side // 4)
    f_shape, y_shape = (1, arch.prior, side, side), (1, arch.latent, side, side)
    reach = ACTIVATION_MAX / ACTIVATION_STEPS
    y_reach = MEAN_MAX / MEAN_STEPS
    signs = [np.ones, lambda shape: -np.ones(shape), lambda shape: rng.choice((-1.0, 1.0), shape)]
    cases = [
        (sign(z_shape) * reach, sign(f_shape) * ACTIVATION_MAX, sign(y_shape) * y_reach)
        for sign in signs
    ]
    odd = rng.integers(-32, 32, f_shape) * 32 + 16
    cases.append((rng.integers(-32, 33, z_shape), odd, rng.integers(-4096, 4096, y_shape) / 8))
    return [
        Latents(level, *(np.asarray(part, np.float32) for part in case))
        for case in cases
        for level in (LEVELS[0], LEVELS[-1])
    ]


def _known_answer(bundle: Bundle) -> str:
    found = Prior(bundle).known_answer()
    if found != bundle.known_answer:
        raise ValueError(f"the prior's known answer is {found}, not {bundle.known_answer}")
    return found[:16]


def _clipped(bundle: Bundle, model: Model, cases: list[Latents]) -> str:
    """Say what share of values stands at a limit: context input, mean, z, features, scale."""
    row = round(cases[0].level / 256)
    factor = np.exp2(model.exponent[row].numpy())[:, None, None]
    reach = ACTIVATION_MAX / ACTIVATION_STEPS
    at_mean: list[float] = []
    at_scale: list[float] = []
    for case in cases:
        inputs = {"features": case.features, "y_hat": case.y_hat, **scalar_inputs(case.level)}
        mean, scale = run_graph(bundle, f"context_{PASSES - 1}.onnx", inputs)
        at_mean.append(float(np.mean(np.abs(mean) >= MEAN_MAX / MEAN_STEPS)))
        at_scale.append(float(np.mean(scale == SCALE_COUNT - 1)))
    shares = {
        "context": np.mean([np.mean(np.abs(case.y_hat / factor) > reach) for case in cases]),
        "mean": np.mean(at_mean),
        "z": np.mean([np.mean(np.abs(case.z_hat) >= reach) for case in cases]),
        "features": np.mean([np.mean(np.abs(case.features) >= ACTIVATION_MAX) for case in cases]),
        "largest scale": np.mean(at_scale),
    }
    return ", ".join(f"{name} {share:.4%}" for name, share in shares.items())
