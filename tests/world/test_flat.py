import re
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional

from vdit.types import InputError
from vdit.world.flat import Flat
from vdit.world.flat_caption import MOTION_WORDS
from vdit.world.flat_scene import (
    BACKGROUNDS,
    CROWDING,
    MOTIONS,
    SIZES,
    Background,
    FlatObject,
    FlatScene,
    is_held_out,
    path,
)
from vdit.world.flat_shape import EXTENTS, SHAPES, signed_distance
from vdit.world.level import Rendering
from vdit.world.words import COLOURS

GOLDEN_FINGERPRINT = "94cbbd18a47f0186"
GOLDEN_MEANS = [0.33267, 0.09636, -0.5206]
GOLDEN_CAPTIONS = [
    "two shapes on a light grey background: "
    "a large orange triangle moving down and a small red circle moving up",
    "two shapes on a background graded between dark grey and beige: "
    "a small green cross moving left and a small blue square moving in a loop",
    "a large yellow square moving in a loop on a navy background",
]


PLACES = {
    "upper left": (0, 0), "upper centre": (1, 0), "upper right": (2, 0),
    "middle left": (0, 1), "centre": (1, 1), "middle right": (2, 1),
    "lower left": (0, 2), "lower centre": (1, 2), "lower right": (2, 2),
}  # fmt: skip


def scenes(level: Flat, count: int, held_out: bool = False, seed: int = 0) -> list[FlatScene]:
    return [level.scene(np.random.default_rng((seed, index)), held_out) for index in range(count)]


def centroid(mask: torch.Tensor) -> tuple[float, float]:
    """Of a mask `h w`, where the frame is 1 wide and 1 high."""
    y, x = torch.nonzero(mask, as_tuple=True)
    return float((x + 0.5).mean()) / mask.shape[1], float((y + 0.5).mean()) / mask.shape[0]


def shape_of(mask: torch.Tensor) -> str:
    """From how a shape fills its bounding box, and whether it reaches the lower corners."""
    y, x = torch.nonzero(mask, as_tuple=True)
    box = mask[y.min() : y.max() + 1, x.min() : x.max() + 1].float()
    fill = float(box.mean())
    if fill > 0.92:
        return "square"
    if fill > 0.70:
        return "circle"
    corner = box[-max(1, len(box) // 8) :, : max(1, box.shape[1] // 8)]
    return "triangle" if corner.mean() > 0.2 else "cross"


def motion_of(masks: torch.Tensor) -> str:
    """From the masks `t h w` of one object."""
    track = np.array([centroid(mask) for mask in masks])
    growth = float(masks[-1].sum() / masks[0].sum())
    if growth > 2 or growth < 0.5:
        return "grow" if growth > 1 else "shrink"
    if np.ptp(track, axis=0).max() < 0.03:
        return "still"
    dx, dy = track[-1] - track[0]
    if max(abs(dx), abs(dy)) < 0.1:
        return "loop"
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def backgrounds_of(rendering: Rendering) -> list[str]:
    """The colours of a background at the edges of the frame, in the palette's order."""
    edges = torch.ones_like(rendering.masks, dtype=torch.bool)
    edges[:, 1:-1, 1:-1] = False
    free = rendering.pixels[:, edges & (rendering.masks == 0)]
    palette = {name: torch.tensor(colour)[:, None] * 2 - 1 for name, colour in BACKGROUNDS.items()}
    return [name for name, colour in palette.items() if (free - colour).norm(dim=0).min() < 0.02]


def test_outlines_have_the_area_of_the_unit_disc_and_the_extents_declared():
    axis = torch.linspace(-2, 2, 801)
    for shape in SHAPES:
        inside = signed_distance(shape, axis[None, :], axis[:, None]) < 0
        y, x = torch.nonzero(inside, as_tuple=True)
        assert float(inside.sum()) * 0.005**2 == pytest.approx(np.pi, rel=0.01)
        reach = (float(axis[x.max()]), -float(axis[y.min()]), float(axis[y.max()]))
        assert reach == pytest.approx(EXTENTS[shape], abs=0.012)
        assert float(x.float().mean()) == pytest.approx(400, abs=1)
        assert float(y.float().mean()) == pytest.approx(400, abs=3)


def test_held_out_triples_are_an_eighth_and_every_pair_stays_in_training():
    triples = list(product(COLOURS, SHAPES, MOTIONS))
    training = [triple for triple in triples if not is_held_out(*triple)]
    assert len(triples) - len(training) == len(triples) // 8
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert {(t[i], t[j]) for t in training} == {(t[i], t[j]) for t in triples}


@pytest.mark.parametrize("objects", [(1, 1), (1, 3)])
def test_training_scenes_hold_no_held_out_triple_and_held_out_scenes_open_with_one(objects: tuple[int, int]):
    level = Flat(objects)
    for scene in scenes(level, 300):
        assert not any(is_held_out(thing.colour, thing.shape, thing.motion) for thing in scene.objects)
    for scene in scenes(level, 300, held_out=True):
        first, *others = (is_held_out(thing.colour, thing.shape, thing.motion) for thing in scene.objects)
        assert first
        assert not any(others)


def test_every_factor_is_drawn():
    drawn = scenes(Flat((1, 3), graded=0.5), 600)
    things = [thing for scene in drawn for thing in scene.objects]
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.motion for thing in things} == set(MOTIONS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {len(scene.objects) for scene in drawn} == {1, 2, 3}
    assert {scene.background.colour for scene in drawn} == set(BACKGROUNDS)
    assert 0.4 < np.mean([scene.background.other is not None for scene in drawn]) < 0.6


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 64), (48, 96), (96, 48)])
def test_objects_are_whole_and_apart_throughout(count: int, size: tuple[int, int]):
    level = Flat((count, count))
    for scene in scenes(level, 40):
        masks = level.render(scene, 9, *size).masks
        for index, thing in enumerate(scene.objects):
            diameter = path(thing, np.linspace(0, 1, 9))[2] * min(size)
            area = (masks == index + 1).sum((1, 2)).numpy()
            assert (area > 0.85 * np.pi * diameter**2 / 4 - 4).all()


