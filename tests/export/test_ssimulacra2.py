from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from support import SAMPLES

from export.ssimulacra2 import LEAST_SIDE, distance, score
from vaecodec.bench.perceptual import ssimulacra2

PORTRAIT = SAMPLES / "portrait.jpg"
NIGHT = SAMPLES / "astronaut-sign.jpg"


def crop(path, width: int, height: int) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").crop((40, 60, 40 + width, 60 + height))


def coded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float().div(255)


@pytest.mark.parametrize("size", [(256, 256), (301, 267), (400, 257)])
@pytest.mark.parametrize("path", [PORTRAIT, NIGHT], ids=["portrait", "night"])
def test_scores_are_those_of_the_reference(path, size: tuple[int, int]):
    image = crop(path, *size)
    others = [coded(image, quality) for quality in (5, 30, 60, 85, 97)]
    others.append(image.filter(ImageFilter.GaussianBlur(1.5)))
    others.append(image.filter(ImageFilter.UnsharpMask(2, 200)))
    expected = [ssimulacra2(np.asarray(image), np.asarray(other)) for other in others]
    assert min(expected) < 40
    assert max(expected) > 88
    pairs = torch.cat([tensor(other) for other in others])
    found = score(distance(tensor(image).expand_as(pairs), pairs))
    np.testing.assert_allclose(found, expected, atol=0.3)


def test_equal_images_have_no_distance_and_a_finite_gradient():
    x = tensor(crop(PORTRAIT, 128, 128))
    other = x.clone().requires_grad_()
    found = distance(x, other)
    found.sum().backward()
    found = found.detach()
    assert float(found) < 0.02
    assert float(score(found)) > 98.5
    assert bool(torch.isfinite(other.grad).all())


def test_the_gradient_leads_to_images_that_look_alike():
    x = tensor(crop(PORTRAIT, 128, 128))
    other = tensor(coded(crop(PORTRAIT, 128, 128), 15)).requires_grad_()
    optimizer = torch.optim.Adam([other], 0.004)
    before = float(score(distance(x, other.detach())))
    for _ in range(30):
        optimizer.zero_grad()
        distance(x, other).sum().backward()
        optimizer.step()
    after = ssimulacra2(*(np.asarray(_image(t)) for t in (x, other.detach())))
    assert after > before + 10


def test_values_out_of_range_are_clipped():
    x = tensor(crop(NIGHT, 128, 128))
    wild = 1.4 * x - 0.2
    torch.testing.assert_close(distance(x, wild), distance(x, wild.clamp(0, 1)))


def test_images_that_are_too_small_are_refused():
    small = torch.zeros(1, 3, LEAST_SIDE - 1, 256)
    with pytest.raises(ValueError, match="128 pixels"):
        distance(small, small)


def _image(t: torch.Tensor) -> torch.Tensor:
    return (t[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
