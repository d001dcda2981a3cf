import itertools
import json
import re

import numpy as np
import pytest
import torch

from vdit.camera.moves import MOVES, CameraMove
from vdit.types import InputError
from vdit.world.characters import CHARACTERS
from vdit.world.room import Room
from vdit.world.room_scene import MOTIONS, SHAPES, TEXTURES, Guest, RoomObject, RoomScene, is_held_out, track
from vdit.world.room_textures import atlas
from vdit.world.source import WorldSource
from vdit.world.words import COLOURS

TINT = (1.04, 0.96)  # the warmest that scenes have
SCENE = RoomScene(
    walls="brick",
    floor="wooden",
    variant=0,
    tint=(1.0, 1.0),
    light="left",
    objects=(RoomObject("red", "cube", "small", "bounce", (0.8, 3.5), 0.7),),
    guest=Guest("Mika", "left", (-0.6, 3.5), 0.0),
    camera=CameraMove("pan left", 17.5),
)


def draws(count: int, held_out: bool = False, room: Room | None = None) -> list[RoomScene]:
    rng = np.random.default_rng(1)
    return [(room or Room(objects=(1, 3))).scene(rng, held_out) for _ in range(count)]


def test_a_seed_decides_everything():
    one, two = (WorldSource(Room(), 3, 5, 32, 48, seed=4) for _ in range(2))
    assert torch.equal(one[2].pixels, two[2].pixels)
    assert one[2].caption == two[2].caption
    assert not torch.equal(one[1].pixels, one[2].pixels)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 16, 16), (5, 24, 40), (2, 40, 24)])
def test_renderings_have_the_promised_shapes(frames: int, height: int, width: int):
    rendering = Room().render(SCENE, frames, height, width)
    assert rendering.pixels.shape == (3, frames, height, width)
    assert rendering.masks.shape == (frames, height, width)
    assert rendering.flow.shape == (frames - 1, 2, height, width)
    assert rendering.depth is not None
    assert rendering.depth.shape == (frames, height, width)
    assert rendering.pixels.abs().max() <= 1
    assert rendering.pixels.dtype == rendering.flow.dtype == rendering.depth.dtype == torch.float32


def test_captions_of_one_scene():
    captions = Room().describe(SCENE)
    assert captions.short == "Mika and a red cube in a brick room, the camera pans left"
    assert captions.dense == (
        "Mika moving left and a small red cube bouncing in a brick room with a wooden floor, "
        "lit from the left; the camera pans left by 17.5 degrees"
    )
    assert json.loads(json.dumps(captions.structured)) == {
        "things": [
            {"character": "Mika", "motion": "left"},
            {"colour": "red", "shape": "cube", "size": "small", "motion": "bounce"},
        ],
        "room": {"walls": "brick", "floor": "wooden", "light": "left"},
        "camera": {"move": "pan left", "amplitude": 17.5, "unit": "degrees"},
    }


def test_captions_say_all_that_is_asked_and_nothing_else():
    for scene in draws(200):
        captions = Room().describe(scene)
        for caption in (captions.short, captions.dense):
            words = set(re.findall(r"[\w-]+", caption))
            assert words & set(CHARACTERS) == ({scene.guest.name} if scene.guest else set())
            assert words & set(SHAPES) == {item.shape for item in scene.objects}
            assert all(f"{item.colour} {item.shape}" in caption for item in scene.objects)
            assert {colour for colour in COLOURS if colour in words} == {
                item.colour for item in scene.objects
            }
            assert f"{scene.walls} room" in caption
            assert f"the camera {MOVES[scene.camera.word].phrase}" in caption


def test_captions_name_things_from_left_to_right():
    for scene in draws(30):
        masks = Room().render(scene, 1, 64, 64).masks[0]
        places = [(masks == i).nonzero()[:, 1].float().mean() for i in range(1, len(scene.things) + 1)]
        caption = Room().describe(scene).short
        said = [
            caption.index(thing.name if isinstance(thing, Guest) else f"{thing.colour} {thing.shape}")
            for thing in scene.things
        ]
        assert np.argsort(places).tolist() == np.argsort(said).tolist()


def test_every_thing_is_seen_in_the_first_frame():
    for scene in draws(60):
        areas = torch.bincount(Room().render(scene, 1, 64, 64).masks.flatten(), minlength=4)[1:]
        assert (areas[: len(scene.things)] > 40).all()


