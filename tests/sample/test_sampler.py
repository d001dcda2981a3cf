"""What a sampler asks of a model, and that it asks nothing twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_wan import Letters, backbone

from vdit.codecs.wan.codec import WanCodec
from vdit.conditions.caption import Caption
from vdit.conditions.known import KnownFrames
from vdit.denoiser import Denoiser
from vdit.models.experts import SigmaExperts
from vdit.models.wan.attention import CrossAttention
from vdit.models.wan.dit import WanDiT
from vdit.sample.sampler import Sampler, Sampling, Wish
from vdit.types import Cameras, DenoiserInput, Given, InputError

SMALL = {"frames": 5, "height": 16, "width": 32, "steps": 4}


def sampler(known: bool = False, model: Any = None, **settings: Any) -> Sampler:
    conditions = [Caption(Letters()), *([KnownFrames()] if known else [])]
    torch.manual_seed(1)
    codec = WanCodec(latent_channels=4, encoder_width=4, decoder_width=4).requires_grad_(False).eval()
    return Sampler(Denoiser(model or backbone(), conditions), codec, Sampling(**{**SMALL, **settings}))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[DenoiserInput]:
    """Every input that a `WanDiT` gets."""
    seen: list[DenoiserInput] = []
    forward = WanDiT.forward

    def watched(self: WanDiT, inputs: DenoiserInput) -> torch.Tensor:
        seen.append(inputs)
        return forward(self, inputs)

    monkeypatch.setattr(WanDiT, "forward", watched)
    return seen


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_keys_and_values_of_the_text_are_computed_once_and_change_nothing(
    guidance: float, monkeypatch: pytest.MonkeyPatch
):
    counted: list[object] = []
    heard: Callable[..., Any] = CrossAttention.heard
    monkeypatch.setattr(CrossAttention, "heard", lambda self, s: counted.append(self) or heard(self, s))
    asked = sampler(guidance=guidance, solver="unipc")
    clip = asked.latents(["abc"], [0])
    assert len(counted) == 2  # one a block, not one a step
    monkeypatch.setattr("vdit.types.Kept.once", lambda self, key, compute: compute())
    torch.testing.assert_close(asked.latents(["abc"], [0]), clip, atol=0, rtol=0)


def test_the_model_is_told_whole_thousandths_where_it_was_trained_on_them(told: list[DenoiserInput]):
    sampler(guidance=1.0, shift=3.0, first=0.999, whole_steps=True).latents(["a"], [0])
    sigmas = [inputs.sigma.flatten()[0].item() for inputs in told]
    even = [0.999 * (1 - i / 4) for i in range(4)]
    exact = [3 * s / (1 + 2 * s) for s in even]
    assert sigmas == pytest.approx([int(1000 * s) / 1000 for s in exact], abs=1e-7)
    assert sigmas != pytest.approx(exact, abs=1e-6)


def test_guidance_leads_away_from_the_negative_prompt(told: list[DenoiserInput]):
    asked = sampler(guidance=2.0, negative="zz")
    clip = asked.latents(["a"], [0])
    texts = told[0].text
    assert texts is not None
    torch.testing.assert_close(texts.values[1], Letters().encode(["zz"]).values[0])
    assert not torch.allclose(sampler(guidance=2.0, negative="q").latents(["a"], [0]), clip, atol=1e-3)
    same = sampler(guidance=7.0, negative="a").latents(["a"], [0])  # away from itself: nowhere
    torch.testing.assert_close(same, sampler(guidance=1.0).latents(["a"], [0]), atol=1e-4, rtol=1e-4)


def test_each_expert_samples_its_part_with_its_guidance(told: list[DenoiserInput]):
    both = SigmaExperts(backbone(0), backbone(1), boundary=0.5)
    sampler(model=both, guidance=2.0, low_guidance=1.0, boundary=0.5).latents(["a"], [0])
    rows = [(round(i.sigma.flatten()[0].item(), 2), len(i.latents)) for i in told]
    assert rows == [(1.0, 2), (0.75, 2), (0.5, 2), (0.25, 1)]


def test_a_known_frame_is_kept_bit_for_bit_and_guides_the_rest(told: list[DenoiserInput]):
    asked = sampler(known=True, guidance=2.0)
    image = torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    given = Given(torch.zeros(1, 3, 5, 16, 32), torch.zeros(1, 5, dtype=torch.bool))
    given.pixels[:, :, 0], given.mask[:, 0] = image, True
    clip = asked.latents(["a"], [0], wish=Wish(given))
    assert torch.equal(clip[:, :, 0], asked.codec.encode(given.pixels[:, :, :1])[:, :, 0])
    assert all(inputs.sigma[:, 0].eq(0).all() for inputs in told)
    without = asked.latents(["a"], [0])
    torch.testing.assert_close(without, sampler(guidance=2.0).latents(["a"], [0]))
    assert not torch.allclose(clip[:, :, 1], without[:, :, 1], atol=1e-3)


def test_frames_are_guided_by_a_scale_of_their_own(told: list[DenoiserInput]):
    """Each scale that differs costs a branch; away from nothing, then from the frames without the prompt."""
    image = torch.rand(3, 16, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    given = Given(torch.zeros(1, 3, 5, 16, 32), torch.zeros(1, 5, dtype=torch.bool))
    given.pixels[:, :, 0], given.mask[:, 0] = image, True
    clips = {}
    for frames, text, count in ((1.0, 1.0, 1), (1.0, 2.0, 2), (2.0, 1.0, 3), (2.0, 2.0, 2), (3.0, 2.0, 3)):
        told.clear()
        asked = sampler(known=True, guidance=text, guidance_frames=frames)
        clips[frames, text] = asked.latents(["a"], [0], wish=Wish(given))
        assert len(told[0].latents) == count
        known = told[0].sigma[:, 0, 0, 0].eq(0).tolist()
        assert known == [frames == 1.0 or branch < count - 1 for branch in range(count)]
    assert len({str(clip) for clip in clips.values()}) == 5
    assert all(torch.equal(clip[:, :, 0], clips[1.0, 1.0][:, :, 0]) for clip in clips.values())


def test_a_clip_does_not_depend_on_its_neighbours():
    asked = sampler(guidance=2.0, negative="zz")
    pair = asked.latents(["a", "bcd"], [3, 4])
    torch.testing.assert_close(asked.latents(["bcd"], [4])[0], pair[1], atol=1e-5, rtol=1e-4)


def test_what_a_model_has_no_use_for_is_refused():
    given = Given(torch.zeros(1, 3, 5, 16, 32), torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(InputError, match="takes no images"):
        sampler().latents(["a"], [0], wish=Wish(given))
    cameras = Cameras(torch.ones(1, 5, 4), torch.eye(4).expand(1, 5, 4, 4))
    with pytest.raises(InputError, match="follows no camera"):
        sampler().latents(["a"], [0], wish=Wish(cameras=cameras))
    with pytest.raises(InputError, match=r"sampling\.boundary is 2, but must lie in \[0, 1\]"):
        Sampling(boundary=2)


@pytest.mark.parametrize("experts", [False, True])
def test_lower_precision_is_near(experts: bool):
    def model() -> Any:
        return SigmaExperts(backbone(0), backbone(1), boundary=0.5) if experts else backbone(0)

    exact, near = sampler(model=model(), guidance=2.0), sampler(model=model(), guidance=2.0)
    near.denoiser.backbone.lower(torch.bfloat16)
    clip, close = (each.latents(["abc"], [0]) for each in (exact, near))
    assert close.dtype is torch.float32
    assert not torch.equal(clip, close)
    assert (clip - close).square().mean() < 0.01 * clip.square().mean()
