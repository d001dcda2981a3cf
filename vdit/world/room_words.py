"""The captions of the room: one grammar, three lengths, and only what the clip shows."""

from typing import Any

from vdit.camera.moves import MOVES, CameraMove
from vdit.world.level import Captions
from vdit.world.room_scene import MOTIONS, Guest, RoomObject, RoomScene
from vdit.world.words import article, listing

__all__ = ["caption_scene"]

_LIT = {"left": "from the left", "above": "from above", "right": "from the right"}


def caption_scene(scene: RoomScene) -> Captions:
    """The scene in words; the short caption names every judged attribute."""
    camera = f"the camera {MOVES[scene.camera.word].phrase}"
    names = listing([_name(thing) for thing in _from_left(scene)])
    unnamed = ["someone" if isinstance(thing, Guest) else _name(thing) for thing in _from_left(scene)]
    doings = listing([f"{_full_name(thing)} {MOTIONS[thing.motion]}" for thing in _from_left(scene)])
    room = article(f"{scene.walls} room")
    return Captions(
        short=f"{names} in {room}, {camera}",
        things=f"{names} in {room}",
        unnamed=f"{listing(unnamed)} in {room}",
        dense=(
            f"{doings} in {room} with {article(scene.floor)} floor, lit {_LIT[scene.light]}; "
            f"{camera}{_extent(scene.camera)}"
        ),
        structured={
            "things": [_facts(thing) for thing in _from_left(scene)],
            "room": {"walls": scene.walls, "floor": scene.floor, "light": scene.light},
            "camera": {
                "move": scene.camera.word,
                "amplitude": scene.camera.amplitude,
                "unit": MOVES[scene.camera.word].unit,
            },
        },
    )


def _from_left(scene: RoomScene) -> list[RoomObject | Guest]:
    """The things in the order in which the first frame shows them."""
    return sorted(scene.things, key=lambda thing: thing.place[0] / thing.place[1])


def _name(thing: RoomObject | Guest) -> str:
    return thing.name if isinstance(thing, Guest) else article(f"{thing.colour} {thing.shape}")


def _full_name(thing: RoomObject | Guest) -> str:
    return thing.name if isinstance(thing, Guest) else article(f"{thing.size} {thing.colour} {thing.shape}")


def _extent(move: CameraMove) -> str:
    if move.word == "static":
        return ""
    return f" {'' if MOVES[move.word].unit == 'times' else 'by '}{move.amplitude:g} {MOVES[move.word].unit}"


def _facts(thing: RoomObject | Guest) -> dict[str, Any]:
    if isinstance(thing, Guest):
        return {"character": thing.name, "motion": thing.motion}
    return {"colour": thing.colour, "shape": thing.shape, "size": thing.size, "motion": thing.motion}
