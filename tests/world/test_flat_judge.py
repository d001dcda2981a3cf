from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vdit.world.flat import Flat
from vdit.world.flat_scene import Background, FlatObject, FlatScene
from vdit.world.level import Verdict
from vdit.world.source import WorldSource
from vdit.world.words import COLOURS

CLIPS = 60
LEVELS = {"one": Flat((1, 1)), "several": Flat((2, 3))}


def judge_all(
    level: Flat, size: int, change: Callable[[Tensor], Tensor], shift: int = 0, clips: int = CLIPS
) -> list[Verdict]:
    """Verdicts on changed renderings; `shift` asks for the scene of another clip."""
    source = WorldSource(level, clips, 9, size, size, seed=3)
    return [
        level.judge(change(source[index].pixels), source.scene((index + shift) % clips))
        for index in range(clips)
    ]


def share(verdicts: list[Verdict], name: str) -> float:
    return sum(verdict.right[name] for verdict in verdicts) / len(verdicts)


def all_right(verdicts: list[Verdict]) -> float:
    return sum(verdict.all_right for verdict in verdicts) / len(verdicts)


def blurred(pixels: Tensor) -> Tensor:
    """Gaussian blur of one pixel and noise of 0.03, about 28 dB at 64 pixels."""
    kernel = torch.exp(-0.5 * torch.arange(-4.0, 5.0) ** 2)
    kernel = (kernel / kernel.sum()).repeat(3, 1, 1, 1)
    frames = functional.pad(pixels.transpose(0, 1), (4, 4, 4, 4), mode="replicate")
    frames = functional.conv2d(functional.conv2d(frames, kernel, groups=3), kernel.transpose(2, 3), groups=3)
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return (frames + 0.06 * noise).transpose(0, 1).clamp(-1, 1)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize(("size", "clips"), [(32, CLIPS), (64, 30)])
def test_ceiling(level: Flat, size: int, clips: int):
    verdicts = judge_all(level, size, lambda pixels: pixels, clips=clips)
    assert set(verdicts[0].right) == set(verdicts[0].seen) == set(Flat.attributes)
    assert all_right(verdicts) >= 0.98


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_blur_and_noise_change_little(level: Flat):
    assert all_right(judge_all(level, 64, blurred, clips=30)) >= 0.95


def test_floor_is_chance():
    verdicts = judge_all(LEVELS["one"], 32, lambda pixels: pixels, shift=1)
    assert all_right(verdicts) == 0
    for name, chance in (("colour", 1 / 8), ("shape", 1 / 4), ("size", 1 / 2), ("motion", 1 / 8)):
        assert share(verdicts, name) == pytest.approx(chance, abs=0.2)


def lot(pixels: Tensor) -> torch.Generator:
    """Another seed for another clip."""
    return torch.Generator().manual_seed(int(pixels.double().square().sum()))


def noise(pixels: Tensor) -> Tensor:
    return torch.rand(pixels.shape, generator=lot(pixels)) * 2 - 1


def clouds(pixels: Tensor) -> Tensor:
    seeds = torch.rand(1, 3, 3, 6, 6, generator=lot(pixels)) * 2 - 1
    return functional.interpolate(seeds, size=pixels.shape[1:], mode="trilinear")[0]


@pytest.mark.parametrize(
    "garbage",
    [noise, clouds, torch.zeros_like, torch.ones_like, lambda pixels: torch.full_like(pixels, float("nan"))],
    ids=["noise", "clouds", "grey", "white", "nan"],
)
@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_garbage_is_refused(garbage: Callable[[Tensor], Tensor], level: Flat):
    verdicts = judge_all(level, 32, garbage, clips=25)
    assert all_right(verdicts) == 0
    assert share(verdicts, "motion") < 0.05
    assert share(verdicts, "shape") < 0.3
    assert share(verdicts, "colour") < 0.3


