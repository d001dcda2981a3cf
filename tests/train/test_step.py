from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from vdit.conditions.caption import Caption
from vdit.denoiser import Denoiser, Signals
from vdit.draws import Draws
from vdit.flow.noise import Uniform
from vdit.flow.objective import FlowMatching
from vdit.flow.weight import InverseVariance
from vdit.models.native.dit import NativeDiT
from vdit.text.encoder import TextEncoder, pad
from vdit.train.step import FlowStep
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
    loss = step(oracle, clips, Draws(0)).loss
    assert loss.shape == (6,)
    torch.testing.assert_close(loss, torch.zeros(6), atol=1e-4, rtol=0)
    assert len(oracle.asked[1].unique()) == 6
    wrong = step(Oracle(-clips.latents), clips, Draws(0)).loss
    assert (wrong > 1).all()


def test_a_flow_step_is_a_function_of_its_draws_and_hides_captions():
    clips, step = batch(), FlowStep(denoiser(drop=0.5), FlowMatching(Uniform()))
    asked = []
    for seed in (0, 0, 1):
        oracle = Oracle(torch.zeros(()))
        step(oracle, clips, Draws(seed))
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
        FlowStep(denoiser(0.0), objective)(oracle, clips, Draws(0)).loss for objective in (plain, weighted)
    )
    torch.testing.assert_close(heavy, weighted.weighted(loss, oracle.asked[1]))
    assert not torch.allclose(heavy, loss, rtol=0.1)


def test_a_flow_step_without_latents_is_refused():
    step = FlowStep(denoiser(0.0), FlowMatching(Uniform()))
    clips = ClipBatch(("a",), ("",), torch.ones(1), pixels=torch.zeros(1, 3, 1, 8, 8))
    with pytest.raises(InputError, match="a flow step needs latents: encode the clips"):
        step(nn.Identity(), clips, Draws(0))
