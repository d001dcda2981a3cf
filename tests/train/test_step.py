from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from vdit.codecs.native.codec import NativeCodec
from vdit.conditions.caption import Caption
from vdit.denoiser import Denoiser, Signals
from vdit.eval.perceptual import PerceptualDistance
from vdit.flow.noise import Uniform
from vdit.flow.objective import FlowMatching
from vdit.flow.weight import InverseVariance
from vdit.models.native.dit import NativeDiT
from vdit.text.encoder import TextEncoder, pad
from vdit.train.step import CodecLoss, CodecStep, FlowStep
from vdit.types import ClipBatch, InputError, Tokens


class Lengths(TextEncoder):
    """A prompt is one token: its length."""

    @property
    def width(self) -> int:
        return 6

    @property
    def fingerprint(self) -> str:
        return "lengths"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        return pad([torch.full((1, 6), float(len(prompt))) for prompt in prompts])


def denoiser(drop: float) -> Denoiser:
    torch.manual_seed(0)
    backbone = NativeDiT(latent_channels=4, text_width=6, width=32, depth=1, heads=2)
    return Denoiser(backbone, [Caption(Lengths(), drop)])


def batch(count: int = 6) -> ClipBatch:
    latents = torch.randn(count, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    return ClipBatch(tuple("abcdef"), ("a star",) * count, torch.full((count,), 8.0), latents=latents)


class Oracle(nn.Module):
    """Knows the data, so it knows the velocity: (x - x0) / sigma. Remembers what it was asked."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0 = x0

    def forward(self, x: Tensor, sigma: Tensor, signals: Signals) -> Tensor:
        self.asked = (x, sigma, signals)
        return (x - self.x0) / sigma.view(-1, 1, 1, 1, 1)


def test_the_true_velocity_has_no_loss():
    clips = batch()
    assert clips.latents is not None
    step = FlowStep(denoiser(drop=0.0), FlowMatching(Uniform()))
    oracle = Oracle(clips.latents)
    loss = step(oracle, clips, torch.Generator().manual_seed(0)).loss
    assert loss.shape == (6,)
    torch.testing.assert_close(loss, torch.zeros(6), atol=1e-4, rtol=0)
    assert len(oracle.asked[1].unique()) == 6
    wrong = step(Oracle(-clips.latents), clips, torch.Generator().manual_seed(0)).loss
    assert (wrong > 1).all()


def test_a_flow_step_is_a_function_of_its_generator_and_hides_captions():
    clips, step = batch(), FlowStep(denoiser(drop=0.5), FlowMatching(Uniform()))
    asked = []
    for seed in (0, 0, 1):
        oracle = Oracle(torch.zeros(()))
        step(oracle, clips, torch.Generator().manual_seed(seed))
        asked.append(oracle.asked)
    assert torch.equal(asked[0][0], asked[1][0])
    assert not torch.equal(asked[0][0], asked[2][0])
    shown = torch.stack([tokens.values[:, 0, 0] for _, _, (tokens,) in asked])
    assert shown.unique().tolist() == [0.0, 6.0]  # the empty prompt and "a star"


def test_a_flow_step_weighs_its_loss_by_sigma():
    clips, oracle = batch(), Oracle(torch.zeros(()))
    assert clips.latents is not None
    plain, weighted = FlowMatching(Uniform()), FlowMatching(Uniform(), InverseVariance(2.0))
    loss, heavy = (
        FlowStep(denoiser(0.0), objective)(oracle, clips, torch.Generator().manual_seed(0)).loss
        for objective in (plain, weighted)
    )
    torch.testing.assert_close(heavy, weighted.weighted(loss, oracle.asked[1]))
    assert not torch.allclose(heavy, loss, rtol=0.1)


def test_a_flow_step_without_latents_is_refused():
    step = FlowStep(denoiser(0.0), FlowMatching(Uniform()))
    clips = ClipBatch(("a",), ("",), torch.ones(1), pixels=torch.zeros(1, 3, 1, 8, 8))
    with pytest.raises(InputError, match="a flow step needs latents: encode the clips"):
        step(nn.Identity(), clips, torch.Generator())


def tiny_codec() -> tuple[NativeCodec, ClipBatch]:
    torch.manual_seed(0)
    codec = NativeCodec(4, 2, (6, 8, 8), (0, 1, 1), (1, 0, 1), ((2, 2), (2, 1)))
    pixels = torch.rand(2, 3, 5, 8, 8) * 2 - 1
    return codec, ClipBatch(("a", "b"), ("", ""), torch.ones(2), pixels=pixels)


@pytest.mark.parametrize("pixels", ["squared", "absolute"])
def test_a_codec_step_is_an_error_of_pixels_and_a_little_kl(pixels: Literal["squared", "absolute"]):
    codec, clips = tiny_codec()
    assert clips.pixels is not None
    step = CodecStep(codec, CodecLoss(pixels, kl=0.1))
    out = step(codec, clips, torch.Generator().manual_seed(0))
    again, posterior = codec(clips.pixels, torch.Generator().manual_seed(0))
    error = again - clips.pixels
    squared = error.square().mean((1, 2, 3, 4))
    of_pixels = squared if pixels == "squared" else error.abs().mean((1, 2, 3, 4))
    torch.testing.assert_close(out.loss, of_pixels + 0.1 * posterior.kl())
    torch.testing.assert_close(out.metrics["squared_error"], squared.mean())
    torch.testing.assert_close(out.metrics["kl"], posterior.kl().mean())
    assert out.metrics.keys() == {"squared_error", "kl"}
    assert not any(value.requires_grad for value in out.metrics.values())
    with pytest.raises(InputError, match="a codec step needs pixels"):
        step(codec, batch(), torch.Generator())


class Brightness(PerceptualDistance):
    """Looks at nothing but how bright a frame is, and remembers how many it was shown."""

    name, features_name, least = "brightness", "", 1
    shown = 0

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.shown = a.shape[2]
        return (a.mean((1, 3, 4)) - b.mean((1, 3, 4))).abs().mean(1)

    def features(self, clips: Tensor) -> Tensor:
        return clips.mean((2, 3, 4))


def test_looks_count_on_as_many_frames_as_are_asked_for_and_move_the_codec():
    codec, clips = tiny_codec()
    judge = Brightness()
    found = {}
    for weight in (0.0, 2.0):
        loss = CodecLoss(kl=0.0, perceptual=judge, perceptual_weight=weight, perceptual_frames=3)
        found[weight] = CodecStep(codec, loss)(codec, clips, torch.Generator().manual_seed(0))
        assert judge.shown == 3
    extra = found[2.0].loss - found[0.0].loss
    torch.testing.assert_close(extra.mean(), 2 * found[2.0].metrics["perceptual"])
    assert extra.mean() > 0
    extra.mean().backward()
    assert codec.linear.to_block.bias.grad is not None
    every = CodecLoss(perceptual=judge, perceptual_frames=99)
    CodecStep(codec, every)(codec, clips, torch.Generator().manual_seed(0))
    assert judge.shown == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kl": -1.0}, "the loss's kl is -1.0"),
        ({"perceptual_weight": float("nan")}, "the loss's perceptual_weight is nan"),
        ({"perceptual_frames": 0}, "perceptual_frames is 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(settings: dict, told: str):
    with pytest.raises(InputError, match=told):
        CodecLoss(**settings)
