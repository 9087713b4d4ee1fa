from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import SAMPLES
from torch import Tensor
from torch.nn import functional

from export.degrade import (
    Degradations,
    _blurred,
    _correlated,
    _demosaiced,
    _Draw,
    _sensor,
    _smoothed,
    _window,
)
from export.jpeg import jpeg

NONE = Degradations(gaussian=0, sensor=0, correlated=0, jpeg=0, rounded=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(height: int = 96, width: int = 128) -> Tensor:
    with Image.open(SAMPLES / "portrait.jpg") as image:
        crop = image.convert("RGB").resize((540, 360)).crop((150, 60, 150 + width, 60 + height))
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None].float() / 255


def by_pillow(x: Tensor, quality: int, *, subsampled: bool) -> Tensor:
    buffer = io.BytesIO()
    pixels = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    subsampling = "4:2:0" if subsampled else "4:4:4"
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as decoded:
        return torch.from_numpy(np.array(decoded)).permute(2, 0, 1)[None].float() / 255


def psnr_db(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(float(((one - other) ** 2).mean()) + 1e-12)


@pytest.mark.parametrize("subsampled", [False, True])
@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(96, 128), (61, 83)])
def test_jpeg_loses_what_a_real_file_loses(quality: int, size: tuple[int, int], subsampled: bool):
    x = photograph(*size)
    expected = by_pillow(x, quality, subsampled=subsampled)
    found = jpeg(x, torch.tensor([float(quality)]), torch.tensor([subsampled]))
    assert found.shape == x.shape
    # Far nearer to the real one than either is to the original.
    lost = psnr_db(expected, x)
    assert psnr_db(found, expected) > min(lost + 8, 46)
    assert psnr_db(found, x) == pytest.approx(lost, abs=0.3)


def test_images_of_a_batch_have_files_of_their_own():
    x = photograph().repeat(4, 1, 1, 1)
    quality, subsampled = torch.tensor([20.0, 90.0, 20.0, 90.0]), torch.tensor([0, 0, 1, 1]) > 0
    together = jpeg(x, quality, subsampled)
    for i in range(4):
        alone = jpeg(x[i : i + 1], quality[i : i + 1], subsampled[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1 / 255 + 1e-6)
    assert len({round(psnr_db(one[None], x[:1]), 3) for one in together}) == 4


def test_gaussian_noise_is_neither_clipped_nor_rounded():
    white = torch.ones(400, 3, 16, 16)
    noisy = Degradations(gaussian=1, sensor=0, correlated=0, jpeg=0, rounded=0)(white, generator())
    noise = noisy - white
    assert noisy.max() > 1
    deviations = 255 * noise.std(dim=(1, 2, 3))
    assert deviations.min() < 2
    assert 52 < deviations.max() < 60
    assert float(deviations.mean()) == pytest.approx(27.5, abs=2)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-3)


def test_a_sensors_noise_grows_with_the_light():
    dark, bright = (torch.full((64, 3, 32, 32), level) for level in (0.2, 0.8))
    variances: list[float] = []
    for x in (dark, bright):
        gamma_free = _sensor(x, _Draw(x, generator(3)), (1e-3, 1e-3), 0).clamp(0, 1) ** 2.2
        variances.append(float(gamma_free.var(dim=(2, 3)).mean()))
    assert variances[1] > 3 * variances[0]
    assert float(
        _sensor(bright, _Draw(bright, generator()), (1e-6, 1e-6), 0).mean()
    ) == pytest.approx(0.8, abs=2e-3)


def neighbours(noise: Tensor) -> float:
    """Return the correlation of neighbours in a row."""
    return float((noise[..., 1:] * noise[..., :-1]).mean() / (noise**2).mean())


def test_correlated_noise_is_correlated_and_of_unit_deviation():
    draw = _Draw(torch.zeros(32, 3, 64, 64), generator(1))
    noise = _correlated(draw)
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), torch.ones(32))
    assert neighbours(noise) > 0.3
    assert abs(neighbours(draw.normal())) < 0.01


def test_a_camera_smooths_chroma_more_than_luma():
    noise = torch.randn(16, 3, 64, 64, generator=generator(4))
    found = _smoothed(noise, _Draw(noise, generator(2)))
    luma, chroma = found.mean(1, keepdim=True), found - found.mean(1, keepdim=True)
    assert float(chroma.std()) < 0.4 * float(luma.std())
    assert neighbours(chroma) > neighbours(luma) > 0.1
    assert float(found.std()) < float(noise.std())


