"""Other codecs, through Pillow and its plugins: images to files in memory and back."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, cast

import numpy as np
import PIL
from PIL import Image, ImageFile, features

from vaecodec.bench.results import PeerInfo
from vaecodec.errors import ImageError, RuntimeUnavailableError
from vaecodec.image import pillow_without_limits
from vaecodec.plugins import load_heif, load_jxl
from vaecodec.raster import Samples


@dataclass(frozen=True, slots=True)
class PillowPeer:
    """A codec of Pillow, or of a plugin of it, and how it is set.

    Attributes:
        name: As the command line takes it.
        title: As tables and plots show it.
        settings: What stays the same, in words.
        ladder: The qualities to measure: file sizes ascend.
        span: The least and the greatest quality that there is any use for.
        step: Between qualities.
        pillow: The name of the format in Pillow.
        options: What Pillow is told at a quality.
        grey_options: And for one channel, besides.
        version: Names the library; raises ImportError where it is missing.
        pip_line: The command that installs it.
    """

    name: str
    title: str
    settings: str
    ladder: tuple[float, ...]
    span: tuple[float, float]
    step: float
    pillow: str
    options: Callable[[float], dict[str, Any]]
    version: Callable[[], str]
    pip_line: str = "pip install -U pillow"
    grey_options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def info(self) -> PeerInfo:
        """Return what reports say of it.

        Raises:
            RuntimeUnavailableError: If its library is missing.
        """
        try:
            return PeerInfo(self.name, self.title, self.version(), self.settings)
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{self.title} is not in this Python: {error}", self.pip_line
            ) from error

    def encode(self, samples: Samples, quality: float) -> bytes:
        """Return a file without metadata.

        Args:
            samples: ``(h, w, 1 or 3)`` uint8.
            quality: On the codec's own scale.

        Raises:
            ImageError: If the codec cannot hold such an image.
        """
        file = io.BytesIO()
        grey = samples.shape[2] == 1
        image = Image.fromarray(samples[:, :, 0] if grey else samples)
        options = self.options(quality) | (dict(self.grey_options) if grey else {})
        try:
            with _room_for(samples.nbytes):
                image.save(file, self.pillow, **options)
        except Exception as error:  # each of Pillow's writers refuses in its own way
            raise ImageError(f"{self.title} cannot hold it: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes, channels: int) -> Samples:
        """Return the samples of a file of its own, ``(h, w, channels)`` uint8.

        Raises:
            ImageError: If the codec cannot read it back.
        """
        try:
            with pillow_without_limits(), Image.open(io.BytesIO(data)) as image:
                samples = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except Exception as error:  # as above
            raise ImageError(f"{self.title} cannot read its own file: {error}") from error
        return samples.reshape(*samples.shape[:2], channels)

    def qualities(self) -> list[float]:
        """Return every quality, ascending."""
        least, greatest = self.span
        count = round((greatest - least) / self.step)
        return [least + index * self.step for index in range(count + 1)]


@contextmanager
def _room_for(size_bytes: int) -> Generator[None]:
    """Let libjpeg write a file at once, as it must for optimised tables, however noisy an image.

    Pillow gives it a byte a pixel below quality 95, and calls the data broken where that is short.
    """
    before = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(before, size_bytes + 2**16)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = before


def _pillow_version(feature: str, library: str) -> Callable[[], str]:
    def version() -> str:
        if not features.check(feature):
            raise ImportError("Pillow was built without it")
        return f"{library} {features.version(feature)}, Pillow {PIL.__version__}"

    return version


def _jpeg_version() -> str:
    library = "libjpeg-turbo" if features.check("libjpeg_turbo") else "libjpeg"
    feature = "libjpeg_turbo" if features.check("libjpeg_turbo") else "jpg"
    return _pillow_version(feature, library)()


def _libaom_version() -> str:
    """Return the name of libavif, which must have libaom: no other encoder knows `tune=psnr`."""
    told = _pillow_version("avif", "libavif")()
    if not importlib.import_module("PIL._avif").encoder_codec_available("aom"):
        raise ImportError("Pillow's libavif was built without libaom")
    return told


def _avif_options(quality: float) -> dict[str, Any]:
    """Leave the tuning to libavif: since 1.4 it is for the eye (`iq`), and before it was `ssim`."""
    return {
        "quality": int(quality),
        "speed": 4,
        "subsampling": "4:4:4",
        "autotiling": False,  # which would make files larger the more cores there are
    }


def _jxl_version() -> str:
    load_jxl()
    return f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}"


def _heif_version() -> str:
    facts = cast("dict[str, Any]", load_heif().libheif_info())
    if not facts.get("HEIF"):
        raise ImportError("libheif was built without an encoder")
    return f"libheif {facts['libheif']}, {facts['HEIF']}"


PEERS = {
    peer.name: peer
    for peer in (
        PillowPeer(
            "jpeg",
            "JPEG",
            "4:4:4, optimised Huffman tables, baseline; its quality",
            (5, 10, 20, 40, 60, 80, 90, 95),
            (1, 100),
            1,
            "JPEG",
            lambda quality: {"quality": int(quality), "subsampling": 0, "optimize": True},
            _jpeg_version,
        ),
        PillowPeer(
            "webp",
            "WebP",
            "lossy, method 6, 4:2:0 as always; its quality",
            (1, 5, 15, 35, 60, 80, 90, 97),
            (1, 100),
            1,
            "WEBP",
            lambda quality: {"quality": int(quality), "method": 6},
            _pillow_version("webp", "libwebp"),
        ),
        PillowPeer(
            "avif",
            "AVIF",
            "4:4:4, grey as 4:0:0, speed 4, one tile, default tuning; its quality",
            (5, 15, 25, 35, 50, 65, 80, 92),
            (1, 100),
            1,
            "AVIF",
            _avif_options,
            _pillow_version("avif", "libavif"),
            grey_options={"subsampling": "4:0:0"},
        ),
        PillowPeer(
            "avif-psnr",
            "AVIF tune=psnr",
            "4:4:4, grey as 4:0:0, speed 4, one tile, libaom tuned for PSNR; its quality",
            (5, 15, 25, 35, 50, 65, 80, 92),
            (1, 100),
            1,
            "AVIF",
            lambda quality: _avif_options(quality) | {"codec": "aom", "advanced": {"tune": "psnr"}},
            _libaom_version,
            grey_options={"subsampling": "4:0:0"},
        ),
        PillowPeer(
            "jpeg2000",
            "JPEG 2000",
            "irreversible 9/7 wavelet, colour transform, one layer; quality is a PSNR in dB",
            (22, 25, 28, 31, 34, 37, 40, 43),
            (15, 50),
            0.25,
            "JPEG2000",
            lambda quality: {
                "quality_mode": "dB",
                "quality_layers": [quality],
                "irreversible": True,
                "mct": 1,  # without it, the default, every file is far larger
            },
            _pillow_version("jpg_2000", "OpenJPEG"),
        ),
        PillowPeer(
            "jxl",
            "JPEG XL",
            "lossy, effort 7; its quality",
            (5, 15, 30, 50, 70, 83, 92, 97),
            (1, 99),
            1,
            "JXL",
            lambda quality: {"quality": int(quality), "effort": 7, "lossless": False},
            _jxl_version,
            "pip install pillow-jxl-plugin",
        ),
        PillowPeer(
            "heic",
            "HEIC",
            "4:4:4; its quality",
            (5, 15, 25, 35, 45, 55, 65, 75),
            (1, 100),
            1,
            "HEIF",
            lambda quality: {"quality": int(quality), "chroma": 444},
            _heif_version,
            "pip install pillow-heif",
        ),
    )
}
"""All of them, by name."""
