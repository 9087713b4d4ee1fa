"""Other bundles of ours, as codecs beside the one that is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vaecodec.bench.results import PeerInfo
from vaecodec.codec import Codec
from vaecodec.raster import Samples

DEFAULT_QUALITIES = (0.0, 14.0, 29.0, 43.0, 57.0, 71.0, 86.0, 100.0)
"""Eight, spread evenly: BD-rate needs about four points in any overlap to be stable."""
PREFIX = "bundle:"
"""Before the name or the folder of a bundle, in a list of codecs."""
_STEPS = 10
"""Of one quality: files of neighbouring steps differ in size by a fraction of a percent."""
_ID_DIGITS = 8


@dataclass(frozen=True, slots=True)
class BundlePeer:
    """A bundle, opened once; what its members do is said in `Peer`.

    Attributes:
        name: As the command line takes it, which is how two bundles of one name are told apart.
        title: As tables and plots show it.
        codec: The bundle, loaded on the same device as ours.
    """

    name: str
    title: str
    codec: Codec

    @property
    def ladder(self) -> tuple[float, ...]:
        """The qualities that ours is measured at by default."""
        return DEFAULT_QUALITIES

    @property
    def given(self) -> str:
        """The name or the folder of the bundle, as it was given."""
        return self.name.removeprefix(PREFIX)

    def info(self) -> PeerInfo:
        """Return what reports say of it."""
        bundle = self.codec.bundle
        return PeerInfo(
            self.name,
            self.title,
            f"{bundle.name} {bundle.version}, model {bundle.model_id.hex()}",
            "another bundle of vaecodec; its quality",
        )

    def encode(self, samples: Samples, quality: float) -> bytes:
        """Return a file without metadata.

        Raises:
            VaecodecError: As `Codec.encode`.
        """
        return self.codec.encode(samples, quality=quality)

    def decode(self, data: bytes, channels: int) -> Samples:
        """Return the samples of a file of its own, ``(h, w, channels)`` uint8.

        Raises:
            VaecodecError: As `Codec.decode`.
        """
        samples = self.codec.decode_raster(data).read()
        return samples.reshape(*samples.shape[:2], channels)

    def qualities(self) -> list[float]:
        """Return every quality to search, ascending."""
        return [step / _STEPS for step in range(100 * _STEPS + 1)]


def open_bundle(name: str, device: str) -> BundlePeer:
    """Open the bundle that a list of codecs names.

    Args:
        name: `PREFIX`, and the name of an installed bundle or a folder.
        device: "cpu" or "cuda".

    Raises:
        ValueError: If nothing follows the prefix.
        ModelError: If the bundle is missing or damaged.
        RuntimeUnavailableError: If ONNX Runtime or the device is missing.
    """
    given = name.removeprefix(PREFIX)
    if not given:
        raise ValueError(f"{name} is followed by no name or folder")
    codec = Codec(os.path.expanduser(given), device)  # no shell expands what follows a colon
    short_id = codec.bundle.model_id.hex()[:_ID_DIGITS]
    return BundlePeer(name, f"{codec.bundle.name} {short_id}", codec)
