"""Numbers of a clip: what is measured, said, hidden and left out."""

from typing import Any, cast

import pytest
import torch

from vdit.conditions.numbers import WAVES, FrameRate, MotionScore, waves
from vdit.data.motion import motion_score
from vdit.data.stack import stack
from vdit.eval.motion_rank import rank_motion
from vdit.types import ClipBatch, DenoiserInput, Slot
from vdit.world.room import Room
from vdit.world.source import WorldSource

NO_CODEC = cast(Any, None)


def moving(speed: float, frames: int = 9, side: int = 64) -> torch.Tensor:
    """A texture that moves to the right by `speed` pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 16, 32, generator=generator) * 2 - 1
    wide = torch.nn.functional.interpolate(coarse, (side, 2 * side), mode="bicubic")[0, 0]
    shifts = [round(speed * k) for k in range(frames)]
    return torch.stack([wide[:, side - 20 - x :][:, :side].expand(3, -1, -1) for x in shifts], 1)


def test_the_motion_score_is_speed_in_sides_a_second():
    clips = torch.stack([moving(0), moving(1), moving(2)])
    still, slow, fast = motion_score(clips, torch.full((3,), 8.0)).tolist()
    assert still < 1e-3
    assert slow == pytest.approx(8 / 64, rel=0.15)
    assert fast == pytest.approx(16 / 64, rel=0.15)
    assert motion_score(clips[2:], torch.tensor([4.0])).item() == pytest.approx(fast / 2)
    assert motion_score(clips[:, :, :1], torch.full((3,), 8.0)).tolist() == [0, 0, 0]


def test_motion_of_clips_ranks_as_it_was_asked():
    source = WorldSource(Room(), 12, 9, 64, 64)
    truth = torch.stack([source[i].pixels for i in range(12)])
    rank = rank_motion(truth, truth, truth * 0.9, 8.0)
    assert rank.model == pytest.approx(1)
    assert rank.ceiling_codec > 0.9
    assert abs(rank.floor) < 0.7
    assert rank_motion(truth.flip(0), truth, truth, 8.0).model < 0.7


def test_numbers_are_told_apart_and_from_nothing():
    said = waves(torch.tensor([0.0, 0.05, 0.1, 0.5, 8.0, 24.0]))
    assert said.shape == (6, 1, WAVES)
    apart = torch.cdist(said[:, 0], said[:, 0]) + 9 * torch.eye(6)
    assert apart.min() > 0.5
    assert said.norm(dim=-1).min() > 1


def test_motion_is_measured_in_training_and_asked_in_sampling():
    condition = MotionScore(drop=0.3)
    source = WorldSource(Room(), 2, 5, 32, 32)
    clips = stack([source[0], source[1]])
    measured = condition.feature(clips, NO_CODEC)
    assert clips.pixels is not None
    torch.testing.assert_close(measured[:, 0], motion_score(clips.pixels, clips.fps))

    def signal(motion: torch.Tensor | None) -> torch.Tensor:
        batch = ClipBatch(
            ("a", "b"), ("", ""), torch.ones(2), latents=torch.zeros(2, 4, 2, 2, 2), motion=motion
        )
        features = {"motion": condition.feature(batch, NO_CODEC)}
        return condition.signal(ClipBatch(("a", "b"), ("", ""), torch.ones(2), features=features))

    asked = signal(measured[:, 0])
    torch.testing.assert_close(asked, waves(measured[:, 0]))
    assert torch.equal(signal(None), condition.null(asked))
    inputs = DenoiserInput(torch.zeros(2, 4, 2, 2, 2), torch.ones(2, 1, 1, 1))
    assert condition.fill(inputs, asked).vectors["motion"] is asked
    assert condition.slots == {Slot.VECTORS}


def test_the_frame_rate_is_that_of_the_clips():
    batch = ClipBatch(("a", "b"), ("", ""), torch.tensor([8.0, 24.0]))
    signal = FrameRate().signal(batch)
    torch.testing.assert_close(signal, waves(batch.fps))
    assert FrameRate().fill(DenoiserInput(signal, signal), signal).vectors["fps"] is signal
