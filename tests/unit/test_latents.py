"""Reading latents with a prior on another device, which may or may not be exact."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaecodec import latents
from vaecodec.bundle import Bundle, find_bundle
from vaecodec.codec import Codec
from vaecodec.container import unpack
from vaecodec.errors import FormatError
from vaecodec.latents import LatentCoder
from vaecodec.prior import Prior
from vaecodec.trace import Trace

BUNDLE = Path(__file__).parents[1] / "golden" / "v1" / "bundle"
SHAPE = (6, 9)
LEVEL = 30 * 256


class DevicePrior(Prior):
    """Stands for the prior on a device: counts what it reads."""

    reads = 0

    def __init__(self, bundle: Bundle, threads: int | None = None, device: str = "cpu") -> None:
        super().__init__(bundle, threads)
        self.device = device

    def read(self, *arguments: Any) -> Any:
        DevicePrior.reads += self.device != "cpu"
        return super().read(*arguments)


class InexactPrior(DevicePrior):
    """Off by one step of a mean, at shapes other than the known answer's."""

    def read(self, shape: tuple[int, int], features: Any, level: int, reader: Any) -> Any:
        features = features + (self.device != "cpu")
        return super().read(shape, features, level, reader)


class OtherPrior(DevicePrior):
    """Off at the known answer's, too."""

    def known_answer(self) -> str:
        return "another" if self.device != "cpu" else super().known_answer()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return find_bundle(BUNDLE)


@pytest.fixture(scope="module")
def payload(bundle: Bundle) -> bytes:
    samples = np.random.default_rng(4).integers(0, 256, (16 * SHAPE[0], 16 * SHAPE[1], 3), np.uint8)
    return unpack(Codec(bundle).encode(samples, quality=100 * LEVEL / (63 * 256))).latents[0]


@pytest.fixture
def expected(bundle: Bundle, payload: bytes) -> np.ndarray:
    return LatentCoder(bundle).read(payload, SHAPE, LEVEL, Trace())


@pytest.mark.parametrize(("kind", "reads"), [(DevicePrior, 1), (InexactPrior, 1), (OtherPrior, 0)])
def test_latents_are_right_whatever_a_device_computes(
    bundle: Bundle,
    payload: bytes,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[DevicePrior],
    reads: int,
):
    monkeypatch.setattr(latents, "Prior", kind)
    monkeypatch.setattr(DevicePrior, "reads", 0)
    coder = LatentCoder(bundle, device="cuda")
    np.testing.assert_array_equal(coder.read(payload, SHAPE, LEVEL, Trace()), expected)
    assert DevicePrior.reads == reads
    # Damage stays damage.
    damaged = payload[:20] + bytes([payload[20] ^ 4]) + payload[21:]
    with pytest.raises(FormatError):
        coder.read(damaged, SHAPE, LEVEL, Trace())


def test_an_inexact_prior_would_have_read_another_image(
    bundle: Bundle, payload: bytes, monkeypatch: pytest.MonkeyPatch
):
    """So the test before is not one that cannot fail."""
    monkeypatch.setattr(latents, "Prior", partial(InexactPrior, device="cuda"))
    with pytest.raises(FormatError):
        LatentCoder(bundle).read(payload, SHAPE, LEVEL, Trace())


def test_the_cpu_has_no_other_prior(bundle: Bundle):
    assert LatentCoder(bundle)._device_prior is None
