"""From a trained model to the ONNX graphs of a bundle.

    encoder.onnx     x (n, 3, h, w) float32 in [0, 1], sides multiples of 16; level
                     -> y (n, M, h/16, w/16)
    hyper.onnx       y, sides multiples of 4; level; anchor -> y_gained, z (n, Nz, h/4, w/4)
    prior.onnx       z_hat, anchor -> features (n, P, 4h, 4w)                             exact
    context_K.onnx   features, y_hat, sides even; anchor
                     -> mean float32, scale uint8 (n, M, h/2, w/2) of what pass K codes   exact
    decoder.onnx     y_hat, level -> x_hat (n, 3, 16h, 16w) float32 in [0, 1]
    preview.onnx     y_hat, level -> (n, 3, 2h, 2w): about the means of x_hat's squares of 8 pixels

and, of a denoiser,

    denoiser.onnx    x (n, 3, h, w) float32, noisy, sides multiples of 16; level
                     -> y of the clean image (n, M, h/16, w/16)
    refiner.onnx     x; x_hat (n, 3, h, w), what the decoder made of it -> restored (n, 3, h, w)

`level` is a float32 scalar in anchors, `anchor` the int64 scalar nearest to it. `pass_order` of
`export.networks` says which latents a pass codes. The graphs are written node by node, so that they
hold nothing of the machine that made them, and so that the constant parts (casts, scales, halves of
weights) are left for the runtime to fold when it loads them.

On a CPU, ONNX Runtime keeps channels in blocks of eight or sixteen from one convolution to the
next, adds a residual while it writes a convolution's sums, and applies an activation there, too;
any other operation makes it copy everything to plain planes and back. So a gated branch is two
convolutions and no split of one, and a signal that was scaled and shifted for its level passes a
convolution that changes nothing. That took a quarter off the time of the transforms.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from export.architecture import PIXEL_UNIT
from export.denoiser import Denoiser, DenoisingAnalysis, Unet
from export.dyadic import ACTIVATION_MAX, ACTIVATION_STEPS, LEAKY_SLOPE, DyadicConv
from export.model import MEAN_MAX, MEAN_STEPS, SCALE_SHIFT, Model
from export.networks import (
    TRANSFORM_SLOPE,
    Analysis,
    Block,
    Conv,
    Depthwise,
    ExactBlock,
    Modulation,
    at_level,
)
from export.onnx_graph import Array, Graph
from vaecodec.bundle import ANCHORS, PASSES, PATCH, PREVIEW_SCALE
from vaecodec.tables import SCALE_COUNT


def build_graphs(model: Model) -> dict[str, onnx.ModelProto]:
    """Return every graph of the bundle by file name."""
    writer = _Writer(model, model)
    graphs = {
        "encoder.onnx": writer.encoder(),
        "hyper.onnx": writer.hyper(),
        "prior.onnx": writer.prior(),
        "decoder.onnx": writer.decoder(),
        "preview.onnx": writer.preview(),
    }
    for index in range(PASSES):
        graphs[f"context_{index}.onnx"] = writer.context(index)
    return _models(graphs)


def build_denoiser_graphs(denoiser: Denoiser) -> dict[str, onnx.ModelProto]:
    """Return the graphs that a denoiser adds to its autoencoder's bundle, by file name."""
    writer = _Writer(denoiser.vae, denoiser.cpu().eval())
    return _models(
        {
            "denoiser.onnx": writer.denoiser(denoiser.analysis),
            "refiner.onnx": writer.refiner(denoiser.refine),
        }
    )


def _models(graphs: dict[str, Graph]) -> dict[str, onnx.ModelProto]:
    return {
        name: graph.model({"vaecodec.graph": name.removesuffix(".onnx")})
        for name, graph in graphs.items()
    }


@torch.no_grad()
def anchor_tables(model: Model) -> dict[str, Array]:
    """Return what the exact prior knows of the levels, each ``(anchors, c)``.

    ``level_features`` float32 in steps; ``exponent``, ``base_scale`` float32; ``z_scale_index``
    uint8.
    """
    anchors = torch.arange(ANCHORS, dtype=torch.float32)
    features = torch.round(at_level(model.level_features, anchors).flatten(1) * ACTIVATION_STEPS)
    return {
        "level_features": _array(features.clamp(-ACTIVATION_MAX, ACTIVATION_MAX)),
        "exponent": _array(model.exponent),
        "base_scale": _array(model.base_scale),
        "z_scale_index": _array(model.z_scale_index(anchors).flatten(1)).astype(np.uint8),
    }


