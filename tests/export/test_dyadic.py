from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.dyadic import (
    ACTIVATION_MAX,
    EXACT_STEPS,
    WEIGHT_MAX,
    DyadicConv,
    activate,
    clip_inward,
    round_straight_through,
    snap,
)

FINITE = st.floats(-50, 50, allow_subnormal=False)


@given(st.integers(1, 600), st.floats(1e-6, 1e4), FINITE, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_proof_obligation_holds_for_any_weights(fan_in, scale, bias, seed):
    torch.manual_seed(seed)
    layer = DyadicConv(fan_in, 3)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.fill_(bias)
    k, bits, k_bias = layer.quantised()
    assert k.abs().max() <= WEIGHT_MAX
    assert torch.equal(k, k.round())
    assert torch.equal(k_bias, k_bias.round())
    assert torch.equal(bits, bits.round())
    if scale < 1:
        assert layer.steps_bound().max() < EXACT_STEPS


def test_a_violation_is_noticed():
    """With the finest scale taken away, no choice of bits is left: the bound says so."""
    layer = DyadicConv(600, 1)
    with torch.no_grad():
        layer.weight.fill_(100.0)
    assert layer.quantised()[1].item() == 0
    assert layer.steps_bound().item() >= EXACT_STEPS


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (1, 4), (3, 8)])
def test_the_layer_equals_its_integers(kernel: int, groups: int):
    torch.manual_seed(0)
    layer = DyadicConv(8, 8, kernel, groups=groups)
    x = torch.randint(-ACTIVATION_MAX, ACTIVATION_MAX + 1, (2, 8, 5, 5)).float()
    k, bits, k_bias = (part.double() for part in layer.quantised())
    kernels = k.view(8, -1, layer.kernel, layer.kernel)
    expected = torch.nn.functional.conv2d(
        x.double(), kernels, k_bias, padding=layer.kernel // 2, groups=layer.groups
    ) / 2 ** bits.view(1, -1, 1, 1)
    assert torch.equal(layer(x).double(), expected)


def test_a_finer_grid_is_used_where_weights_are_small():
    layer = DyadicConv(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.01, -0.005, 0.002, 0.0]]))
    k, bits, _ = layer.quantised()
    assert bits.item() == 13
    assert torch.allclose(k * 2.0**-bits, layer.weight, atol=2.0**-14)


def test_dense_spatial_kernels_are_not_allowed():
    for groups in (1, 2):
        with pytest.raises(ValueError, match="1x1 or depthwise"):
            DyadicConv(4, 4, 3, groups=groups)


def test_gradients_pass_through_rounding():
    x = torch.tensor([0.3, 1.7, -2000.0], requires_grad=True)
    round_straight_through(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1]
    x.grad = None
    snap(x).sum().backward()
    assert x.grad.tolist() == [1, 1, 0]
    assert activate(torch.tensor([-80.0])).item() == -10


def test_clipping_lets_gradients_lead_back_in():
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    clip_inward(x, 0, 1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1]
    x.grad = None
    (-clip_inward(x, 0, 1)).sum().backward()
    assert x.grad.tolist() == [-1, -1, 0]