def test_every_image_is_blurred_by_its_own_deviation():
    x = torch.zeros(3, 1, 33, 33)
    x[:, :, 16, 16] = 1
    found = _blurred(x, torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1))
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(found[0], x[0])
    offset = torch.arange(33.0) - 16
    for image, deviation in zip(found[1:], (1, 2), strict=True):
        spread = (image[0].sum(0) * offset**2).sum()
        assert float(spread) == pytest.approx(deviation**2, rel=0.02)


def test_demosaicing_keeps_what_each_place_sees():
    x = photograph().repeat(40, 1, 1, 1)
    phases: set[tuple[int, int]] = set()
    for image, found in zip(x, _demosaiced(x, _Draw(x, generator())), strict=True):
        assert 25 < psnr_db(found, image) < 50
        kept = [
            (top, left)
            for top in range(2)
            for left in range(2)
            if torch.allclose(found[0, top::2, left::2], image[0, top::2, left::2])
        ]
        ((top, left),) = kept
        phases.add((top, left))
        for channel, row, column in (
            (1, top, 1 - left),
            (1, 1 - top, left),
            (2, 1 - top, 1 - left),
        ):
            place = channel, slice(row, None, 2), slice(column, None, 2)
            torch.testing.assert_close(found[place], image[place])
    assert len(phases) == 4
    flat = torch.full((1, 3, 9, 7), 0.3)
    torch.testing.assert_close(_demosaiced(flat, _Draw(flat, generator())), flat)


def test_the_same_state_gives_the_same_images():
    x = photograph().repeat(6, 1, 1, 1)
    one, other, third = (Degradations()(x, generator(seed)) for seed in (7, 7, 8))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(one, third)


def test_shares_are_as_said():
    x = photograph(32, 48).repeat(600, 1, 1, 1)
    same = (Degradations()(x, generator()) - x).abs().amax(dim=(1, 2, 3)) < 1e-6
    # Neither noise (0.1) nor a file (0.75).
    assert float(same.float().mean()) == pytest.approx(0.075, abs=0.03)
    assert torch.equal(NONE(x, generator()), x)
    with pytest.raises(ValueError, match="shares"):
        Degradations(gaussian=0.6, sensor=0.6)


def test_files_and_rounding_leave_steps_of_8_bits():
    x = photograph(32, 48).repeat(40, 1, 1, 1)
    for shares in ({"jpeg": 1.0}, {"rounded": 1.0, "jpeg": 0.0}):
        steps = 255 * Degradations(**shares)(x, generator(5))
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
        assert steps.min() >= 0
        assert steps.max() <= 255


def test_a_part_of_a_file_has_its_blocks_elsewhere(monkeypatch: pytest.MonkeyPatch):
    places = iter((3, 5))
    monkeypatch.setattr(_Draw, "whole", lambda self, end: torch.full((1, 1, 1, 1), next(places)))
    x = photograph()
    ones = torch.ones(1)
    part = replace(NONE, jpeg=1, shifted=1, quality=(10, 10), subsampled=0)(x, generator())
    whole = jpeg(x, 10 * ones, ones < 0)
    assert part.shape == x.shape
    assert not torch.equal(part, whole)

    def steps_at(image: Tensor, left: int) -> float:
        """Return how much larger differences are across the edges of blocks than elsewhere."""
        across = (image[..., 1:] - image[..., :-1]).abs().mean(dim=(0, 1, 2))
        edges = torch.arange(len(across)) % 8 == (7 - left) % 8
        return float(across[edges].mean() / across[~edges].mean())

    assert steps_at(whole, 0) > 1.3 * steps_at(whole, 5)
    assert steps_at(part, 5) > 1.3 * steps_at(part, 0)


def test_everything_is_finite_at_the_ends():
    for level in (0.0, 1.0):
        x = torch.full((60, 3, 16, 24), level)
        assert Degradations()(x, generator(9)).isfinite().all()


def test_every_image_has_a_window_of_its_own():
    x = torch.arange(2 * 3 * 5 * 6.0).view(2, 3, 5, 6)
    found = _window(x, torch.tensor([-1, 2]), torch.tensor([0, -3]), 4, 7)
    padded = functional.pad(x, (3, 3, 3, 3), mode="replicate")
    assert torch.equal(found[0], padded[0, :, 2:6, 3:10])
    assert torch.equal(found[1], padded[1, :, 5:9, 0:7])


def test_grey_images_stay_grey():
    x = photograph(32, 48).repeat(60, 1, 1, 1)
    is_grey = torch.arange(60).view(60, 1, 1, 1) < 30
    x = torch.where(is_grey, x.mean(1, keepdim=True), x)
    found = Degradations(jpeg=0.5)(x, generator(2), is_grey)
    spread = (found - found.mean(1, keepdim=True)).abs().amax((1, 2, 3))
    assert float(spread[:30].max()) < 1e-6
    assert float(spread[30:].min()) > 0.01
