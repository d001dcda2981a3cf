"""Given frames: the layouts of the published models, and what known latents mean for loss and solver."""

import dataclasses

import pytest
import torch

from vdit.codecs.tiling import TiledCodec
from vdit.codecs.wan.codec import WanCodec
from vdit.conditions.frames import ImageChannels, ImageTokens, KnownFrames, frame_mask
from vdit.denoiser import Denoiser
from vdit.flow.noise import Uniform
from vdit.flow.objective import FlowMatching, noised
from vdit.models.wan.dit import WanDiT
from vdit.text.encoder import ImageEncoder
from vdit.train.step import FlowStep
from vdit.types import ClipBatch, DenoiserInput, Given, InputError


@pytest.fixture(scope="module")
def codec() -> TiledCodec:
    torch.manual_seed(0)
    return TiledCodec(
        WanCodec(latent_channels=4, encoder_width=4, decoder_width=4).eval().requires_grad_(False)
    )


def clips(frames: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Means(ImageEncoder):
    """Three tokens an image: its mean, less and more."""

    @property
    def fingerprint(self) -> str:
        return "means"

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean - 1, mean, mean + 1], dim=1)[..., None].expand(-1, -1, 5)


def test_the_mask_of_a_first_and_a_last_frame_is_that_of_wan():
    given = torch.zeros(1, 13, dtype=torch.bool)
    given[:, [0, -1]] = True
    assert frame_mask(given, 4)[0].T.int().tolist() == [
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize(("places", "at"), [("first", [0]), ("first_and_last", [0, -1])])
def test_channels_are_the_mask_and_the_latents_of_a_clip_that_is_grey_elsewhere(
    places, at, codec: TiledCodec
):
    condition, pixels = ImageChannels(places), clips()
    found = condition.seen(condition.given(pixels), codec)
    grey = torch.zeros_like(pixels)
    grey[:, :, at] = pixels[:, :, at]
    assert found.shape == (2, 8, 3, 2, 3)
    torch.testing.assert_close(found[:, 4:], codec.encode(grey))
    assert found[:, :4, 0].eq(1).all()
    assert found[:, :4, 1].eq(0).all()
    assert found[0, :4, 2, 0, 0].tolist() == ([0, 0, 0, 1] if -1 in at else [0, 0, 0, 0])


def test_without_a_mask_the_latents_are_those_of_the_image_alone(codec: TiledCodec):
    condition, pixels = ImageChannels(mask=False), clips()
    found = condition.seen(condition.given(pixels), codec)
    torch.testing.assert_close(found[:, :, :1], codec.encode(pixels[:, :, :1]))
    assert found[:, :, 1:].eq(0).all()


def test_tokens_of_both_images_stand_one_after_the_other(codec: TiledCodec):
    condition, pixels = ImageTokens(Means(), "first_and_last"), clips()
    found = condition.seen(condition.given(pixels), codec)
    assert found.shape == (2, 6, 5)
    means = pixels.mean(dim=(1, 3, 4))  # b t
    torch.testing.assert_close(found[:, [1, 4], 0], means[:, [0, -1]])
    assert condition.fingerprint != ImageTokens(Means(), "first").fingerprint


def known(codec: TiledCodec) -> tuple[KnownFrames, torch.Tensor]:
    condition = KnownFrames()
    return condition, condition.seen(condition.given(clips()), codec)


def test_known_latents_are_clean_and_have_no_sigma(codec: TiledCodec):
    condition, signal = known(codec)
    noise = torch.randn(2, 4, 3, 2, 3)
    inputs = condition.apply(DenoiserInput(noise, torch.full((2, 1, 1, 1), 0.7)), signal)
    torch.testing.assert_close(inputs.latents[:, :, :1], codec.encode(clips()[:, :, :1]))
    assert torch.equal(inputs.latents[:, :, 1:], noise[:, :, 1:])
    assert inputs.sigma[:, 0].eq(0).all()
    assert inputs.sigma[:, 1:].eq(0.7).all()


def test_known_latents_carry_no_loss_and_no_gradient(codec: TiledCodec):
    condition, signal = known(codec)
    objective, x0 = FlowMatching(Uniform()), codec.encode(clips())
    at = noised(x0, torch.tensor([0.3, 0.8]), torch.randn_like(x0))
    velocity = torch.randn_like(x0, requires_grad=True)
    loss = objective.loss(velocity, at, condition.known(signal).mask)
    loss.sum().backward()
    assert velocity.grad is not None
    assert velocity.grad[:, :, 0].eq(0).all()
    assert velocity.grad[:, :, 1:].ne(0).all()
    rest = (velocity - at.velocity)[:, :, 1:].square().flatten(1).mean(1)
    torch.testing.assert_close(loss, rest)
    nothing = torch.zeros_like(condition.known(signal).mask)
    torch.testing.assert_close(objective.loss(velocity, at, nothing), objective.loss(velocity, at))


def test_a_condition_that_is_hidden_leaves_a_model_of_text_alone(codec: TiledCodec):
    condition, signal = known(codec)
    inputs = DenoiserInput(torch.randn(2, 4, 3, 2, 3), torch.full((2, 1, 1, 1), 0.7))
    told = condition.apply(inputs, condition.null(signal))
    assert torch.equal(told.latents, inputs.latents)
    assert told.sigma.eq(0.7).all()
    mixed = condition.mix(signal, condition.null(signal), torch.tensor([True, False]))
    assert mixed[0].eq(0).all()
    assert torch.equal(mixed[1], signal[1])


def asked(given: Given | None) -> ClipBatch:
    return ClipBatch(("a",), ("",), torch.ones(1), given=given)


def test_what_is_given_counts_before_what_the_clip_shows(codec: TiledCodec):
    condition, pixels = ImageChannels(), clips()[:1]
    other = condition.given(-pixels)
    batch = ClipBatch(("a",), ("",), torch.ones(1), pixels=pixels)
    torch.testing.assert_close(
        condition.feature(batch, codec), condition.seen(condition.given(pixels), codec)
    )
    torch.testing.assert_close(
        condition.feature(dataclasses.replace(batch, given=other), codec), condition.seen(other, codec)
    )
    with pytest.raises(InputError, match="and got none"):
        condition.check(asked(None))
    KnownFrames().check(asked(None))


@pytest.mark.parametrize(
    ("condition", "places", "told"),
    [
        (ImageChannels(), [], r"a first frame \(--image\), and got none"),
        (ImageChannels(), [0, 8], r"a first frame \(--image\), and got frames \[0, 8\]"),
        (ImageChannels("first_and_last"), [0], r"a first and a last frame .*, and got frames \[0\]"),
        (KnownFrames(), [8], r"a first frame \(--image\), and got frames \[8\]"),
    ],
)
def test_frames_at_other_places_are_refused(condition, places: list[int], told: str):
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, places] = True
    with pytest.raises(InputError, match=told):
        condition.check(asked(Given(torch.zeros(1, 3, 9, 16, 24), mask)))


def test_a_step_reads_features_and_hides_them(codec: TiledCodec):
    condition, signal = known(codec)
    x0 = codec.encode(clips())
    batch = ClipBatch(("a", "b"), ("", ""), torch.ones(2), latents=x0, features={"known_frames": signal})
    seen: list[DenoiserInput] = []

    class Backbone(WanDiT):
        def forward(self, inputs: DenoiserInput) -> torch.Tensor:
            seen.append(inputs)
            return torch.zeros_like(inputs.latents)

    backbone = Backbone(latent_channels=4, text_width=6, width=24, hidden=32, heads=2, depth=1)
    denoiser = Denoiser(backbone, [condition])
    step = FlowStep(denoiser, FlowMatching(Uniform()))
    step(denoiser, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0].latents[:, :, 0], x0[:, :, 0])
    condition.drop = 1.0
    step(denoiser, batch, torch.Generator().manual_seed(0))
    assert not torch.allclose(seen[1].latents[:, :, 0], x0[:, :, 0], atol=1e-2)
