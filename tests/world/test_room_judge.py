from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from vdit.camera.moves import MOVES
from vdit.types import InputError
from vdit.world.camera_judge import blur, misfits, name_move
from vdit.world.level import Verdict
from vdit.world.room import Room
from vdit.world.room_pieces import closed, colour_classes, regions
from vdit.world.room_scene import RoomScene
from vdit.world.words import COLOURS

CLIPS = 12
ROOM = Room(objects=(1, 3))


@cache
def clips(frames: int) -> list[tuple[Tensor, RoomScene]]:
    rng = np.random.default_rng(8)
    scenes = [ROOM.scene(rng, held_out=i % 4 == 0) for i in range(CLIPS)]
    return [(ROOM.render(scene, frames, 64, 64).pixels, scene) for scene in scenes]


def degraded(pixels: Tensor) -> Tensor:
    """Blur of one pixel and noise of 0.03 of the range."""
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return (blur(pixels.transpose(0, 1), 1.0).transpose(0, 1) + 0.06 * noise).clamp(-1, 1)


def judged(
    frames: int, change: Callable[[Tensor], Tensor] = lambda pixels: pixels, shift: int = 0
) -> list[Verdict]:
    shown = clips(frames)
    return [ROOM.judge(change(pixels), shown[(i + shift) % CLIPS][1]) for i, (pixels, _) in enumerate(shown)]


def share(verdicts: list[Verdict], name: str) -> float:
    return sum(verdict.right[name] for verdict in verdicts) / len(verdicts)


@pytest.mark.parametrize("frames", [9, 17])
def test_ceiling(frames: int):
    verdicts = judged(frames)
    assert all(tuple(verdict.right) == Room.attributes for verdict in verdicts)
    assert all(share(verdicts, name) == 1 for name in Room.attributes)


def test_degraded_ceiling():
    verdicts = judged(9, degraded)
    assert share(verdicts, "camera") == 1
    assert all(share(verdicts, name) >= 0.85 for name in Room.attributes)


def test_floor():
    verdicts = judged(9, shift=1)
    assert share(verdicts, "camera") <= 0.25
    assert share(verdicts, "colour") <= 0.2
    assert share(verdicts, "shape") <= 0.4
    assert not any(verdict.all_right for verdict in verdicts)


@pytest.mark.parametrize("word", MOVES)
def test_every_move_is_named(word: str):
    room = Room(moves=[word])
    scene = room.scene(np.random.default_rng(3), held_out=False)
    assert name_move(room.render(scene, 9, 48, 64).pixels) == word


def test_a_mirrored_clip_shows_the_opposite_move():
    room = Room(moves=["truck left"], guests=0.0)
    pixels = room.render(room.scene(np.random.default_rng(3), held_out=False), 9, 64, 64).pixels
    assert name_move(pixels) == "truck left"
    # Seen in a mirror, left is right: the room itself is symmetrical.
    assert name_move(pixels.flip(3)) == "truck right"


def test_misfits_are_small_only_for_the_truth():
    pixels, scene = clips(9)[0]
    costs = misfits(pixels)
    assert set(costs) == set(MOVES)
    others = [cost for word, cost in costs.items() if word != scene.camera.word]
    assert costs[scene.camera.word] < 0.9 * min(others)


def test_a_clip_of_nothing_is_not_right():
    grey = torch.zeros(3, 9, 64, 64)
    scene = next(scene for _, scene in clips(9) if scene.guest)
    verdict = ROOM.judge(grey, scene)
    assert not any(verdict.right[name] for name in ("colour", "shape", "count", "character"))
    assert verdict.seen["character"] == "nobody"
    assert verdict.seen["count"] == "0"


def test_one_frame_shows_no_move():
    pixels, scene = clips(9)[0]
    with pytest.raises(InputError, match="1 frame shows no camera move; judge clips of at least 2"):
        ROOM.judge(pixels[:, :1], scene)


@pytest.mark.parametrize("shade", [0.4, 1.0])
def test_colours_are_read_in_shade_and_through_blur(shade: float):
    grey = torch.tensor([0.5, 0.5, 0.5])
    for i, colour in enumerate(COLOURS.values(), 1):
        pure = shade * torch.tensor(colour)
        for light, expected in ((pure, i), (0.8 * pure + 0.2 * shade * grey, i), (grey, 0)):
            pixels = (light * 2 - 1)[None, :, None, None].expand(1, 3, 2, 2)
            assert (colour_classes(pixels) == expected).all()


def test_regions_are_connected_large_and_no_rims():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[1:9, 1:9] = True
    mask[12:17, 12:17] = True
    mask[0:20, 18] = True
    found = regions(mask, least=10)
    assert [int(region.sum()) for region in found] == [64, 25]
    assert found[0][1:9, 1:9].all()
    assert [int(region.sum()) for region in regions(mask, least=30)] == [64]


def test_closing_joins_over_small_gaps_only():
    mask = torch.zeros(30, 30, dtype=torch.bool)
    mask[5:25, 2:8] = mask[5:25, 11:15] = mask[5:25, 24:28] = True
    assert [int(region.sum()) for region in regions(closed(mask), least=4)] == [20 * 13, 20 * 4]
