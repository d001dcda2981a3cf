"""Held-out loss at fixed noise levels does not depend on which clips are measured together, or where."""

import pytest
import torch
from letter_text import LetterText

from vdit.conditions.caption import Caption
from vdit.denoiser import Denoiser
from vdit.eval.sigma_loss import SIGMAS, loss_by_sigma, sigma_loss
from vdit.flow.noise import LogitNormal
from vdit.flow.objective import FlowMatching
from vdit.models.native.dit import NativeDiT
from vdit.parallel.engine import Engine, Parallel
from vdit.types import ClipBatch

OBJECTIVE = FlowMatching(LogitNormal())


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 2, "heads": 2, "patch": (1, 2, 2)}
    backbone = NativeDiT(latent_channels=4, text_width=LetterText().width, **sizes)
    for value in backbone.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return Denoiser(backbone, [Caption(LetterText())])


def clips(*numbers: int) -> ClipBatch:
    latents = [torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(n)) for n in numbers]
    names, fps = tuple(f"clip-{n}" for n in numbers), torch.full((len(numbers),), 8.0)
    return ClipBatch(names, ("",) * len(numbers), fps, latents=torch.stack(latents))


def test_a_clip_has_its_noise_wherever_it_is_measured(denoiser: Denoiser):
    together = loss_by_sigma(denoiser, OBJECTIVE, clips(0, 1, 2))
    apart = [loss_by_sigma(denoiser, OBJECTIVE, clips(n)) for n in (0, 1, 2)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1))
    assert together.shape == (len(SIGMAS), 3)
    assert together.unique().numel() == together.numel()
    other = loss_by_sigma(denoiser, OBJECTIVE, clips(0), seed=1)
    assert not torch.isclose(other, apart[0]).any()


def test_the_mean_is_over_clips_and_not_over_batches(denoiser: Denoiser):
    whole = sigma_loss(denoiser, OBJECTIVE, [clips(0, 1, 2)])
    assert sigma_loss(denoiser, OBJECTIVE, [clips(0, 1), clips(2)]) == pytest.approx(whole)
    assert list(whole) == list(SIGMAS)


def test_a_run_in_half_precision_is_measured_in_it(denoiser: Denoiser):
    """The module that is trained, without the wrapper that casts for the steps."""
    before = loss_by_sigma(denoiser, OBJECTIVE, clips(0))
    seen: list[torch.dtype] = []
    layer = next(part for part in denoiser.backbone.blocks.modules() if isinstance(part, torch.nn.Linear))
    layer.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    Engine(Parallel("cpu", precision="bf16-mixed")).arrange(denoiser)
    after = loss_by_sigma(denoiser, OBJECTIVE, clips(0))
    assert set(seen) == {torch.bfloat16}
    assert after.dtype == torch.float32
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05)
    assert not torch.equal(after, before)