def test_short_captions_are_true_of_the_pixels():
    level = Flat((1, 3), graded=0.5)
    pattern = re.compile(rf"an? (\w+) (\w+) (\w+) ({'|'.join(MOTION_WORDS.values())})")
    for scene in scenes(level, 60):
        short = level.describe(scene).short
        rendering = level.render(scene, 9, 128, 128)
        said = pattern.findall(short)
        assert len(said) == int(rendering.masks.max()) == len(scene.objects)
        assert ("shapes" in short) == (len(said) > 1)
        for index, (size, colour, shape, motion) in enumerate(said):
            mask = rendering.masks == index + 1
            middle = rendering.pixels[:, mask].median(dim=1).values
            assert torch.allclose(middle, torch.tensor(COLOURS[colour]) * 2 - 1, atol=1e-4)
            assert shape_of(mask[-1] if mask[-1].sum() > mask[0].sum() else mask[0]) == shape
            assert MOTION_WORDS[motion_of(mask)] == motion
            diameter = 2 * float(mask[4].sum() / np.pi) ** 0.5 / 128 / CROWDING[len(said)]
            assert diameter == pytest.approx(SIZES[size], rel=0.1)
        named = re.findall(r"(black|navy|dark grey|light grey|beige|white)", short)
        found = backgrounds_of(rendering)
        # A gradient may pass through other colours of the palette, in the palette's order.
        assert named == (found if len(found) < 2 else [found[0], found[-1]])
        assert ("graded" in short) == (len(named) == 2)


def test_dense_captions_are_true_of_the_pixels():
    level = Flat((1, 3), graded=1.0)
    for scene in scenes(level, 60, seed=1):
        dense = level.describe(scene).dense
        rendering = level.render(scene, 9, 120, 120)
        starts = re.findall(r"in the ([a-z ]+?) of the frame", dense)
        ends = re.findall(r"moves (left|right|up|down) (?:to the ([a-z ]+)|within it)\.", dense)
        turns = re.findall(r"(clockwise|anticlockwise) loop", dense)
        assert len(starts) == len(scene.objects)
        for index, place in enumerate(starts):
            track = [centroid(mask) for mask in rendering.masks == index + 1]
            assert np.all(np.abs(3 * np.array(track[0]) - np.array(PLACES[place]) - 0.5) < 0.54)
            motion = motion_of(rendering.masks == index + 1)
            if motion in ("left", "right", "up", "down"):
                direction, end = ends.pop(0)
                assert direction == motion
                assert np.all(np.abs(3 * np.array(track[-1]) - np.array(PLACES[end or place]) - 0.5) < 0.54)
            if motion == "loop":
                (x0, y0), (x1, y1), (x2, y2) = track[0], track[2], track[4]
                # With y down, a positive cross product turns to the right.
                clockwise = (x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1) > 0
                assert turns.pop(0) == ("clockwise" if clockwise else "anticlockwise")
        fades = re.search(
            r"fades from ([a-z ]+?) (?:on|at) the (\w+) to ([a-z ]+?) (?:on|at) the (\w+)", dense
        )
        assert fades
        empty = level.render(FlatScene((), scene.background), 1, 120, 120).pixels[:, 0]
        edge = {
            "left": empty[:, 60, 0],
            "right": empty[:, 60, -1],
            "top": empty[:, 0, 60],
            "bottom": empty[:, -1, 60],
        }
        for name, side in (fades.group(1, 2), fades.group(3, 4)):
            assert torch.allclose(edge[side], torch.tensor(BACKGROUNDS[name]) * 2 - 1, atol=0.02)


