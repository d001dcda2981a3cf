from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vdit.models.backbone import VideoBackbone
from vdit.models.experts import SigmaExperts
from vdit.types import DenoiserInput, InputError, Slot, Tokens


class Scale(VideoBackbone):
    """Velocity is the latents times a weight, plus the mean of the text."""

    def __init__(self, weight: float, channels: int = 2, slots: frozenset[Slot] = frozenset({Slot.TEXT})):
        super().__init__()
        self.slots, self.latent_channels, self.text_width = slots, channels, 3
        self.weight = nn.Parameter(torch.tensor(weight))
        self.calls: list[int] = []

    def lower(self, dtype: torch.dtype) -> None: ...

    def check_shape(self, t: int, h: int, w: int) -> None:
        if h % 2:
            raise InputError("odd")

    def forward(self, inputs: DenoiserInput) -> Tensor:
        self.calls.append(len(inputs.latents))
        assert inputs.text is not None
        return self.weight * inputs.latents + inputs.text.values.mean((1, 2))[:, None, None, None, None]


def some_input(sigmas: list[float]) -> DenoiserInput:
    clips = len(sigmas)
    text = Tokens(torch.randn(clips, 4, 3), torch.ones(clips, 4, dtype=torch.bool))
    return DenoiserInput(torch.randn(clips, 2, 1, 2, 2), torch.tensor(sigmas)[:, None, None, None], text)


def test_clips_of_an_input_are_clips_of_all_its_fields():
    inputs = some_input([0.1, 0.2, 0.3])
    some = inputs.clips(torch.tensor([2, 0]))
    assert torch.equal(some.latents, inputs.latents[[2, 0]])
    assert some.sigma.flatten().tolist() == pytest.approx([0.3, 0.1])
    assert inputs.text is not None
    assert some.text is not None
    assert torch.equal(some.text.values, inputs.text.values[[2, 0]])
    assert torch.equal(some.text.mask, inputs.text.mask[[2, 0]])
    assert replace(inputs, text=None).clips(torch.tensor([1])).text is None


def test_each_clip_goes_to_the_expert_of_its_noise_and_comes_back_in_its_place():
    high, low = Scale(3.0), Scale(5.0)
    inputs = some_input([0.9, 0.2, 0.8, 0.79])
    velocity = SigmaExperts(high, low, 0.8)(inputs)
    for row, expert in enumerate([high, low, high, low]):
        alone = expert(inputs.clips(torch.tensor([row])))
        torch.testing.assert_close(velocity[row : row + 1], alone)
    assert high.calls[0] == 2
    assert low.calls[0] == 2


def test_a_clip_belongs_where_its_noisiest_latent_belongs():
    high, low = Scale(3.0), Scale(5.0)
    inputs = some_input([0.1, 0.1])
    sigma = torch.tensor([[0.1, 0.1], [0.1, 0.9]])[:, :, None, None]
    latents = torch.randn(2, 2, 2, 2, 2)
    SigmaExperts(high, low, 0.5).eval()(replace(inputs, sigma=sigma, latents=latents))
    assert (high.calls, low.calls) == ([1], [1])


def test_an_idle_expert_is_called_in_training_only_and_changes_nothing():
    high, low = Scale(3.0), Scale(5.0)
    experts, inputs = SigmaExperts(high, low, 0.5), some_input([0.1, 0.2])
    velocity = experts(inputs)
    velocity.sum().backward()
    assert high.weight.grad is not None
    assert high.weight.grad == 0
    assert low.weight.grad is not None
    assert low.weight.grad != 0
    assert torch.equal(experts.eval()(inputs), velocity)
    assert len(high.calls) == 1


def test_experts_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match="differ in latent_channels, 2 and 4"):
        SigmaExperts(Scale(1.0), Scale(1.0, channels=4), 0.5)
    with pytest.raises(InputError, match=r"boundary 1\.0"):
        SigmaExperts(Scale(1.0), Scale(1.0), 1.0)
    experts = SigmaExperts(Scale(1.0), Scale(1.0, slots=frozenset()), 0.5)
    with pytest.raises(InputError, match="does not accept text"):
        experts.check_slots(frozenset({Slot.TEXT}))
    with pytest.raises(InputError, match="odd"):
        experts.check_shape(1, 3, 2)
