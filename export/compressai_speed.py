"""Times vaecodec beside CompressAI, in one process on one machine, through real bytes.

In an environment of its own:

    pip install '.[cpu]' compressai
    python -m export.compressai_speed kodak/

CompressAI's models have random weights: these change what is coded, and hardly how long it takes.
Each codec codes an image before the next image is read; its first image is coded once more before,
untimed. cheng2020-anchor decodes latent by latent, for which two images have to do.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional

from export.data import Pixels, read_images
from vaecodec.codec import Codec

QUALITY = 4
"""Of CompressAI's models, 1 to 8."""
STRIDE = 64
"""Sides of images are padded to multiples of it."""
SLOW_IMAGES = 2


@dataclass
class Contender:
    """A codec, and the seconds that it took for each image.

    Attributes:
        name: as the table has it.
        encode: from uint8 pixels ``(h, w, 3)`` in memory to what `decode` takes.
        decode: from bytes to pixels in memory.
        images: how many it codes.
    """

    name: str
    encode: Callable[[Pixels], Any]
    decode: Callable[[Any], object]
    images: int
    encode_s: list[float] = field(default_factory=list[float])
    decode_s: list[float] = field(default_factory=list[float])

    def run(self, pixels: Pixels) -> tuple[float, float]:
        """Return the seconds of either direction."""
        start = time.perf_counter()
        coded = self.encode(pixels)
        middle = time.perf_counter()
        self.decode(coded)
        return middle - start, time.perf_counter() - middle


def main(
    folder: Annotated[Path, typer.Argument(help="Images.")],
    bundle: Annotated[str, typer.Option(help="Ours.")] = "base",
    quality: Annotated[float, typer.Option(help="Of ours, 0 to 100.")] = 50,
    threads: Annotated[int, typer.Option(help="For every codec.")] = 2,
) -> None:
    """Print a table of seconds per image, and how many times longer than ours each codec takes."""
    torch.set_num_threads(threads)
    images = list(read_images([folder], STRIDE))
    codec = Codec(bundle, threads=threads)

    def encode(pixels: Pixels) -> bytes:
        return codec.encode(pixels, quality=quality)

    ours = Contender(f"vaecodec {codec.bundle.name}", encode, codec.decode_raster, len(images))
    others = [_contender("mbt2018-mean", len(images)), _contender("cheng2020-anchor", SLOW_IMAGES)]
    measure([ours, *others], images)
    typer.echo(f"{'codec':<24} {'images':>6} {'encode_s':>9} {'decode_s':>9} {'times ours':>16}")
    for one in (ours, *others):
        medians = [statistics.median(seconds) for seconds in (one.encode_s, one.decode_s)]
        # Against ours on the same images, however few.
        ratios = [
            statistics.median(theirs[i] / mine[i] for i in range(len(theirs)))
            for theirs, mine in ((one.encode_s, ours.encode_s), (one.decode_s, ours.decode_s))
        ]
        typer.echo(
            f"{one.name:<24} {len(one.encode_s):6} {medians[0]:9.3f} {medians[1]:9.3f} "
            f"{ratios[0]:7.1f} {ratios[1]:8.1f}"
        )


def measure(contenders: Sequence[Contender], images: Sequence[Pixels]) -> None:
    """Fill in the seconds of every codec, image by image."""
    for one in contenders:
        one.run(images[0])
    for number, pixels in enumerate(images):
        for one in contenders:
            if number < one.images:
                encode_s, decode_s = one.run(pixels)
                one.encode_s.append(encode_s)
                one.decode_s.append(decode_s)


def _contender(name: str, images: int) -> Contender:
    """Return a model of CompressAI's zoo."""
    zoo: Any = importlib.import_module("compressai.zoo")
    model: Any = zoo.image_models[name](quality=QUALITY, pretrained=False)
    model.eval().update(force=True)

    @torch.inference_mode()
    def encode(pixels: Pixels) -> dict[str, Any]:
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255
        height, width = x.shape[2:]
        edges = (0, -width % STRIDE, 0, -height % STRIDE)
        return model.compress(functional.pad(x, edges, mode="replicate"))

    @torch.inference_mode()
    def decode(coded: dict[str, Any]) -> Tensor:
        x_hat: Tensor = model.decompress(coded["strings"], coded["shape"])["x_hat"]
        return (x_hat * 255).round().to(torch.uint8)

    return Contender(f"CompressAI {name}", encode, decode, images)


if __name__ == "__main__":
    typer.run(main)