def test_a_clip_played_backwards_has_another_motion_and_nothing_else():
    level = LEVELS["one"]
    source = WorldSource(level, CLIPS, 9, 32, 32, seed=3)
    opposite = {"left": "right", "up": "down", "grow": "shrink", "loop": "loop", "still": "still"}
    opposite |= {back: forth for forth, back in opposite.items()}
    for index in range(CLIPS):
        scene = source.scene(index)
        verdict = level.judge(source[index].pixels.flip(1), scene)
        assert verdict.seen["motion"] == opposite[scene.objects[0].motion]
        assert {name for name, right in verdict.right.items() if not right} <= {"motion"}


def test_a_frozen_clip_stands_still():
    for verdict in judge_all(LEVELS["one"], 32, lambda pixels: pixels[:, :1].expand_as(pixels)):
        assert verdict.seen["motion"] == "still"


def test_a_colour_out_of_place_is_only_that():
    verdicts = judge_all(LEVELS["one"], 32, lambda pixels: pixels.roll(1, dims=0))
    assert share(verdicts, "colour") == 0
    assert share(verdicts, "shape") >= 0.98
    assert share(verdicts, "motion") >= 0.98


def test_copies_are_counted():
    def tiled(pixels: Tensor) -> Tensor:
        return pixels[:, :, ::2, ::2].repeat(1, 1, 1, 2).repeat(1, 1, 2, 1)

    verdicts = judge_all(Flat(graded=0.0), 64, tiled, clips=20)
    assert sum(verdict.seen["count"] == "four" for verdict in verdicts) >= 18
    assert share(verdicts, "count") == 0


def test_an_object_that_is_missing_is_missed():
    level, one = Flat((2, 2), graded=0.0), Flat(graded=0.0)
    source = WorldSource(level, 20, 9, 64, 64, seed=4)
    for index in range(20):
        scene = source.scene(index)
        alone = type(scene)(scene.objects[:1], scene.background)
        verdict = level.judge(one.render(alone, 9, 64, 64).pixels, scene)
        assert verdict.right == {name: name == "background" for name in Flat.attributes}
        assert verdict.seen["colour"] == f"{scene.objects[0].colour}, nothing"
        assert verdict.seen["count"] == "one"


@pytest.mark.parametrize(
    ("frames", "height", "width"), [(5, 48, 80), (17, 40, 32), (2, 64, 64), (9, 160, 128)]
)
def test_clips_of_other_sizes_are_judged_alike(frames: int, height: int, width: int):
    level = LEVELS["one"]
    source = WorldSource(level, 12, frames, height, width, seed=5)
    # Two frames are the same place of a loop.
    indices = [index for index in range(12) if frames > 2 or source.scene(index).objects[0].motion != "loop"]
    assert all(level.judge(source[index].pixels, source.scene(index)).all_right for index in indices)


def verdict_on_red(inside: Tensor) -> Verdict:
    """On a still clip that is red where a mask `h w` says so and white elsewhere, asked for a red square."""
    red, white = torch.tensor(COLOURS["red"]) * 2 - 1, torch.ones(3)
    frame = torch.where(inside, red[:, None, None], white[:, None, None])
    thing = FlatObject("red", "square", "small", "still", 0.28, (0.5, 0.5), 0.4)
    return Flat().judge(frame[:, None].repeat(1, 9, 1, 1), FlatScene((thing,), Background("white")))


def test_a_shape_that_is_none_of_the_four_is_said_to_be_unclear():
    bar = torch.zeros(64, 64, dtype=torch.bool)
    bar[26:38, 21:43] = True
    verdict = verdict_on_red(bar)
    assert verdict.seen["shape"] == "unclear"
    assert [name for name, right in verdict.right.items() if not right] == ["shape"]


def test_a_line_across_the_frame_is_no_object():
    line = torch.zeros(64, 64, dtype=torch.bool)
    line[30:33] = True
    verdict = verdict_on_red(line)
    assert verdict.seen["shape"] == verdict.seen["colour"] == "nothing"
    assert [name for name, right in verdict.right.items() if right] == ["background"]
