from dataclasses import replace
from typing import Literal

import pytest
import torch
from einops import rearrange
from torch import Tensor

from vdit.codecs.native.codec import NativeCodec
from vdit.draws import Draws
from vdit.eval.perceptual import PerceptualDistance
from vdit.train.codec_step import CodecLoss, CodecStep, Lengths
from vdit.types import ClipBatch, InputError

WHOLE = Lengths({})


def tiny_codec() -> tuple[NativeCodec, ClipBatch]:
    torch.manual_seed(0)
    codec = NativeCodec(4, 2, (6, 8, 8), (0, 1, 1), (1, 0, 1), ((2, 2), (2, 1)))
    pixels = torch.rand(2, 3, 5, 8, 8) * 2 - 1
    return codec, ClipBatch(("a", "b"), ("", ""), torch.ones(2), pixels=pixels)


@pytest.mark.parametrize("pixels", ["squared", "absolute"])
def test_a_codec_step_is_an_error_of_pixels_and_a_little_kl(pixels: Literal["squared", "absolute"]):
    codec, clips = tiny_codec()
    assert clips.pixels is not None
    step = CodecStep(CodecLoss(pixels, kl=0.1), WHOLE)
    out = step(codec, clips, Draws(0))
    again, posterior = codec(clips.pixels, Draws(0))
    error = again - clips.pixels
    squared = error.square().mean((1, 2, 3, 4))
    of_pixels = squared if pixels == "squared" else error.abs().mean((1, 2, 3, 4))
    torch.testing.assert_close(out.loss, of_pixels + 0.1 * posterior.kl())
    torch.testing.assert_close(out.metrics["squared_error"], squared.mean())
    torch.testing.assert_close(out.metrics["kl"], posterior.kl().mean())
    assert out.metrics.keys() == {"squared_error", "kl"}
    assert not any(value.requires_grad for value in out.metrics.values())
    with pytest.raises(InputError, match="a codec step needs pixels"):
        step(codec, replace(clips, pixels=None), Draws(0))


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
        found[weight] = CodecStep(loss, WHOLE)(codec, clips, Draws(0))
        assert judge.shown == 3
    extra = found[2.0].loss - found[0.0].loss
    torch.testing.assert_close(extra.mean(), 2 * found[2.0].metrics["perceptual"])
    assert extra.mean() > 0
    extra.mean().backward()
    assert codec.linear.to_block.bias.grad is not None
    every = CodecLoss(perceptual=judge, perceptual_frames=99)
    CodecStep(every, WHOLE)(codec, clips, Draws(0))
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


def test_lengths_come_as_often_as_asked_and_use_the_clip():
    lengths, pixels = Lengths({1: 0.5, 4: 1.5, 3: 1.0}), torch.arange(6.0).view(1, 1, 6, 1, 1)
    pixels = torch.cat([pixels, pixels + 10]).expand(2, 3, 6, 2, 2)
    seen = [lengths.cut(pixels, Draws(seed)) for seed in range(600)]
    counts = {n: sum(clip.shape[2] == n for clip in seen) for n in (1, 3, 4)}
    assert sum(counts.values()) == 600
    for n, share in ((1, 1 / 6), (3, 1 / 3), (4, 1 / 2)):
        assert abs(counts[n] - 600 * share) < 50
    for n, clips, starts in ((1, 12, {0}), (3, 4, {0}), (4, 2, {0, 1, 2})):
        these = [clip for clip in seen if clip.shape[2] == n]
        assert {len(clip) for clip in these} == {clips}
        assert {int(clip[0, 0, 0, 0, 0]) for clip in these} == starts
    for clip in seen:
        torch.testing.assert_close(clip.diff(dim=2), torch.ones_like(clip.diff(dim=2)))  # frames in a row
    assert torch.equal(lengths.cut(pixels, Draws(3)), seen[3])
    assert WHOLE.cut(pixels, Draws(0)) is pixels
    assert Lengths({9: 1.0}).cut(pixels, Draws(0)).shape[2] == 6  # shorter clips stay whole


@pytest.mark.parametrize("shares", [{0: 1.0}, {5: 0.0}, {5: float("nan")}, {1: -1.0}])
def test_lengths_that_mean_nothing_are_refused(shares: dict[int, float]):
    with pytest.raises(InputError, match=r"lengths has .* must be above 0"):
        Lengths(shares)


def test_a_codec_step_sees_the_lengths_it_is_given_and_answers_for_each_clip():
    codec, clips = tiny_codec()
    shapes = []
    codec.register_forward_pre_hook(lambda _, arguments: shapes.append(tuple(arguments[0].shape[:3])))
    step = CodecStep(CodecLoss(), Lengths({1: 1.0, 5: 1.0}))
    for seed in range(12):
        assert step(codec, clips, Draws(seed)).loss.shape == (2,)
    assert set(shapes) == {(10, 3, 1), (2, 3, 5)}


def test_the_loss_of_a_clip_is_the_mean_over_what_was_cut_out_of_it():
    codec, clips = tiny_codec()
    assert clips.pixels is not None
    images = rearrange(clips.pixels, "b c t h w -> (b t) c 1 h w")
    step = CodecStep(CodecLoss(kl=0.0), Lengths({1: 1.0}))
    posterior = codec.posterior(images)
    again = codec.reconstruct(codec.disturbed(posterior, after_two_draws()))
    expected = rearrange((again - images).square().mean((1, 2, 3, 4)), "(b t) -> b t", t=5).mean(1)
    torch.testing.assert_close(step(codec, clips, Draws(0)).loss, expected)


def after_two_draws() -> Draws:
    draws = Draws(0)
    draws.same(2)
    return draws