class _Writer:
    """Writes the modules of one model into graphs."""

    def __init__(self, model: Model, root: nn.Module) -> None:
        self.model = model.cpu().eval()
        self.tables = anchor_tables(model)
        self.names = {id(module): name for name, module in root.named_modules()}

    def encoder(self) -> Graph:
        g = Graph("encoder")
        x = g.input("x", np.float32, ("n", 3, "height", "width"))
        level = g.input("level", np.float32, ())
        self._output_y(g, self._analysis(g, x, level, self.model.g_a))
        return g

    def _output_y(self, g: Graph, y: str) -> None:
        g.output(y, "y", np.float32, ("n", self.model.arch.latent, "height/16", "width/16"))

    def _analysis(self, g: Graph, x: str, level: str, g_a: Analysis) -> str:
        name = self.names[id(g_a)]
        linear = _array(g_a.linear).reshape(-1, 3, PATCH, PATCH)
        base = self._on_pixels(g, x, f"{name}.linear", linear, None, PATCH)
        t = self._stem(g, x, g_a.stem)
        t = self._blocks(g, self._modulate(g, t, g_a.level_8, level), g_a.blocks_8)
        t = self._modulate(g, self._conv(g, t, g_a.down), g_a.level_16, level)
        t = self._blocks(g, t, g_a.blocks_16)
        return g.op("Add", base, self._conv(g, t, g_a.head))

    def _stem(self, g: Graph, x: str, stem: Conv) -> str:
        """Convolve pixels; see `_on_pixels`."""
        name = f"{self.names[id(stem)]}.weight"
        weight = _array(stem.weight).reshape(stem.shape)
        return self._on_pixels(g, x, name, weight, _array(stem.bias), stem.stride)

    def _on_pixels(
        self, g: Graph, x: str, name: str, weight: Array, bias: Array | None, stride: int
    ) -> str:
        """Convolve ``(x - 1/2) / PIXEL_UNIT``, with that map moved into weight and bias."""
        scaled = g.op("Mul", g.half(name, weight), g.scalar(1 / PIXEL_UNIT))
        axes = g.constant("kernel_axes", np.array([1, 2, 3], np.int64))
        total = g.op("ReduceSum", scaled, axes, keepdims=0)
        offset = g.op("Mul", total, g.scalar(-0.5))
        if bias is not None:
            bias_name = name.replace("weight", "bias")
            offset = g.op("Add", offset, g.constant(bias_name, bias))
        return g.op("Conv", x, scaled, offset, strides=[stride, stride])

    def hyper(self) -> Graph:
        g, h_a, arch = Graph("hyper"), self.model.h_a, self.model.arch
        y = g.input("y", np.float32, ("n", arch.latent, "h", "w"))
        level = g.input("level", np.float32, ())
        anchor = g.input("anchor", np.int64, ())
        gain = self._interpolate(g, "log_gain", self.model.log_gain, level)
        gained = g.op("Mul", y, g.op("Exp", gain))
        factor = self._row(g, "shrink_z", np.exp2(-self.tables["exponent"]), anchor)
        reach = ACTIVATION_MAX / ACTIVATION_STEPS
        v = g.op("Clip", g.op("Mul", gained, factor), g.scalar(-reach), g.scalar(reach))
        t = self._conv(g, self._leaky(g, self._conv(g, v, h_a.reduce)), h_a.mix_16)
        t = self._conv(g, self._leaky(g, self._conv(g, t, h_a.down_32)), h_a.mix_32)
        t = self._conv(g, self._leaky(g, self._conv(g, t, h_a.down_64)), h_a.head)
        shift = self._interpolate(g, "z_shift", self.model.z_shift, level)
        z = g.op("Round", g.op("Add", t, shift))
        z = g.op("Clip", z, g.scalar(-reach), g.scalar(reach))
        g.output(gained, "y_gained", np.float32, ("n", arch.latent, "h", "w"))
        g.output(z, "z", np.float32, ("n", arch.hyper, "h/4", "w/4"))
        return g

    def prior(self) -> Graph:
        g, h_s, arch = Graph("prior"), self.model.h_s, self.model.arch
        z_hat = g.input("z_hat", np.float32, ("n", arch.hyper, "h", "w"))
        anchor = g.input("anchor", np.int64, ())
        a = self._snap(g, g.op("Mul", z_hat, g.scalar(ACTIVATION_STEPS)))
        a = g.op("DepthToSpace", self._exact(g, a, h_s.up_32), blocksize=2, mode="CRD")
        a = self._sum(g, a, self._row(g, "level_features", self.tables["level_features"], anchor))
        a = self._sum(g, a, self._exact(g, a, h_s.mix_32))
        a = g.op("DepthToSpace", self._exact(g, a, h_s.up_16), blocksize=2, mode="CRD")
        a = self._sum(g, a, self._exact(g, a, h_s.mix_16))
        a = self._sum(g, a, self._exact(g, a, h_s.project))
        g.output(a, "features", np.float32, ("n", arch.prior, "4h", "4w"))
        return g

    def context(self, index: int) -> Graph:
        g, arch = Graph(f"context_{index}"), self.model.arch
        step = self.model.context_pass(index)
        a = g.input("features", np.float32, ("n", arch.prior, "h", "w"))
        anchor = g.input("anchor", np.int64, ())
        factor = np.exp2(self.tables["exponent"])
        if step.sees_latents:
            y_hat = g.input("y_hat", np.float32, ("n", arch.latent, "h", "w"))
            shrink = self._row(g, "shrink", ACTIVATION_STEPS / factor, anchor)
            a = g.op("Concat", a, self._snap(g, g.op("Mul", y_hat, shrink)), axis=1)
        a = self._exact(g, a, step.reduce)
        for block in step.blocks:
            if not isinstance(block, ExactBlock):
                raise TypeError(f"no graph for a {type(block).__name__}")
            mixed = self._exact(g, self._exact(g, a, block.mix), block.project)
            a = self._sum(g, a, mixed)
        a = g.op("SpaceToDepth", a, blocksize=2)
        coded = self.model.coded_channels(index).numpy()
        grow = factor[:, coded] * (MEAN_STEPS / ACTIVATION_STEPS)
        mean = g.op(
            "Mul",
            self._exact_sum(g, a, step.mean),
            self._row(g, f"context.{index}.grow", grow, anchor),
        )
        mean = g.op("Clip", g.op("Round", mean), g.scalar(-MEAN_MAX), g.scalar(MEAN_MAX))
        mean = g.op("Mul", mean, g.scalar(1 / MEAN_STEPS))
        offset = g.op("Mul", self._exact_sum(g, a, step.scale), g.scalar(1 / SCALE_SHIFT))
        base_scale = self.tables["base_scale"][:, coded]
        base = self._row(g, f"context.{index}.base_scale", base_scale, anchor)
        scale = g.op("Add", g.op("Round", offset), base)
        scale = g.op("Clip", scale, g.scalar(0), g.scalar(SCALE_COUNT - 1))
        shape = ("n", arch.latent, "h/2", "w/2")
        g.output(mean, "mean", np.float32, shape)
        g.output(g.op("Cast", scale, to=TensorProto.UINT8), "scale", np.uint8, shape)
        return g

    def decoder(self) -> Graph:
        g, g_s, arch = Graph("decoder"), self.model.g_s, self.model.arch
        y, level = self._ungained(g)
        unit = g.constant("g_s.latent_unit", _array(g_s.latent_unit))
        t = self._conv(g, g.op("Mul", y, unit), g_s.stem)
        t = self._blocks(g, self._modulate(g, t, g_s.level_16, level), g_s.blocks_16)
        t = self._modulate(g, self._doubled(g, t, g_s.up), g_s.level_8, level)
        t = self._blocks(g, t, g_s.blocks_8)
        detail = self._head(g, t, g_s.head, 8, grey=0.5)
        linear = _array(g_s.linear).reshape(-1, arch.latent, 1, 1)
        base = self._to_pixels(g, y, "g_s.linear", linear, PATCH)
        x_hat = g.op("Clip", g.op("Add", base, detail), g.scalar(0), g.scalar(1))
        g.output(x_hat, "x_hat", np.float32, ("n", 3, "16h", "16w"))
        return g

    def _ungained(self, g: Graph) -> tuple[str, str]:
        """Declare the inputs of a synthesis; return y_hat after the inverse gain, and the level."""
        y_hat = g.input("y_hat", np.float32, ("n", self.model.arch.latent, "h", "w"))
        level = g.input("level", np.float32, ())
        gain = self._interpolate(g, "log_inverse_gain", self.model.log_inverse_gain, level)
        return g.op("Mul", y_hat, g.op("Exp", gain)), level

    def preview(self) -> Graph:
        """The linear path alone, its kernels averaged: means need no more, and see no neighbour."""
        g, g_s, arch = Graph("preview"), self.model.g_s, self.model.arch
        y, _ = self._ungained(g)
        side = PATCH // PREVIEW_SCALE
        shape = (3, side, PREVIEW_SCALE, side, PREVIEW_SCALE, arch.latent)
        kernels = _array(g_s.linear).reshape(shape).mean(axis=(2, 4)).reshape(-1, arch.latent, 1, 1)
        grey = g.constant("grey", np.full(len(kernels), 0.5, np.float32))
        x = self._to_pixels(g, y, "preview", kernels, side, grey)
        x = g.op("Clip", x, g.scalar(0), g.scalar(1))
        g.output(x, "x_preview", np.float32, ("n", 3, "2h", "2w"))
        return g

    def _to_pixels(self, g: Graph, t: str, name: str, weight: Array, block: int, *bias: str) -> str:
        """Apply a 1x1 convolution in pixel units, then depth to space."""
        scaled = g.op("Mul", g.half(name, weight), g.scalar(PIXEL_UNIT))
        return g.op("DepthToSpace", g.op("Conv", t, scaled, *bias), blocksize=block, mode="CRD")

    def denoiser(self, analysis: DenoisingAnalysis) -> Graph:
        g = Graph("denoiser")
        x = g.input("x", np.float32, ("n", 3, "height", "width"))
        level = g.input("level", np.float32, ())
        estimate = g.op("Add", x, self._unet(g, x, analysis.front))
        self._output_y(g, self._analysis(g, estimate, level, analysis.g_a))
        return g

    def refiner(self, refine: Unet) -> Graph:
        g = Graph("refiner")
        shape = ("n", 3, "height", "width")
        x, x_hat = (g.input(name, np.float32, shape) for name in ("x", "x_hat"))
        residual = self._unet(g, g.op("Concat", x, x_hat, axis=1), refine)
        g.output(g.op("Add", x_hat, residual), "restored", np.float32, shape)
        return g

    def _unet(self, g: Graph, x: str, unet: Unet) -> str:
        t_2 = self._blocks(g, self._stem(g, x, unet.stem), unet.falling_2)
        t_4 = self._blocks(g, self._conv(g, t_2, unet.down_4), unet.falling_4)
        t_8 = self._blocks(g, self._conv(g, t_4, unet.down_8), unet.blocks_8)
        t_4 = self._blocks(g, g.op("Add", t_4, self._doubled(g, t_8, unet.up_4)), unet.rising_4)
        t_2 = self._blocks(g, g.op("Add", t_2, self._doubled(g, t_4, unet.up_2)), unet.rising_2)
        return self._head(g, t_2, unet.head, 2)

    def _head(self, g: Graph, t: str, head: Conv, block: int, grey: float | None = None) -> str:
        """Return pixels from the last convolution, whose bias may begin at some grey."""
        name = self.names[id(head)]
        weight = _array(head.weight).reshape(head.shape)
        bias = g.op("Mul", g.constant(f"{name}.bias", _array(head.bias)), g.scalar(PIXEL_UNIT))
        if grey is not None:
            bias = g.op("Add", bias, g.scalar(grey))
        return self._to_pixels(g, t, f"{name}.weight", weight, block, bias)

    def _modulate(self, g: Graph, t: str, module: Modulation, level: str) -> str:
        name = self.names[id(module)]
        scale = self._interpolate(g, f"{name}.log_scale", module.log_scale, level)
        shift = self._interpolate(g, f"{name}.shift", module.shift, level)
        t = g.op("Add", g.op("Mul", t, g.op("Exp", scale)), shift)
        channels = module.shift.shape[1]
        ones = g.constant(f"ones.{channels}", np.ones((channels, 1, 1, 1), np.float32))
        return g.op("Conv", t, ones, group=channels)  # back to blocks of channels

    def _interpolate(self, g: Graph, name: str, knots: Tensor, level: str) -> str:
        """Return the row of a table at a fractional level, ``(1, c, 1, 1)``; see `at_level`."""
        table = g.constant(name, _array(knots))
        position = g.op("Mul", level, g.scalar((len(knots) - 1) / (ANCHORS - 1)))
        low = g.op("Min", g.op("Floor", position), g.scalar(len(knots) - 2))
        share = g.op("Sub", position, low)
        index = g.op("Cast", low, to=TensorProto.INT64)
        one = g.constant("one", np.array(1, np.int64))
        below = g.op("Gather", table, index, axis=0)
        above = g.op("Gather", table, g.op("Add", index, one), axis=0)
        row = g.op("Add", below, g.op("Mul", g.op("Sub", above, below), share))
        return self._column(g, row)

    def _row(self, g: Graph, name: str, table: Array, anchor: str) -> str:
        """Return the row of an anchor table at a whole anchor, ``(1, c, 1, 1)``."""
        row = g.op("Gather", g.constant(name, table.astype(np.float32)), anchor, axis=0)
        return self._column(g, row)

    def _column(self, g: Graph, row: str) -> str:
        return g.op("Reshape", row, g.constant("column", np.array([1, -1, 1, 1], np.int64)))

    def _blocks(self, g: Graph, t: str, blocks: nn.Module) -> str:
        for block in blocks.children():
            if not isinstance(block, Block):
                raise TypeError(f"cannot export {type(block).__name__}")
            mixed = self._conv(g, self._leaky(g, self._conv(g, t, block.expand)), block.depthwise)
            t = g.op("Add", t, self._conv(g, mixed, block.project))
            opening, signal = self._conv_halves(g, t, block.gate)
            gated = g.op("Mul", g.op("Sigmoid", opening), signal)
            t = g.op("Add", t, self._conv(g, gated, block.merge))
        return t

    def _conv_halves(self, g: Graph, t: str, module: Conv) -> tuple[str, str]:
        """Return the two halves of a 1x1 convolution's channels, each of one of its own."""
        weight, bias = (
            g.split("Split", 2, parameter, axis=0, num_outputs=2)
            for parameter in self._parameters(g, module, module.shape)
        )
        first, second = (g.op("Conv", t, *half) for half in zip(weight, bias, strict=True))
        return first, second

    def _conv(self, g: Graph, t: str, module: Conv | Depthwise) -> str:
        if isinstance(module, Depthwise):
            parameters = self._parameters(g, module, (-1, 1, module.kernel, module.kernel))
            pads = [module.kernel // 2] * 4
            return g.op("Conv", t, *parameters, group=len(module.weight), pads=pads)
        parameters = self._parameters(g, module, module.shape)
        return g.op("Conv", t, *parameters, strides=[module.stride, module.stride])

    def _doubled(self, g: Graph, t: str, up: Conv) -> str:
        """Return what a convolution makes of each place, as a square of 2x2."""
        return g.op("DepthToSpace", self._conv(g, t, up), blocksize=2, mode="CRD")

    def _parameters(
        self, g: Graph, module: Conv | Depthwise, shape: tuple[int, ...]
    ) -> tuple[str, str]:
        """Add a layer's weight, in the shape of a kernel, and its bias."""
        name = self.names[id(module)]
        weight = g.half(f"{name}.weight", _array(module.weight).reshape(shape))
        return weight, g.constant(f"{name}.bias", _array(module.bias))

    def _leaky(self, g: Graph, t: str) -> str:
        return g.op("LeakyRelu", t, alpha=TRANSFORM_SLOPE)

    def _exact_sum(self, g: Graph, a: str, module: DyadicConv) -> str:
        name = self.names[id(module)]
        k, bits, k_bias = (_array(part) for part in module.quantised())
        scale = np.exp2(-bits)
        shape = (len(k), -1, module.kernel, module.kernel)
        weight = g.integers(f"{name}.weight", k.reshape(shape), scale.reshape(-1, 1, 1, 1))
        bias = g.constant(f"{name}.bias", (k_bias * scale.ravel()).astype(np.float32))
        pad = module.kernel // 2
        return g.op("Conv", a, weight, bias, group=module.groups, pads=[pad, pad, pad, pad])

    def _exact(self, g: Graph, a: str, module: DyadicConv) -> str:
        total = g.op("LeakyRelu", self._exact_sum(g, a, module), alpha=LEAKY_SLOPE)
        return self._snap(g, total)

    def _sum(self, g: Graph, a: str, b: str) -> str:
        """Add two activations; both are whole, so clipping is all that is left to do."""
        return self._clip(g, g.op("Add", a, b))

    def _snap(self, g: Graph, a: str) -> str:
        return self._clip(g, g.op("Round", a))

    def _clip(self, g: Graph, a: str) -> str:
        return g.op("Clip", a, g.scalar(-ACTIVATION_MAX), g.scalar(ACTIVATION_MAX))


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().float().numpy()
