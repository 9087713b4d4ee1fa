"""The model: what a pass codes, and starting a model from another one."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from support import TINY_RECIPE

from export.architecture import Architecture
from export.inherit import inherit
from export.model import Model
from export.networks import Modulation, at_level, from_phases, pass_order, to_phases
from export.recipe import Recipe
from vaecodec.bundle import PASSES

TINY = Recipe.from_dict(TINY_RECIPE).model


def trained(arch: Architecture) -> Model:
    """Return a model without a zero in it, as if it had been trained."""
    torch.manual_seed(1)
    model = Model(arch)
    model.start_linear(torch.randn(arch.latent, 768) / 28, torch.full((arch.latent,), 2.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def outputs(model: Model, anchor: torch.Tensor) -> list[torch.Tensor]:
    x = torch.rand(2, 3, 128, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = model(x, anchor)
    return [out[name] for name in ("x_hat", "residual", "scale_index", "z")]


def test_phases_come_back():
    t = torch.randn(2, 3, 4, 6)
    phases = to_phases(t)
    assert torch.equal(phases[:, 3 * 1 + 2], t[:, 2, 0::2, 1::2])
    assert torch.equal(from_phases(phases), t)


def test_passes_follow_the_rule_of_the_format():
    channels, side = 8, 4
    pass_of = torch.empty(1, channels, side, side, dtype=torch.long)
    for c, i, j in product(range(channels), range(side), range(side)):
        pass_of[0, c, i, j] = (c % 4) ^ (2 * (i % 2) + (j % 2))
    phases = to_phases(pass_of)
    for index in range(PASSES):
        assert torch.all(phases[:, pass_order(index, channels)] == index)
    every = torch.cat([pass_order(k, channels) for k in range(PASSES)])
    assert sorted(every.tolist()) == list(range(PASSES * channels))


def test_a_pass_sees_only_what_was_coded_before():
    """Changing a latent changes no prediction of its own pass or of an earlier one."""
    model = trained(TINY)
    y = 3 * torch.randn(1, TINY.latent, 8, 8)
    features = torch.randint(-200, 200, (1, TINY.prior, 8, 8)).float()
    anchor = torch.tensor([30.0])
    with torch.no_grad():
        before = model.code(y, features, anchor)
        for c, i, j in ((0, 2, 2), (1, 3, 4), (6, 5, 5)):
            changed = y.clone()
            changed[0, c, i, j] += 20
            after = model.code(changed, features, anchor)
            index = (c % 4) ^ (2 * (i % 2) + (j % 2))
            end = TINY.latent * (index + 1)
            assert torch.equal(before.scale_index[:, :end], after.scale_index[:, :end])
            moved = (before.residual != after.residual)[:, :end]
            assert int(moved.sum()) == 1
            if index < PASSES - 1:
                assert not torch.equal(before.residual[:, end:], after.residual[:, end:])


def test_a_larger_model_starts_as_the_same_function():
    source = trained(TINY)
    larger = replace(TINY, blocks_8=TINY.blocks_8 + 1, blocks_16=3, context_blocks=2)
    model = Model(larger)
    inherit(model, source)
    anchor = torch.tensor([3.0, 40.0])
    for before, after in zip(outputs(source, anchor), outputs(model, anchor), strict=True):
        assert torch.equal(before, after)


def test_larger_kernels_start_as_the_same_function():
    small = replace(TINY, kernel_8=3)
    source = trained(small)
    model = Model(replace(TINY, kernel_8=5, blocks_8=TINY.blocks_8 + 1))
    inherit(model, source)
    anchor = torch.tensor([3.0, 40.0])
    for before, after in zip(outputs(source, anchor), outputs(model, anchor), strict=True):
        assert torch.allclose(before, after, atol=1e-4)
    assert model.arch.halo == TINY.blocks_16 + 2
    with pytest.raises(ValueError, match="kernels of 5"):
        inherit(Model(small), Model(replace(TINY, kernel_8=5)))
    with pytest.raises(ValueError, match="odd"):
        replace(TINY, kernel_8=4)


def test_levels_keep_their_meaning_where_the_range_of_lmbda_moves():
    """The same lmbda gives the same gains and modulation, wherever its level now stands."""
    source = trained(TINY)
    moved = replace(TINY, lmbda_min=TINY.lmbda_min / 2, lmbda_max=TINY.lmbda_max / 2)
    model = Model(moved)
    inherit(model, source)
    # Knots of the new tables, some of them below the old range.
    anchor = torch.arange(0.0, 64.0, moved.knot_spacing)
    old = source.arch.anchor(moved.lmbda(anchor))
    assert old[0] < 0
    assert torch.allclose(moved.lmbda(anchor), source.arch.lmbda(old))
    for new_table, old_table in (
        (model.log_gain, source.log_gain),
        (model.g_a.level_8.shift, source.g_a.level_8.shift),
    ):
        assert torch.allclose(at_level(new_table, anchor), at_level(old_table, old), atol=1e-5)


def test_a_wider_model_starts_as_the_same_function():
    source = trained(TINY)
    wider = {name: getattr(TINY, name) + 16 for name in ("channels_8", "channels_16", "prior")}
    model = Model(replace(TINY, **wider, context_blocks=TINY.context_blocks + 1))
    inherit(model, source)
    anchor = torch.tensor([3.0, 40.0])
    for before, after in zip(outputs(source, anchor), outputs(model, anchor), strict=True):
        # Only float networks add their zeros in another order.
        assert torch.allclose(before, after, atol=1e-4)
    x = torch.rand(1, 3, 64, 64)
    model(x, anchor[:1])["x_hat"].square().sum().backward()
    grown = model.g_s.blocks_16[0].project.weight.grad
    assert grown is not None
    assert grown[:, TINY.channels_16 :].abs().sum() > 0


def test_further_latents_code_what_the_inherited_ones_leave():
    source = trained(TINY)
    model = Model(replace(TINY, latent=768))
    model.start_linear(torch.eye(768), torch.full((768,), 2.0))
    inherit(model, source)
    anchor, x = torch.tensor([40.0]), torch.rand(1, 3, 64, 64)
    old, new = source(x, anchor), model(x, anchor)
    for name in ("residual", "scale_index"):
        # Pass, place of the 2x2 square, channel at this place.
        split = [out[name].unflatten(1, (PASSES, PASSES, -1)) for out in (old, new)]
        assert torch.allclose(split[1][:, :, :, : TINY.latent // PASSES], split[0], atol=1e-3)
    patch = torch.randn(768)
    left = patch - source.g_s.linear @ (source.g_a.linear @ patch)
    assert torch.allclose(model.g_a.linear[TINY.latent :] @ patch, left[TINY.latent :], atol=1e-4)


def test_a_smaller_model_is_refused():
    source = trained(TINY)
    with pytest.raises(ValueError, match="another number of hyper"):
        inherit(Model(replace(TINY, hyper=2 * TINY.hyper)), source)
    with pytest.raises(ValueError, match="larger"):
        inherit(Model(replace(TINY, channels_8=8)), source)
    with pytest.raises(ValueError, match="larger"):
        inherit(Model(TINY), Model(replace(TINY, blocks_16=TINY.blocks_16 + 1)))


def test_modulation_starts_as_the_identity():
    x = torch.randn(3, 8, 4, 4)
    assert torch.equal(Modulation(10, 8)(x, torch.tensor([0.0, 31.4, 63.0])), x)
