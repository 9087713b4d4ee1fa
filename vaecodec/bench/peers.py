"""Other codecs: what the bench needs of one, and which are meant by a list of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from vaecodec.bench.bundle_peers import PREFIX, BundlePeer, open_bundle
from vaecodec.bench.choice import Measurable, choose
from vaecodec.bench.pillow_peers import PEERS
from vaecodec.raster import Samples


class Peer(Measurable, Protocol):
    """A codec beside ours, set once: images to files in memory and back."""

    @property
    def name(self) -> str:
        """As the command line takes it; no two of a run have the same."""
        ...

    @property
    def title(self) -> str:
        """As tables and plots show it."""
        ...

    @property
    def ladder(self) -> tuple[float, ...]:
        """The qualities to measure: file sizes ascend."""
        ...

    def qualities(self) -> list[float]:
        """Return every quality that there is any use for, ascending; the ladder is part of it."""
        ...

    def encode(self, samples: Samples, quality: float) -> bytes:
        """Return a file without metadata.

        Args:
            samples: ``(h, w, 1 or 3)`` uint8.
            quality: On the codec's own scale.

        Raises:
            VaecodecError: If it cannot: an `ImageError` if it is the image that it cannot hold.
        """
        ...

    def decode(self, data: bytes, channels: int) -> Samples:
        """Return the samples of a file of its own, ``(h, w, channels)`` uint8.

        Raises:
            VaecodecError: If it cannot read the file back.
        """
        ...


def choose_peers(names: Sequence[str], device: str = "cpu") -> list[Peer]:
    """Return the codecs of a list of names.

    Args:
        names: Of formats, `all` or `installed` formats, and bundles such as `bundle:base`.
        device: "cpu" or "cuda", where the networks of bundles run.

    Raises:
        ValueError: If there is none of a name.
        ModelError: If a bundle is missing or damaged.
        RuntimeUnavailableError: If the library of a format that was named, or of `all`, is missing.
    """
    bundles = [
        open_bundle(name, device) for name in dict.fromkeys(names) if name.startswith(PREFIX)
    ]
    # `all` takes the bundles in, which does no harm: each one was named.
    known: dict[str, Peer] = {**PEERS, **{bundle.name: bundle for bundle in _told_apart(bundles)}}
    return choose(names, known, [f"{PREFIX}NAME"])


def _told_apart(bundles: Sequence[BundlePeer]) -> list[BundlePeer]:
    """Add to titles that are the same how their bundles were given.

    Training the encoder alone, for one, changes neither the name nor the model id.
    """
    counts = Counter(bundle.title for bundle in bundles)
    return [
        replace(bundle, title=f"{bundle.title} ({bundle.given})")
        if counts[bundle.title] > 1
        else bundle
        for bundle in bundles
    ]
