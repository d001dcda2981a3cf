import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from einops import rearrange

from vdit.conditions.caption import Caption
from vdit.conditions.condition import Condition
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.models.backbone import Stream, Transformer
from vdit.models.native.dit import NativeDiT
from vdit.text.encoder import TextEncoder, pad
from vdit.types import ClipBatch, DenoiserInput, InputError, Slot, Tokens


class Lengths(TextEncoder):
    """A prompt is one token a word, each the number of its letters."""

    @property
    def width(self) -> int:
        return 6

    @property
    def fingerprint(self) -> str:
        return "lengths"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        rows = [[float(len(word)) for word in prompt.split()] or [0.0] for prompt in prompts]
        ramp = torch.linspace(-1, 1, 6, dtype=torch.float64)
        return pad([torch.tensor(row, dtype=torch.float64)[:, None] * ramp for row in rows])


class Deaf(Transformer):
    """Takes no conditions at all; its velocity is sigma everywhere."""

    slots = frozenset()
    latent_channels, text_width = 4, 6

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList()

    def embed(self, inputs: DenoiserInput):
        x = rearrange(inputs.latents, "b c t h w -> b (t h w) c")
        empty = torch.zeros(len(x), 0, 4)
        t, h, w = inputs.latents.shape[2:]
        sigma = rearrange(inputs.sigma, "b 1 1 1 -> b 1 1")
        return x, Stream((t, h, w), sigma, torch.zeros(1, 1, 1), empty, empty[..., 0].bool())

    def unembed(self, x, stream: Stream):
        t, h, w = stream.grid
        return rearrange(torch.ones_like(x) * stream.vector, "b (t h w) c -> b c t h w", t=t, h=h, w=w)

    def check_shape(self, t: int, h: int, w: int) -> None: ...


def denoiser(drop: float = 0.1) -> Denoiser:
    torch.manual_seed(0)
    backbone = NativeDiT(latent_channels=4, text_width=6, width=32, depth=1, heads=2)
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    # In float64: convolutions differ in the last bits from batch size to batch size.
    return Denoiser(backbone, [Caption(Lengths(), drop)]).double()


def batch(count: int) -> ClipBatch:
    captions = tuple("one three seventeen"[: 5 + i % 10] for i in range(count))
    return ClipBatch(tuple(map(str, range(count))), captions, torch.full((count,), 8.0))


def unasked(count: int) -> ClipBatch:
    return replace(batch(count), captions=("",) * count)


def test_slots_the_backbone_has_no_place_for_are_refused():
    with pytest.raises(InputError, match="Deaf does not accept text; it accepts "):
        Denoiser(Deaf(), [Caption(Lengths())])
    model = Denoiser(Deaf(), [])
    velocity = model(torch.zeros(2, 4, 1, 2, 2), torch.tensor([0.2, 0.7]), ())
    assert velocity.amin((1, 2, 3, 4)).tolist() == velocity.amax((1, 2, 3, 4)).tolist()
    assert velocity.amin((1, 2, 3, 4)).tolist() == pytest.approx([0.2, 0.7])


def test_forward_gives_every_clip_its_sigma_and_its_caption():
    model, latents = denoiser(), torch.randn(3, 4, 2, 4, 4).double()
    sigma, signals = torch.tensor([0.1, 0.5, 0.9]).double(), model.signals(batch(3))
    velocity = model(latents, sigma, signals)
    assert velocity.shape == latents.shape
    for i in range(3):
        own = tuple(Tokens(s.values[i : i + 1], s.mask[i : i + 1]) for s in signals)
        torch.testing.assert_close(model(latents[i : i + 1], sigma[i : i + 1], own), velocity[i : i + 1])
    assert not torch.allclose(model(latents, sigma.flip(0), signals), velocity, atol=1e-2)
    assert not torch.allclose(model(latents, sigma, model.against(unasked(3), signals)), velocity, atol=1e-2)


def test_both_branches_in_one_evaluation_are_the_branches():
    model, latents = denoiser(), torch.randn(2, 4, 2, 4, 4).double()
    sigma, signals = torch.tensor([0.3, 0.3]).double(), model.signals(batch(2))
    nulls = model.against(unasked(2), signals)
    both = model(torch.cat([latents, latents]), torch.cat([sigma, sigma]), model.stack([signals, nulls]))
    conditional, null = both.chunk(2)
    torch.testing.assert_close(conditional, model(latents, sigma, signals), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(null, model(latents, sigma, nulls), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.6, 1.0])
def test_conditions_are_hidden_as_often_as_asked(drop: float):
    count = 4000
    model = denoiser(drop)
    signals = model.signals(batch(count))
    [hidden] = model.drawn(batch(count), Draws(0))
    rate = (hidden.values.abs().amax((1, 2)) == 0).float().mean().item()
    assert abs(rate - drop) <= 4 * math.sqrt(drop * (1 - drop) / count)
    shown = hidden.values.abs().amax((1, 2)) > 0
    n = hidden.values.shape[1]  # of the longest text that is left
    assert torch.equal(hidden.values[shown], signals[0].values[shown, :n])


def test_what_is_hidden_is_a_function_of_the_draws():
    model = denoiser(0.5)
    first, again, other = (model.drawn(batch(64), Draws(seed))[0].values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_two_conditions_are_hidden_independently():
    backbone = denoiser().backbone
    conditions: list[Condition] = [Caption(Lengths(), 0.5), Caption(Lengths(), 0.5)]
    model = Denoiser(backbone, conditions)
    hidden = model.drawn(batch(400), Draws(0))
    a, b = ((tokens.values.abs().amax((1, 2)) == 0) for tokens in hidden)
    assert 0.15 < (a & b).float().mean() < 0.35


def test_the_frozen_encoder_is_no_part_of_the_weights():
    model = denoiser()
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone"}
    assert Slot.TEXT in model.backbone.slots


@pytest.mark.parametrize("before", [True, False])
def test_it_is_left_as_it_was_found_also_after_a_failure(before: bool):
    it = denoiser().train(before)

    def fail() -> None:
        with it.evaluating():
            assert not it.training
            assert not it.backbone.training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert it.training is before
    assert it.backbone.training is before
