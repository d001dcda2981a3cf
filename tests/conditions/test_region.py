"""A known part of the picture: kept to the bit, without loss, and heard beside known frames."""

from dataclasses import replace

import pytest
import torch
from small_wan import Letters

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.caption import Caption
from vdit.conditions.known import KnownFrames
from vdit.conditions.region import KnownRegion
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.models.native.dit import NativeDiT
from vdit.sample.sampler import Sampler, Sampling, Wish
from vdit.types import ClipBatch, DenoiserInput, Given, InputError, Repaint


def clips(b: int = 2) -> torch.Tensor:
    return torch.rand(b, 3, 9, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def left_half(b: int = 2) -> Repaint:
    """The left half and a pixel more is painted anew."""
    mask = torch.zeros(b, 32, 32, dtype=torch.bool)
    mask[:, :, :17] = True
    return Repaint(clips(b), mask)


def model(*conditions: KnownFrames | KnownRegion) -> Denoiser:
    torch.manual_seed(0)
    backbone = NativeDiT(latent_channels=4, text_width=6, width=24, depth=2, heads=2, patch=(1, 1, 1))
    for value in backbone.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return Denoiser(backbone, [Caption(Letters()), *conditions]).eval()


def asked(condition: KnownRegion, codec: TiledCodec, repaint: Repaint | None) -> ClipBatch:
    latents = torch.randn(codec.encode(clips()).shape, generator=torch.Generator().manual_seed(5))
    batch = ClipBatch(("a", "b"), ("red", "green"), torch.ones(2), latents=latents, repaint=repaint)
    return replace(batch, features={condition.name: condition.feature(batch, codec)})


def test_what_the_mask_touches_is_unknown(codec: TiledCodec):
    condition = KnownRegion()
    signal = condition.signal(asked(condition, codec, left_half()))
    assert signal.known[0, 0, 0].tolist() == [[False, False, False, True]] * 4  # cells of 8 pixels
    torch.testing.assert_close(signal.latents, codec.encode(clips()))
    inputs = condition.fill(
        DenoiserInput(torch.zeros_like(signal.latents), torch.full((2, 1, 1, 1), 0.7)), signal
    )
    assert inputs.sigma.shape == (2, 1, 4, 4)
    assert inputs.sigma[:, 0, :, 3].eq(0).all()
    assert inputs.sigma[:, 0, :, :3].eq(0.7).all()
    assert torch.equal(inputs.latents[..., 3], signal.latents[..., 3])
    assert not inputs.latents[..., :3].any()


def test_what_is_outside_of_the_mask_comes_back_to_the_bit(codec: TiledCodec):
    sampler = Sampler(model(KnownRegion()), codec.codec, Sampling(frames=9, height=32, width=32, steps=2))
    latents = sampler.latents(["red"], [0], wish=Wish(repaint=left_half(1)))
    with torch.inference_mode():  # as the sampler has it, which rounds convolutions otherwise
        clean = codec.encode(clips(1))
    assert torch.equal(latents[..., 3], clean[..., 3])
    assert (latents[..., :3] - clean[..., :3]).abs().min(-1).values.mean() > 0.1
    plain = sampler.latents(["red"], [0])
    assert not torch.allclose(latents[..., 2], plain[..., 2], atol=1e-3)  # what is kept is heard


def test_training_hides_rectangles_of_some_clips(codec: TiledCodec):
    condition = KnownRegion(drop=0.5)
    latents = torch.zeros(400, 4, 3, 8, 8)
    batch = ClipBatch(("a",) * 400, ("",) * 400, torch.ones(400), latents=latents)
    known = condition.drawn(batch, Draws(0)).known[:, 0, 0]
    shown = known.flatten(1).any(1)
    assert shown.float().mean() == pytest.approx(0.5, abs=0.08)
    hidden = ~known[shown]
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None])  # rectangles
    assert set(rows.sum(1).tolist()) == set(columns.sum(1).tolist()) == {2, 3, 4, 5, 6}
    assert hidden.any(0).all()
    none = KnownRegion(drop=1.0).drawn(batch, Draws(0))
    assert none.known.shape == (400, 1, 1, 1, 1)
    assert not none.known.any()


def test_what_is_hidden_leaves_a_model_of_text_alone(codec: TiledCodec):
    condition = KnownRegion()
    denoiser, batch = model(condition), asked(condition, codec, left_half())
    caption, signal = denoiser.signals(batch)
    sigma = torch.tensor([0.4, 0.9])
    assert batch.latents is not None
    alone = Denoiser(denoiser.backbone, [Caption(Letters())])(batch.latents, sigma, (caption,))
    hidden = denoiser(batch.latents, sigma, (caption, condition.null(signal)))
    torch.testing.assert_close(hidden, alone, atol=1e-5, rtol=1e-5)
    nothing = denoiser(batch.latents, sigma, denoiser.signals(asked(condition, codec, None)))
    torch.testing.assert_close(nothing, alone, atol=1e-5, rtol=1e-5)
    both = condition.mix(signal, condition.null(signal), torch.tensor([True, False]))
    mixed = denoiser(batch.latents, sigma, (caption, both))
    torch.testing.assert_close(mixed[0], alone[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mixed[1], alone[1], atol=1e-2)


def test_known_frames_and_a_known_region_are_both_kept(codec: TiledCodec):
    sampler = Sampler(
        model(KnownFrames(), KnownRegion()), codec.codec, Sampling(frames=9, height=32, width=32, steps=2)
    )
    image = Given.of(clips(1).flip(2), [0])
    latents = sampler.latents(["red"], [0], wish=Wish(given=image, repaint=left_half(1)))
    with torch.inference_mode():
        first, rest = codec.encode(image.pixels[:, :, :1]), codec.encode(clips(1))
    torch.testing.assert_close(latents[:, :, 0, :, :3], first[:, :, 0, :, :3])
    torch.testing.assert_close(latents[..., 3], rest[..., 3])


def test_an_empty_mask_is_refused(codec: TiledCodec):
    sampler = Sampler(model(KnownRegion()), codec.codec, Sampling(frames=9, height=32, width=32, steps=2))
    nothing = Repaint(clips(1), torch.zeros(1, 32, 32, dtype=torch.bool))
    with pytest.raises(InputError, match="the mask is black everywhere: paint white what shall change"):
        sampler.latents(["red"], [0], wish=Wish(repaint=nothing))
