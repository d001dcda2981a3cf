import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vdit.models.native.dit import NativeDiT
from vdit.models.patches import sigma_rows, token_sigma
from vdit.nn.precondition import precondition
from vdit.types import Appended, DenoiserInput, InputError, Slot, Tokens


def tiny(**changed) -> NativeDiT:
    torch.manual_seed(0)
    sizes = {"latent_channels": 4, "text_width": 6, "width": 32, "depth": 2, "heads": 2, "patch": (1, 2, 2)}
    return NativeDiT(**(sizes | changed))


def awake(model: NativeDiT) -> NativeDiT:
    """The model with all weights at random, so that none of its paths is shut."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def some_input(sigma: Tensor | None = None, t: int = 3) -> DenoiserInput:
    generator = torch.Generator().manual_seed(2)
    text = Tokens(
        torch.randn(2, 5, 6, generator=generator),
        torch.tensor([[True] * 3 + [False] * 2, [True] * 5]),
    )
    latents = torch.randn(2, 4, t, 4, 6, generator=generator)
    return DenoiserInput(latents, torch.full((2, 1, 1, 1), 0.4) if sigma is None else sigma, text)


def in_double(inputs: DenoiserInput) -> DenoiserInput:
    assert inputs.text is not None
    text = Tokens(inputs.text.values.double(), inputs.text.mask)
    return DenoiserInput(inputs.latents.double(), inputs.sigma, text)


def test_a_fresh_model_gives_the_linear_guess_and_a_gradient():
    model, inputs = tiny(), some_input()
    velocity = model(inputs)
    assert velocity.shape == (2, 4, 3, 4, 6)
    guess = precondition(inputs.latents, inputs.sigma, torch.zeros_like(velocity))
    torch.testing.assert_close(velocity, guess)
    (velocity - 1).square().mean().backward()
    assert model.patch_out.weight.grad is not None
    assert model.patch_out.weight.grad.abs().max() > 0


def test_fresh_blocks_are_the_identity():
    model = tiny()
    x, stream = model.embed(some_input())
    for block in model.blocks:
        assert torch.equal(block(x, stream), x)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4, 6), (2, 1, 4, 6)])
@pytest.mark.parametrize("patch", [(1, 2, 2), (3, 1, 2)])
def test_equal_sigmas_a_token_are_one_sigma_a_clip(shape, patch):
    model = awake(tiny(patch=patch)).double()
    sigma = torch.tensor([0.3, 0.8]).reshape(2, 1, 1, 1)
    whole, each = (model(in_double(some_input(each))) for each in (sigma, sigma.expand(shape)))
    assert whole.abs().mean() > 0.1
    torch.testing.assert_close(each, whole, atol=1e-6, rtol=0)


def test_the_sigma_of_one_frame_counts():
    model = awake(tiny())
    base = torch.full((2, 3, 1, 1), 0.5)
    before = model(some_input(base))
    for frame in range(3):
        changed = base.clone()
        changed[:, frame] = 0.0
        difference = (model(some_input(changed)) - before).abs().amax(dim=(1, 3, 4))
        assert (difference[:, frame] > 1e-2).all()


def test_the_sigma_of_a_patch_is_that_of_its_noisiest_latent():
    sigma = torch.rand(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    tokens = token_sigma(sigma, (2, 2, 3), (4, 4, 6))
    assert tokens.shape == (2, 8)
    assert tokens[1, 3] == sigma[1, 0:2, 2:4, 3:6].max()
    assert torch.equal(token_sigma(sigma[:, :1, :1, :1], (2, 2, 3), (4, 4, 6)), sigma[:, :1, 0, 0])


def test_padding_of_the_text_does_not_count_and_its_tokens_do():
    model, inputs = awake(tiny()), some_input()
    assert inputs.text is not None
    values, mask = inputs.text
    expected = model(inputs)
    noisy = torch.where(mask[..., None], values, 100 * torch.randn_like(values))
    assert torch.equal(model(replace(inputs, text=Tokens(noisy, mask))), expected)
    longer = Tokens(torch.cat([values, torch.ones(2, 4, 6)], 1), torch.cat([mask, mask.new_zeros(2, 4)], 1))
    torch.testing.assert_close(model(replace(inputs, text=longer)), expected, atol=1e-5, rtol=1e-5)
    other = values.clone()
    other[:, 1] += 1
    assert (model(replace(inputs, text=Tokens(other, mask))) - expected).abs().max() > 1e-2


def test_runs_in_half_precision():
    model, inputs = awake(tiny()), some_input()
    assert inputs.text is not None
    text = Tokens(inputs.text.values.bfloat16(), inputs.text.mask)
    half = model.bfloat16()(replace(inputs, latents=inputs.latents.bfloat16(), text=text))
    assert half.dtype == torch.bfloat16
    full = model.float()(inputs)
    assert (half - full).abs().mean() < 0.1 * full.abs().mean()


def test_clips_of_a_batch_do_not_see_each_other():
    model, inputs = awake(tiny()).double(), in_double(some_input())
    assert inputs.text is not None
    alone = DenoiserInput(
        inputs.latents[1:], inputs.sigma[1:], Tokens(inputs.text.values[1:], inputs.text.mask[1:])
    )
    torch.testing.assert_close(model(alone), model(inputs)[1:], atol=1e-6, rtol=1e-6)


def test_every_latent_can_reach_every_velocity():
    model, inputs = awake(tiny()), some_input()
    latents = inputs.latents.clone().requires_grad_()
    model(replace(inputs, latents=latents))[0, 0, 2, 3, 5].backward()
    assert latents.grad is not None
    assert (latents.grad[0].abs().amax(0) > 0).all()
    assert (latents.grad[1] == 0).all()


@pytest.mark.parametrize("size", [(3, 5, 6), (3, 4, 7)])
def test_sizes_the_patch_does_not_divide_are_refused(size):
    model = tiny()
    with pytest.raises(InputError, match=rf"latents of 3x{size[1]}x{size[2]} do not divide into patches"):
        model(replace(some_input(), latents=torch.zeros(2, 4, *size)))
    with pytest.raises(InputError, match="do not divide"):
        tiny(patch=(2, 2, 2)).check_shape(3, 4, 6)
    model.check_shape(3, 4, 6)


def test_odd_heads_missing_text_and_foreign_slots_are_refused():
    with pytest.raises(InputError, match="width 32 over 3 heads"):
        tiny(heads=3)
    with pytest.raises(InputError, match="even number of channels"):
        tiny(width=30, heads=2)
    with pytest.raises(InputError, match="needs text tokens: give the denoiser a caption"):
        tiny()(replace(some_input(), text=None))
    tiny().check_slots(frozenset({Slot.TEXT}))


def test_builds_without_memory_on_meta():
    with torch.device("meta"):
        model = NativeDiT(width=4096, depth=40, heads=32)
        assert all(p.is_meta for p in model.parameters())
        text = Tokens(torch.zeros(1, 2, 576), torch.ones(1, 2))
        inputs = DenoiserInput(torch.zeros(1, 16, 3, 4, 4), torch.zeros(1, 1, 1, 1), text)
        assert model(inputs).shape == (1, 16, 3, 4, 4)
    assert sum(p.numel() for p in model.parameters()) > 10**10


def test_overfits_one_clip():
    torch.manual_seed(0)
    model = tiny(width=64)
    x0, noise, sigma = torch.randn(1, 4, 3, 4, 6), torch.randn(4, 4, 3, 4, 6), torch.rand(4, 1, 1, 1)
    text = Tokens(torch.randn(1, 3, 6).expand(4, -1, -1), torch.ones(4, 3, dtype=torch.bool))
    inputs = DenoiserInput(torch.lerp(x0, noise, sigma[..., None]), sigma, text)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (model(inputs) - (noise - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    left = (1 / (sigma**2 + (1 - sigma) ** 2)).mean().item()
    assert math.isclose(losses[0], left, rel_tol=0.3)
    assert losses[-1] < losses[0] / 100


def test_without_overlap_a_token_is_a_linear_map_of_its_own_patch():
    model = NativeDiT(latent_channels=2, text_width=4, width=8, depth=1, heads=2, patch=(1, 2, 2), overlap=0)
    x = torch.randn(1, 2, 2, 4, 4)
    tokens = model.patch_in(x)
    by_hand = torch.einsum("dchw,chw->d", model.patch_in.weight[:, :, 0], x[0, :, 1, 2:4, 0:2])
    assert torch.allclose(tokens[0, :, 1, 1, 0], by_hand + model.patch_in.bias, atol=1e-6)
    assert model.patch_out.kernel_size == (1, 1, 1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"latent_channels": -3}, "latent_channels is -3, but must be above 0"),
        ({"text_width": 0}, "text_width is 0"),
        ({"width": -128}, "width is -128"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"patch": (1, 0, 1)}, "patch is 0"),
        ({"mlp_ratio": -1.0}, "mlp_ratio is -1.0"),
        ({"overlap": -1}, "overlap -1 and extra_channels 0 must be 0 or more"),
    ],
)
def test_sizes_that_are_none_are_refused(changed: dict, says: str):
    with pytest.raises(InputError, match=says):
        tiny(**changed)


def test_a_fresh_camera_adds_nothing_and_learns_at_once():
    model, inputs = tiny(camera=(4, 8)), some_input()
    for block in model.blocks:  # what comes before is heard through them
        torch.nn.init.normal_(block.get_parameter("modulation.linear.weight"), std=0.2)
    torch.nn.init.normal_(model.patch_out.weight, std=0.2)
    rays = torch.randn(2, 24, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    told = model(replace(inputs, added=rays))
    assert torch.equal(told, model(inputs))
    told.square().sum().backward()
    assert model.camera_in is not None
    assert model.camera_in.conv.weight.grad is not None
    assert model.camera_in.conv.weight.grad.ne(0).any()
    moved = awake(tiny(camera=(4, 8)))
    assert not torch.allclose(
        moved(replace(inputs, added=rays)), moved(replace(inputs, added=-rays)), atol=1e-3
    )
    assert Slot.ADDED in model.slots
    assert Slot.ADDED not in tiny().slots


def test_images_that_are_not_there_are_not_heard():
    model, inputs = awake(tiny()), some_input()
    generator = torch.Generator().manual_seed(3)
    images = Appended(
        torch.randn(2, 2, 4, 4, 6, generator=generator),
        torch.tensor([[-1.0, 1.4]] * 2),
        torch.zeros(2, 2) > 0,
    )
    alone = model(inputs)
    torch.testing.assert_close(model(inputs.with_images(images)), alone, atol=2e-4, rtol=1e-4)
    seen = model(inputs.with_images(images._replace(mask=torch.tensor([[True, False], [False, False]]))))
    assert not torch.allclose(seen[0], alone[0], atol=1e-2)
    torch.testing.assert_close(seen[1], alone[1], atol=2e-4, rtol=1e-4)
    first = Appended(*(part[:, :1] for part in images))._replace(mask=torch.ones(2, 1) > 0)
    second = Appended(*(part[:, 1:] for part in images))._replace(mask=torch.ones(2, 1) > 0)
    one_way = model(inputs.with_images(first).with_images(second))
    torch.testing.assert_close(
        one_way, model(inputs.with_images(second).with_images(first)), atol=2e-4, rtol=1e-4
    )


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 4, 6)])
def test_one_row_serves_all_tokens_of_its_sigma(shape: tuple[int, int, int]):
    """A sigma a latent frame, said once a frame or once a latent."""
    model = awake(tiny()).double()
    frames = torch.tensor([0.0, 0.3, 0.9]).view(1, 3, 1, 1).expand(2, *shape)
    rows, row = sigma_rows(frames, (1, 2, 2), (3, 4, 6))
    assert rows.shape == ((2, 3) if shape == (3, 1, 1) else (2, 18))
    assert row is not None
    torch.testing.assert_close(rows[:, row], token_sigma(frames, (1, 2, 2), (3, 4, 6)))
    whole = frames[:, :, :1, :1].expand(2, 3, 4, 6)
    by_frame, by_latent = (model(in_double(some_input(sigma))) for sigma in (frames.double(), whole.double()))
    torch.testing.assert_close(by_frame, by_latent, atol=1e-11, rtol=1e-11)
