"""A second video beside the clip: made as diffusers makes it, of frames and of parts of the picture."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_wan import Letters

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.caption import Caption
from vdit.conditions.second_video import SecondVideo
from vdit.denoiser import Denoiser
from vdit.models.wan.dit import WanDiT
from vdit.sample.sampler import Sampler, Sampling, Wish
from vdit.types import ClipBatch, Given, InputError, References, Repaint


def clips(b: int = 1) -> torch.Tensor:
    return torch.rand(b, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def repaint(b: int = 1) -> Repaint:
    mask = torch.zeros(b, 32, 48, dtype=torch.bool)
    mask[:, 5:20, :17] = True
    return Repaint(-clips(b), mask)


def context(codec: TiledCodec, given: Given | None = None, painted: Repaint | None = None) -> torch.Tensor:
    batch = ClipBatch(("a",), ("red",), torch.ones(1), latents=torch.zeros(1, 4, 3, 4, 6), given=given)
    return SecondVideo().feature(replace(batch, repaint=painted), codec)


@pytest.mark.parametrize("case", ["nothing", "first and last", "part", "part and first"])
def test_it_is_made_as_diffusers_makes_it(case: str, codec: TiledCodec):
    pipelines = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan_vace")
    given = Given.of(clips(), [0, -1] if "last" in case else [0]) if "first" in case else None
    painted = repaint() if "part" in case else None
    pixels, change = torch.zeros_like(clips()), torch.ones_like(clips())
    if painted is not None:
        pixels, change = (
            painted.pixels.clone(),
            painted.mask[:, None, None].expand_as(clips()).float().clone(),
        )
    if given is not None:
        pixels[:, :, given.mask[0]], change[:, :, given.mask[0]] = clips()[:, :, given.mask[0]], 0
    still = SimpleNamespace(latents_mean=[0.0] * 4, latents_std=[1.0] * 4, z_dim=4)
    theirs = SimpleNamespace(
        vae=SimpleNamespace(
            encode=lambda x: SimpleNamespace(latents=codec.encode(x)), dtype=torch.float32, config=still
        ),
        transformer=SimpleNamespace(config=SimpleNamespace(patch_size=(1, 2, 2))),
        vae_scale_factor_temporal=4,
        vae_scale_factor_spatial=8,
    )
    pipeline = pipelines.WanVACEPipeline
    grey = pixels * (1 - change)  # what is to change is grey before it comes to them
    latents = pipeline.prepare_video_latents(theirs, grey, change, [[]], device=torch.device("cpu"))
    masks = pipeline.prepare_masks(theirs, change, [[]])
    torch.testing.assert_close(context(codec, given, painted), torch.cat([latents, masks], dim=1))


def test_what_is_hidden_is_a_video_of_which_nothing_is_known(codec: TiledCodec):
    condition, shown = SecondVideo(), context(codec, Given.of(clips(), [0]))
    torch.testing.assert_close(condition.null(shown), context(codec))
    hidden = condition.mix(shown, condition.null(shown), torch.tensor([True]))
    torch.testing.assert_close(hidden, context(codec))


def test_training_takes_frames_of_the_clips(codec: TiledCodec):
    batch = ClipBatch(("a",), ("red",), torch.ones(1), pixels=clips())
    feature = SecondVideo("first_and_last").feature(batch, codec)
    torch.testing.assert_close(feature, context(codec, Given.of(clips(), [0, -1])))


def test_the_codec_must_have_the_stride_that_the_mask_counts(codec: TiledCodec):
    batch = ClipBatch(("a",), ("red",), torch.ones(1), pixels=clips())
    with pytest.raises(InputError, match="give the condition stride_s 8"):
        SecondVideo(stride_s=16).feature(batch, codec)


def test_a_model_hears_frames_and_parts_and_refuses_references(codec: TiledCodec):
    torch.manual_seed(0)
    sizes = {"text_width": 6, "width": 24, "hidden": 32, "heads": 2, "depth": 2, "sigma_channels": 16}
    backbone = WanDiT(latent_channels=4, context_channels=72, context_blocks=[0], **sizes)
    for value in backbone.parameters():
        torch.nn.init.normal_(value, std=0.2)
    denoiser = Denoiser(backbone, [Caption(Letters()), SecondVideo()]).eval()
    sampler = Sampler(denoiser, codec.codec, Sampling(frames=9, height=32, width=48, steps=2, shift=3.0))
    wishes = [Wish(), Wish(Given.of(clips(), [4])), Wish(repaint=repaint())]
    plain, keyframe, painted = (sampler.latents(["red"], [0], wish=wish) for wish in wishes)
    assert (plain - keyframe).abs().max() > 1e-3
    assert (plain - painted).abs().max() > 1e-3
    image = References(clips()[:, None, :, 0], torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(InputError, match="takes no references"):
        sampler.latents(["red"], [0], wish=Wish(references=image))