def test_one_triple_in_eight_is_held_out_and_every_pair_is_trained():
    triples = list(itertools.product(COLOURS, SHAPES, MOVES))
    trained = [triple for triple in triples if not is_held_out(*triple)]
    assert len(trained) == pytest.approx(7 / 8 * len(triples), rel=0.02)
    for first, second in itertools.combinations(range(3), 2):
        asked = {(triple[first], triple[second]) for triple in triples}
        assert {(triple[first], triple[second]) for triple in trained} == asked


@pytest.mark.parametrize("held_out", [True, False])
def test_scenes_keep_to_their_side(held_out: bool):
    for scene in draws(150, held_out):
        sides = [is_held_out(item.colour, item.shape, scene.camera.word) for item in scene.objects]
        assert any(sides) == held_out


def test_things_of_a_scene_share_no_colour_and_never_touch():
    for scene in draws(100):
        colours = [item.colour for item in scene.objects]
        if scene.guest:
            colours += {colour for part in CHARACTERS[scene.guest.name] for colour in part.colours}
        assert len(colours) == len(set(colours))
        for one, two in itertools.combinations(scene.things, 2):
            ways = [np.array(thing.place) + track(thing.motion, 9)[:, [0, 2]] for thing in (one, two)]
            assert np.linalg.norm(ways[0] - ways[1], axis=1).min() >= one.reach + two.reach


def test_all_words_are_drawn():
    scenes = draws(600)
    assert {scene.camera.word for scene in scenes} == set(MOVES)
    assert {scene.walls for scene in scenes} == set(TEXTURES)
    assert {scene.guest.name for scene in scenes if scene.guest} == set(CHARACTERS)
    assert {thing.motion for scene in scenes for thing in scene.things} == set(MOTIONS)
    assert {len(scene.things) for scene in scenes} == {1, 2, 3}


def test_characters_have_colours_and_forms_of_their_own():
    worn = [frozenset(colour for part in parts for colour in part.colours) for parts in CHARACTERS.values()]
    assert len(set(worn)) == len(worn)
    forms = [tuple(part.shape for part in parts) for parts in CHARACTERS.values()]
    assert len(set(forms)) == len(forms)
    assert all(3 <= len(parts) <= 4 for parts in CHARACTERS.values())


def test_a_level_can_be_narrowed():
    room = Room(objects=(1, 1), guests=1.0, characters=["Mika"], moves=["static", "pan left"])
    scenes = draws(40, room=room)
    assert all(scene.guest and scene.guest.name == "Mika" and len(scene.objects) == 1 for scene in scenes)
    assert {scene.camera.word for scene in scenes} == {"static", "pan left"}
    assert room.fingerprint != Room().fingerprint
    assert room.fingerprint == Room((1, 1), 1.0, ("Mika",), ("static", "pan left")).fingerprint


@pytest.mark.parametrize("texture", TEXTURES)
def test_walls_are_muted_and_textured_in_all_octaves(texture: str):
    for variant in range(3):
        scene = RoomScene(texture, texture, variant, TINT, "above", (), None, CameraMove("static", 0.0))
        image = atlas(scene, 128)
        assert ((image.amax(0) - image.amin(0)) / image.amax(0)).max() < 0.33
        back = image.mean(0).unflatten(0, (6, 128))[5]
        for cell in (1, 4, 16):
            octave = back.unfold(0, cell, cell).unfold(1, cell, cell).mean((2, 3))
            assert octave.std() > 0.015


def test_refusals_name_the_remedy():
    with pytest.raises(InputError, match="objects is 0 to 2, but must lie within 1 to 3"):
        Room(objects=(0, 2))
    with pytest.raises(InputError, match=r"guests is 1\.5, but is a share"):
        Room(guests=1.5)
    with pytest.raises(InputError, match="characters is Mika, Nobody; choose at least one of Mika"):
        Room(characters=["Mika", "Nobody"])
    with pytest.raises(InputError, match="moves is empty; choose at least one of static"):
        Room(moves=[])
    with pytest.raises(InputError, match="wall texture 'velvet' is unknown in the room; choose one of brick"):
        RoomScene("velvet", "stone", 0, (1.0, 1.0), "above", (), None, CameraMove("static", 0.0))
    with pytest.raises(InputError, match="shape 'torus' is unknown"):
        RoomScene(
            "stone",
            "stone",
            0,
            (1.0, 1.0),
            "above",
            (RoomObject("red", "torus", "small", "still", (0.0, 3.5), 0.0),),
            None,
            CameraMove("static", 0.0),
        )