def test_structured_captions_say_the_same():
    level = Flat((1, 3), graded=0.5)
    for scene in scenes(level, 20):
        captions = level.describe(scene)
        assert captions.structured["count"] == len(scene.objects)
        for thing in captions.structured["objects"]:
            assert f"{thing['size']} {thing['colour']} {thing['shape']}" in captions.short
        assert (
            captions.structured["background"]["kind"]
            in captions.short.replace("a background graded", "graded") + "plain"
        )


def test_flow_carries_each_frame_onto_the_next():
    level = Flat((1, 3), graded=0.0)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    moved = 0
    for scene in scenes(level, 25, seed=2):
        rendering = level.render(scene, 9, 64, 64)
        for k in range(8):
            place = torch.stack([x, y]) + rendering.flow[k]
            grid = torch.stack([place[0], place[1]], dim=-1)[None] / 32 - 1
            front = rendering.masks[k] > 0
            following = rendering.pixels[:, k + 1][None]
            warped = functional.grid_sample(following, grid, padding_mode="border", align_corners=False)[0]
            error = (warped - rendering.pixels[:, k])[:, front].square().mean()
            stood = (following[0] - rendering.pixels[:, k])[:, front].square().mean()
            assert error < 0.03
            if stood > 0.2:
                assert error < stood / 8
                moved += 1
            behind = (rendering.masks[k] == 0) & (rendering.flow[k].abs().sum(0) > 0)
            assert not behind.any()
    assert moved > 50


def test_flow_of_a_shift_is_its_step_in_pixels():
    thing = FlatObject("red", "square", "small", "left", 0.3, (0.5, 0.4), 0.4)
    rendering = Flat().render(FlatScene((thing,), Background("white")), 5, 50, 100)
    inside = rendering.masks[:-1] == 1
    assert torch.allclose(rendering.flow[:, 0][inside], torch.tensor(-0.1 * 100), atol=1e-3)
    assert torch.allclose(rendering.flow[:, 1][inside], torch.tensor(0.0), atol=1e-3)


def test_motion_spans_the_clip_whatever_its_length():
    level = Flat()
    for scene in scenes(level, 10):
        short, long = level.render(scene, 5, 48, 48), level.render(scene, 17, 48, 48)
        assert torch.allclose(short.pixels, long.pixels[:, ::4], atol=1e-4)
        assert level.render(scene, 1, 48, 48).pixels.shape == (3, 1, 48, 48)


def test_what_a_seed_draws_belongs_to_the_version():
    """If this fails, the world has changed: raise `_VERSION` in flat.py, then renew these values."""
    level = Flat((1, 2))
    drawn = scenes(level, 3, seed=7)
    assert [level.describe(scene).short for scene in drawn] == GOLDEN_CAPTIONS
    means = [float(level.render(scene, 5, 32, 32).pixels.mean()) for scene in drawn]
    assert means == pytest.approx(GOLDEN_MEANS, abs=1e-4)
    assert level.fingerprint == GOLDEN_FINGERPRINT


def test_fingerprint_follows_every_argument():
    prints = {
        Flat().fingerprint,
        Flat((1, 2)).fingerprint,
        Flat((2, 2)).fingerprint,
        Flat(graded=0.5).fingerprint,
    }
    assert len(prints) == 4
    assert Flat((1, 2)).fingerprint == Flat((1, 2)).fingerprint


@pytest.mark.parametrize("objects", [(0, 1), (2, 1), (1, 4)])
def test_impossible_counts_are_refused(objects: tuple[int, int]):
    with pytest.raises(
        InputError, match=f"objects is {objects[0]} to {objects[1]}, but must lie within 1 to 3"
    ):
        Flat(objects)


def test_an_impossible_share_is_refused():
    with pytest.raises(InputError, match=r"graded is 1\.5, but is a share"):
        Flat(graded=1.5)
