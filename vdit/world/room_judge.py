"""The judge of the room: colours, shapes, count, character and camera move, by rules and without training.

Walls are muted and things saturated, and no two things of a scene share a colour: hue finds the pieces of
each thing, and the renderer itself supplies the silhouettes to compare them with.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from vdit.camera.moves import CameraMove
from vdit.world.camera_judge import blur, name_move
from vdit.world.characters import CHARACTERS
from vdit.world.level import Verdict
from vdit.world.raycast import cast
from vdit.world.room_pieces import Patch, closed, colour_classes, cut, likeness, regions
from vdit.world.room_scene import SHAPES, SIZES, Guest, RoomObject, RoomScene
from vdit.world.words import COLOURS, listing

__all__ = ["Sight", "judge_scene", "look"]

NOBODY = "nobody"
_SIDE = 64  # pixels of the shorter side of the frames that are looked at
_LEAST = 0.004  # share of the frame below which a piece is taken for a stain
_KNOWN = 0.35  # likeness from which a region is taken for a character
_SOFT = 1.0  # blur in pixels of the softer templates: codecs and young models draw no sharp edges
_LOOKS = 5  # frames looked at, from the first third of the clip, in which nothing has left the view


@dataclass(frozen=True)
class Sight:
    """What one frame, or a whole clip, shows.

    Attributes:
        objects: colour and shape of each object.
        guest: the character, or "nobody".
    """

    objects: tuple[tuple[str, str], ...]
    guest: str

    @property
    def count(self) -> int:
        """Objects, and the guest."""
        return len(self.objects) + (self.guest != NOBODY)


def judge_scene(pixels: Float[Tensor, "3 t h w"], scene: RoomScene) -> Verdict:
    """Whether a clip shows the scene's colours, shapes, count, character and camera move.

    An object's shape is that of the piece of its colour; where its colour is missing, of any piece that no
    other object claims. So a wrong colour does not spoil the shape, and a swap of colours does.

    Raises:
        InputError: if the clip has fewer than two frames.
    """
    move = name_move(pixels)
    seen = look(pixels)
    asked = Sight(
        tuple((item.colour, item.shape) for item in scene.objects),
        scene.guest.name if scene.guest else NOBODY,
    )
    return Verdict(
        right={
            "colour": Counter(colour for colour, _ in asked.objects)
            == Counter(colour for colour, _ in seen.objects),
            "shape": _same_shapes(asked.objects, seen.objects),
            "count": asked.count == seen.count,
            "character": asked.guest == seen.guest,
            "camera": scene.camera.word == move,
        },
        seen={
            "colour": listing([colour for colour, _ in seen.objects]),
            "shape": listing([shape for _, shape in seen.objects]),
            "count": str(seen.count),
            "character": seen.guest,
            "camera": move,
        },
    )


def look(pixels: Float[Tensor, "3 t h w"]) -> Sight:
    """The things in a clip: what its early frames agree on."""
    early = torch.linspace(0, (pixels.shape[1] - 1) // 3, _LOOKS).round().long().unique()
    frames = rearrange(pixels[:, early].float(), "c t h w -> t c h w")
    scale = _SIDE / min(frames.shape[2:])
    if scale < 1:
        size = [round(scale * side) for side in frames.shape[2:]]
        frames = functional.interpolate(frames, size=size, mode="area")
    classes = colour_classes(frames)
    guest = _find_guest(classes)
    if guest != NOBODY:
        classes = torch.stack([_without(frame, guest) for frame in classes])
    return Sight(
        tuple(thing for colour in range(len(COLOURS)) for thing in _find_objects(classes, colour)), guest
    )


def _find_guest(classes: Int64[Tensor, "t h w"]) -> str:
    likely = {name: sum(_guest_in(frame, name)[1] for frame in classes) / len(classes) for name in CHARACTERS}
    best = max(likely, key=lambda name: likely[name])
    return best if likely[best] >= _KNOWN else NOBODY


def _guest_in(classes: Int64[Tensor, "h w"], name: str) -> tuple[Bool[Tensor, "h w"], float]:
    """The region most like a character, and how much it is."""
    layers = torch.stack([classes == colour for colour in _worn(name)])
    best = torch.zeros_like(layers[0]), 0.0
    for region in regions(closed(layers.any(0)), _least(classes)):
        patch = cut(layers & region)
        score = max(likeness(patch, template) for template in _guest_templates(name))
        if score > best[1]:
            best = region, score
    return best


def _without(classes: Int64[Tensor, "h w"], guest: str) -> Int64[Tensor, "h w"]:
    """The frame less a character and a rim around it, where its colours mix to others."""
    region, _ = _guest_in(classes, guest)
    rim = functional.max_pool2d(region[None, None].float(), 5, stride=1, padding=2)[0, 0] > 0
    return classes * ~rim


def _find_objects(classes: Int64[Tensor, "t h w"], colour: int) -> list[tuple[str, str]]:
    """The pieces of one colour that most frames show, each with the shape that fits it best in all."""
    pieces = [regions(frame == colour + 1, _least(frame)) for frame in classes]
    typical = sorted(len(found) for found in pieces)[len(pieces) // 2]
    things = []
    for rank in range(typical):
        fits = dict.fromkeys(SHAPES, 0.0)
        for found in pieces:
            if rank < len(found):
                patch = cut(found[rank][None])
                for shape, templates in _shape_templates().items():
                    fit = max(likeness(patch, template) for template in templates)
                    # A cut-off silhouette says little, but more than nothing.
                    fits[shape] += fit * (1.0 if patch.whole else 0.1)
        things.append((list(COLOURS)[colour], max(fits, key=lambda shape: fits[shape])))
    return things


def _same_shapes(asked: Sequence[tuple[str, str]], seen: Sequence[tuple[str, str]]) -> bool:
    """Whether each asked shape is seen in its colour or, if that is missing, in one not asked for."""
    colours = {colour for colour, _ in seen}
    bound = {pair for pair in asked if pair[0] in colours}
    free = Counter(shape for colour, shape in seen if colour not in {colour for colour, _ in asked})
    missing = Counter(shape for colour, shape in asked if colour not in colours)
    return bound <= set(seen) and missing <= free


def _least(classes: Int64[Tensor, "h w"]) -> int:
    return max(4, round(_LEAST * classes.numel()))


def _worn(name: str) -> list[int]:
    """The classes of a character's colours."""
    worn = {colour for part in CHARACTERS[name] for colour in part.colours}
    return [i for i, colour in enumerate(COLOURS, 1) if colour in worn]


