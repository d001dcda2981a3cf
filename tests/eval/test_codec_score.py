from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from vdit.codecs.folder import load_codec
from vdit.codecs.tiling import TiledCodec
from vdit.eval import perceptual
from vdit.eval.codec_score import flicker, score_codec, ssim
from vdit.eval.perceptual import ShiftTolerantLPIPS
from vdit.types import InputError
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

KEPT = Path(__file__).parents[2] / "configs/codec/flat_24"
needs_package = pytest.mark.skipif(find_spec("stlpips_pytorch") is None, reason="needs stlpips-pytorch")


def test_flicker_counts_what_changes_and_nothing_else():
    clip = torch.rand(2, 3, 5, 8, 8) * 2 - 1
    assert flicker(clip, clip).tolist() == [0, 0]
    torch.testing.assert_close(flicker(clip + 0.1, clip), torch.zeros(2), atol=1e-4, rtol=0)
    blink = clip.clone()
    blink[1, :, ::2] += 2 / 255  # one 8-bit step, in every other frame
    assert flicker(blink, clip).tolist() == pytest.approx([0, 1], abs=1e-4)
    assert flicker(clip[:, :, :1], clip[:, :, :1]).tolist() == [0, 0]


def test_ssim_is_1_for_equals_and_falls_with_noise():
    clip = torch.rand(2, 3, 3, 32, 32) * 2 - 1
    noise = torch.randn_like(clip)
    found = [ssim(clip + size * noise, clip).mean().item() for size in (0.0, 0.1, 0.5)]
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]


@needs_package
def test_the_perceptual_distance_grows_with_noise_and_forgives_a_small_shift():
    judge = ShiftTolerantLPIPS()
    source = WorldSource(Flat(objects=(3, 3)), 2, 2, 96, 96, 8.0, seed=0)
    clips = torch.stack([source[i].pixels for i in range(2)])
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    found = [judge(clips, clips + size * noise) for size in (0.0, 0.1, 0.3, 0.6)]
    assert found[0].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert all((a < b).all() for a, b in pairwise(found))
    shifted = judge(clips[..., 1:], clips[..., :-1])
    assert (shifted < found[2]).all()
    assert judge.features(clips).shape == (2, 256)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="stlpips-pytorch: pip install"):
        ShiftTolerantLPIPS()


def test_a_codec_is_scored_clip_by_clip():
    source = WorldSource(Flat(), 3, 9, 32, 32, 8.0, seed=3)
    kept = []
    codec = TiledCodec(load_codec(KEPT))
    score = score_codec(codec, source, None, lambda clip, again: kept.append((clip, again)))
    assert list(score.clips) == [source[i].id for i in range(3)]
    assert len(kept) == 3
    assert score.frechet is None
    again = codec.decode(codec.encode(kept[0][0].pixels[None]))[0]
    assert torch.equal(again, kept[0][1])
    assert score.mean()["psnr"] == pytest.approx(sum(c["psnr"] for c in score.clips.values()) / 3)
    assert 20 < score.mean()["psnr"] < 40
    assert 0.5 < score.mean()["ssim"] < 1
