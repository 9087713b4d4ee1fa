"""Other denoisers, each told how strong the noise is: ours is not."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaecodec.bench.choice import choose
from vaecodec.bench.results import PeerInfo
from vaecodec.errors import ImageError, RuntimeUnavailableError

Colours = NDArray[np.float32]
"""An image, ``(h, w, 3)``, in [0, 1], which noise may leave."""


@dataclass(frozen=True, slots=True)
class Method:
    """A denoiser and how it is set.

    Attributes:
        name: As the command line takes it.
        title: As tables show it.
        settings: What it is told, in words.
        module: What is imported.
        package: What is installed.
        denoise: Takes the module, an image, and the standard deviation of its noise.
    """

    name: str
    title: str
    settings: str
    module: str
    package: str
    denoise: Callable[[Any, Colours, float], Any]

    def info(self) -> PeerInfo:
        """Return what reports say of it.

        Raises:
            RuntimeUnavailableError: If its package is missing.
        """
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{self.title} is not in this Python: {error}", f"pip install {self.package}"
            ) from error
        version = f"{self.package} {metadata.version(self.package)}"
        return PeerInfo(self.name, self.title, version, self.settings)

    def __call__(self, noisy: Colours, sigma: float) -> Colours:
        """Return an image without noise, whose standard deviation is told in the image's unit.

        Raises:
            ImageError: If the package fails.
        """
        try:
            return np.asarray(self.denoise(importlib.import_module(self.module), noisy, sigma))
        except Exception as error:  # each package refuses in its own way
            raise ImageError(f"{self.title} cannot denoise it: {error}") from error


def _opencv(cv2: Any, noisy: Colours, sigma: float) -> Any:
    pixels = np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)
    bgr = np.ascontiguousarray(pixels[:, :, ::-1])
    strength = 0.6 * 255 * sigma
    return cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength, 7, 21)[:, :, ::-1] / 255


def _nl_means(restoration: Any, noisy: Colours, sigma: float) -> Any:
    return restoration.denoise_nl_means(
        noisy, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, channel_axis=-1
    )


def _wavelet(restoration: Any, noisy: Colours, sigma: float) -> Any:
    return restoration.denoise_wavelet(
        noisy, sigma=sigma, convert2ycbcr=True, rescale_sigma=True, channel_axis=-1
    )


def _bm3d(bm3d: Any, noisy: Colours, sigma: float) -> Any:
    return bm3d.bm3d_rgb(noisy, sigma)


METHODS = {
    method.name: method
    for method in (
        Method(
            "opencv",
            "OpenCV",
            "fastNlMeansDenoisingColored of 8 bits, both strengths 0.6 sigma, windows 7 and 21",
            "cv2",
            "opencv-python-headless",
            _opencv,
        ),
        Method(
            "nl-means",
            "scikit-image, non-local means",
            "fast mode, patches of 5, distance 6, h 0.6 sigma",
            "skimage.restoration",
            "scikit-image",
            _nl_means,
        ),
        Method(
            "wavelet",
            "scikit-image, wavelets",
            "BayesShrink in YCbCr",
            "skimage.restoration",
            "scikit-image",
            _wavelet,
        ),
        Method(
            "bm3d",
            "CBM3D",
            "bm3d_rgb, its standard profile",
            "bm3d",
            "bm3d",
            _bm3d,
        ),
    )
}
"""Every denoiser that can be measured, by name."""


def choose_methods(names: Sequence[str]) -> list[Method]:
    """Return the denoisers of a list of names; see `choose`."""
    return choose(names, METHODS)