@lru_cache(maxsize=1)
def _shape_templates() -> dict[str, list[Patch]]:
    """Silhouettes of each shape in two sizes, from several sides and places."""
    templates: dict[str, list[Patch]] = {}
    for shape in SHAPES:
        turns = (0.5, 0.65, 0.785, 0.92, 1.08) if shape == "cube" else (0.0,)
        templates[shape] = [
            cut((view > 0)[None])
            for yaw in turns
            for size in SIZES
            for place in ((-1.0, 3.4), (0.0, 3.4), (0.0, 4.2), (1.0, 3.4))
            for view in _views(RoomObject("blue", shape, size, "still", place, yaw))
        ]
    return templates


@lru_cache(maxsize=len(CHARACTERS))
def _guest_templates(name: str) -> list[Patch]:
    """A character from several sides and places."""
    return [
        cut(torch.stack([view == colour for colour in _worn(name)]))
        for yaw in (-0.5, -0.25, 0.0, 0.25, 0.5)
        for place in ((0.0, 3.4), (0.0, 4.2))
        for view in _views(Guest(name, "still", place, yaw))
    ]


def _views(thing: RoomObject | Guest) -> Int64[Tensor, "2 h w"]:
    """The colour classes of a frame with nothing but a thing in it, sharp and blurred."""
    objects, guest = ((), thing) if isinstance(thing, Guest) else ((thing,), None)
    scene = RoomScene("marble", "marble", 0, (1.0, 1.0), "above", objects, guest, CameraMove("static", 0.0))
    frame = rearrange(cast(scene, 1, _SIDE, _SIDE).pixels, "c t h w -> t c h w")
    return colour_classes(torch.cat([frame, blur(frame, _SOFT)]))
