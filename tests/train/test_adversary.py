from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vdit.codecs.critic import PatchCritic
from vdit.codecs.native.codec import NativeCodec
from vdit.draws import Draws
from vdit.train.adversary import AdversarialStep, Adversary, Contest
from vdit.train.codec_step import CodecLoss, CodecStep, Lengths
from vdit.types import ClipBatch, InputError

WHOLE = Lengths({})
LOSS = CodecLoss("absolute", kl=0.1)


def contest() -> tuple[Contest, ClipBatch]:
    torch.manual_seed(0)
    codec = NativeCodec(4, 2, (6, 8, 8), (0, 1, 1), (1, 0, 1), ((2, 2), (2, 1)))
    pixels = torch.rand(2, 3, 5, 8, 8) * 2 - 1
    clips = ClipBatch(("a", "b"), ("", ""), torch.ones(2), pixels=pixels)
    return Contest(codec, PatchCritic((8, 8), groups=4)), clips


def gradients(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of every weight that got one, by name."""
    module.zero_grad()
    loss.mean().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def seed() -> Draws:
    return Draws(0)


def test_a_critic_has_an_opinion_on_every_patch_of_clips_and_images():
    critic = PatchCritic((8, 16, 16))
    for frames in (1, 5, 9):
        assert critic(torch.zeros(2, 3, frames, 32, 16)).shape == (2, 1, -(-frames // 4), 4, 2)
    for widths, groups in (((), 8), ((8, 12), 8), ((8,), 0)):
        with pytest.raises(InputError, match=r"widths .* must be one or more multiples"):
            PatchCritic(widths, groups)


def test_while_the_critic_is_alone_the_codec_learns_as_without_it_and_the_critic_by_hinge():
    both, clips = contest()
    assert clips.pixels is not None
    out = AdversarialStep(LOSS, WHOLE, Adversary(both.critic, alone=5))(both, clips, seed(), done=4)
    assert out.metrics["adversary_weight"] == 0
    found = gradients(both, out.loss)

    plain = CodecStep(LOSS, WHOLE)(both.codec, clips, seed())
    for name, expected in gradients(both.codec, plain.loss).items():
        torch.testing.assert_close(found[f"codec.{name}"], expected, atol=1e-7, rtol=1e-4)

    with torch.no_grad():
        again, _ = both.codec(clips.pixels, seed())
    hinge = 0.5 * (torch.relu(1 - both.critic(clips.pixels)) + torch.relu(1 + both.critic(again)))
    for name, expected in gradients(both.critic, hinge).items():
        torch.testing.assert_close(found[f"critic.{name}"], expected, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(out.loss.mean(), plain.loss.mean() + hinge.mean())


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_push_of_the_critic_is_as_long_at_the_pixels_as_the_weight_says(weight: float):
    both, clips = contest()
    assert clips.pixels is not None
    step = AdversarialStep(LOSS, WHOLE, Adversary(both.critic, weight, alone=0, rise=0))
    found = gradients(both, step(both, clips, seed()).loss)

    again, posterior = both.codec(clips.pixels, seed())
    pull = torch.autograd.grad((again - clips.pixels).abs().mean(), again, retain_graph=True)[0]
    push = torch.autograd.grad(-both.critic(again).mean(), again, retain_graph=True)[0]
    balanced = push * weight * pull.norm() / push.norm()
    total = (again * (pull + balanced)).sum() + 0.1 * posterior.kl().mean()
    for name, expected in gradients(both.codec, total).items():
        torch.testing.assert_close(found[f"codec.{name}"], expected, atol=1e-7, rtol=1e-4)
    assert torch.dot(balanced.flatten(), pull.flatten()).abs() < balanced.norm() * pull.norm()


def test_the_weight_rises_after_the_critic_was_alone():
    adversary = Adversary(PatchCritic((8,)), weight=0.4, alone=10, rise=4)
    found = [round(adversary.weight_after(done), 6) for done in (0, 9, 10, 11, 12, 13, 99)]
    assert found == [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4]
    assert Adversary(PatchCritic((8,)), weight=0.4, alone=0, rise=0).weight_after(0) == 0.4


def test_a_critic_that_is_fooled_less_says_so():
    both, clips = contest()
    step = AdversarialStep(LOSS, WHOLE, Adversary(both.critic, alone=10**6))
    optimizer = torch.optim.AdamW(both.critic.parameters(), lr=3e-3)
    metrics = []
    for done in range(60):
        out = step(both, clips, Draws(done), done)
        optimizer.zero_grad()
        out.loss.mean().backward()
        optimizer.step()
        metrics.append({name: float(value) for name, value in out.metrics.items()})
    assert metrics[-1]["critic"] < 0.3 < 0.8 < metrics[0]["critic"]
    assert metrics[-1]["critic_right"] > 0.9


def test_lengths_of_one_frame_and_of_several_go_through():
    both, clips = contest()
    step = AdversarialStep(LOSS, Lengths({1: 1.0, 5: 1.0}), Adversary(both.critic, alone=0))
    for number in range(6):
        assert step(both, clips, Draws(number)).loss.isfinite().all()


@pytest.mark.parametrize("part", ["codec", "critic"])
def test_a_weight_that_is_no_number_is_seen_in_the_loss(part: str):
    both, clips = contest()
    with torch.no_grad():
        next(getattr(both, part).parameters()).fill_(float("nan"))
    for done in (0, 10**6):
        out = AdversarialStep(LOSS, WHOLE, Adversary(both.critic))(both, clips, seed(), done)
        assert not out.loss.isfinite().any()


@pytest.mark.parametrize(
    "settings", [{"weight": 0.0}, {"weight": float("nan")}, {"alone": -1}, {"rise": -1}], ids=str
)
def test_adversaries_that_mean_nothing_are_refused(settings: dict):
    with pytest.raises(InputError, match="the adversary's"):
        replace(Adversary(PatchCritic((8,))), **settings)
