from typing import Any

import pytest
import torch

from vdit.types import Clip, ClipSource, InputError
from vdit.world.flat import Flat
from vdit.world.room import Room
from vdit.world.source import WorldSource


def source(**changes: Any) -> WorldSource:
    return WorldSource(**({"level": Flat(), "clips": 6, "frames": 5, "height": 32, "width": 48} | changes))


def test_it_is_a_clip_source():
    clips = source(seed=7, fps=12.0)
    assert isinstance(clips, ClipSource)
    assert len(clips) == 6
    clip = clips[3]
    assert isinstance(clip, Clip)
    assert clip.id == "flat-7-000003"
    assert clip.fps == 12.0
    assert clip.pixels.shape == (3, 5, 32, 48)
    assert clip.pixels.dtype == torch.float32
    assert clip.pixels.min() >= -1
    assert clip.pixels.max() <= 1
    assert clip.caption == clips.caption(3)


def test_a_clip_is_a_pure_function_of_seed_and_index():
    first, second = source(), source(clips=100)
    for index in (4, 0, 4):
        assert torch.equal(first[index].pixels, second[index].pixels)
        assert first[index].caption == second[index].caption
    assert first.scene(0) == second.scene(0)
    assert first.scene(0) != first.scene(1)
    assert first.scene(0) != source(seed=1).scene(0)


def test_held_out_clips_have_names_and_scenes_of_their_own():
    seen, unseen = source(clips=200), source(clips=200, held_out=True)
    assert unseen[2].id == "flat-0-held-000002"
    triples = [
        {(thing.colour, thing.shape, thing.motion) for i in range(200) for thing in clips.scene(i).objects}
        for clips in (seen, unseen)
    ]
    assert not triples[0] & triples[1]


def test_the_caption_asked_for_is_given():
    scene = source().scene(1)
    assert source().caption(1) == Flat().describe(scene).short
    assert (
        source(caption="dense").caption(1)
        == source(caption="dense")[1].caption
        == Flat().describe(scene).dense
    )


def test_of_twice_the_rate_a_clip_shows_half_of_its_motion():
    room = {"level": Room(), "frames": 5, "width": 32, "clips": 8}
    clips, whole = source(**room, rates=[8.0, 16.0]), source(**room)
    longer = source(**{**room, "frames": 9})
    rates = [clips.rate(i) for i in range(8)]
    assert set(rates) == {8.0, 16.0}
    for i in (rates.index(8.0), rates.index(16.0)):
        assert clips[i].fps == rates[i]
        alike = whole[i] if rates[i] == 8.0 else longer[i]
        assert torch.equal(clips[i].pixels, alike.pixels[:, :5])
        found, expected = clips[i].cameras, alike.cameras
        assert found is not None
        assert expected is not None
        torch.testing.assert_close(found.c2w, expected.c2w[:5])
        assert len(found.intrinsics) == 5
        assert clips[i].caption == whole[i].caption


def test_fingerprint_follows_every_argument():
    changes = [
        {}, {"level": Flat((1, 2))}, {"clips": 7}, {"frames": 9}, {"height": 48}, {"width": 32}, {"fps": 9.0},
        {"seed": 1}, {"held_out": True}, {"caption": "dense"}, {"references": True}, {"rates": [8.0, 16.0]},
    ]  # fmt: skip
    assert len({source(**change).fingerprint for change in changes}) == len(changes)
    assert source().fingerprint == source().fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames is 0, but must be at least 1"),
        ({"height": 15}, "height is 15, but must be at least 16"),
        ({"width": 8}, "width is 8, but must be at least 16"),
        ({"clips": 0}, "clips is 0, but must be at least 1"),
        ({"seed": -1}, "seed is -1, but must be at least 0"),
        ({"fps": 0.0}, "fps is 0.0, but must be above 0"),
        ({"rates": [4.0]}, "rates has 4, but must have 8 or more"),
        ({"rates": [9.0]}, "the motion of 5 frames takes a whole number of them"),
        ({"caption": "long"}, "caption is 'long', but must be one of short, things"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        source(**change)


@pytest.mark.parametrize("index", [-1, 6])
def test_there_is_no_clip_beyond_the_last(index: int):
    with pytest.raises(IndexError, match=f"clip {index} of a source of 6"):
        source()[index]
