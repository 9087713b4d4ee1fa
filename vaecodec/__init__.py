"""Image compression with a variational autoencoder.

>>> import vaecodec
>>> data = vaecodec.encode(image, quality=60)
>>> image = vaecodec.decode(data)
>>> clean = vaecodec.denoise(noisy)

`Codec` does the same for a bundle and a device of choice, and `encode_to` encodes to a size or a
fidelity. What is wrong with a file, an image or a model derives from `VaecodecError`;
`vaecodec.errors` has them all. A wrong argument is a ValueError or TypeError. Nothing heavy is
imported before it is used.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any

from vaecodec.errors import (
    FormatError,
    ImageError,
    InputError,
    LimitError,
    ModelError,
    OutputError,
    OutputExistsError,
    RuntimeUnavailableError,
    VaecodecError,
)
from vaecodec.limits import Limits
from vaecodec.rate import DEFAULT_QUALITY

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from vaecodec.codec import Codec, Denoisable
    from vaecodec.container import Data
    from vaecodec.raster import Raster, Samples
    from vaecodec.search import Target, encode_to
    from vaecodec.segments import Box

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Codec",
    "FormatError",
    "ImageError",
    "InputError",
    "LimitError",
    "Limits",
    "ModelError",
    "OutputError",
    "OutputExistsError",
    "Raster",
    "RuntimeUnavailableError",
    "Target",
    "VaecodecError",
    "decode",
    "denoise",
    "encode",
    "encode_to",
    "register_vaec_opener",
]


_OPENING = Lock()


def encode(
    image: Image.Image | Samples, *, quality: float = DEFAULT_QUALITY, denoise: bool = False
) -> bytes:
    """Compress an image with the bundle `base`; see `Codec.encode`."""
    from vaecodec.bundle import find_bundle

    return _codec(find_bundle("base").path).encode(image, quality=quality, denoise=denoise)


def decode(data: Data) -> Image.Image:
    """Decompress a `.vaec` file with the bundle that it names; see `Codec.decode`."""
    from vaecodec.bundle import find_by_id
    from vaecodec.container import read_header

    return _codec(find_by_id(read_header(data).model_id).path).decode(data)


def denoise(image: Denoisable, *, strength: float = 1.0) -> Denoisable:
    """Return an image without its noise, by the bundle `base`; see `Codec.denoise`."""
    from vaecodec.bundle import find_bundle

    return _codec(find_bundle("base").path).denoise(image, strength=strength)


def register_vaec_opener() -> None:
    """Have Pillow open and save `.vaec` files, as importing `vaecodec.pillow_plugin` does."""
    from vaecodec.pillow_plugin import register_vaec_opener as register

    register()


def _codec(folder: Path) -> Codec:
    """Return the codec of a bundle that all of this process share.

    One thread at a time, as each that finds none would make its own.
    """
    with _OPENING:
        return _opened(folder)


@lru_cache(maxsize=2)
def _opened(folder: Path) -> Codec:
    from vaecodec.codec import Codec

    return Codec(folder)


_LAZY = {
    "Box": "vaecodec.segments",
    "Codec": "vaecodec.codec",
    "Raster": "vaecodec.raster",
    "Target": "vaecodec.search",
    "encode_to": "vaecodec.search",
}
"""Public names, and the modules that they are imported from when somebody asks for them."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
