"""The named characters of the room: who they are made of, and in which colours.

Every character pairs a colour below with another above, and no two share a pair: identity can be read
from the colours alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["CHARACTERS", "Part"]

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """One primitive of a character; lengths in metres, y down, the origin on the floor.

    Attributes:
        shape: a key of `vdit.world.primitives.PRIMITIVES`.
        centre: where its middle is.
        extents: half of its size along x, y and z.
        colours: names of the main colour and of the pattern's other colour.
        pattern: a key of `vdit.world.primitives.PATTERNS`.
    """

    shape: str
    centre: Vector
    extents: Vector
    colours: tuple[str, str]
    pattern: str


def _ball(height: float, radius: float, colours: tuple[str, str], pattern: str = "plain") -> Part:
    return Part("sphere", (0.0, -height, 0.0), (radius, radius, radius), colours, pattern)


def _pair(part: Part, apart: float) -> tuple[Part, Part]:
    """The part twice, left and right of the middle."""
    x, y, z = part.centre
    left, right = (
        Part(part.shape, (x + side * apart, y, z), part.extents, part.colours, part.pattern)
        for side in (-1, 1)
    )
    return left, right


CHARACTERS: Mapping[str, tuple[Part, ...]] = MappingProxyType(
    {
        # A cat: striped cone, ball head, two pointed ears.
        "Mika": (
            Part("cone", (0.0, -0.42, 0.0), (0.40, 0.42, 0.40), ("purple", "yellow"), "stripes"),
            _ball(0.92, 0.27, ("yellow", "yellow")),
            *_pair(Part("cone", (0.0, -1.20, 0.0), (0.09, 0.13, 0.09), ("purple", "purple"), "plain"), 0.15),
        ),
        # A robot: checkered box, box head, hat.
        "Bolo": (
            Part("cube", (0.0, -0.38, 0.0), (0.36, 0.38, 0.28), ("green", "yellow"), "checks"),
            Part("cube", (0.0, -0.97, 0.0), (0.24, 0.20, 0.22), ("yellow", "yellow"), "plain"),
            Part("cylinder", (0.0, -1.24, 0.0), (0.12, 0.08, 0.12), ("green", "green"), "plain"),
        ),
        # A bird: round body, small head, beak-like hat.
        "Tuni": (
            _ball(0.42, 0.42, ("cyan", "blue"), "stripes"),
            _ball(0.98, 0.24, ("blue", "blue")),
            Part("cone", (0.0, -1.27, 0.0), (0.16, 0.14, 0.16), ("cyan", "cyan"), "plain"),
        ),
        # A bear: dotted drum, ball head, two round ears.
        "Zuzu": (
            Part("cylinder", (0.0, -0.40, 0.0), (0.36, 0.40, 0.36), ("red", "cyan"), "dots"),
            _ball(0.98, 0.28, ("cyan", "cyan")),
            *_pair(_ball(1.24, 0.11, ("red", "red")), 0.20),
        ),
        # A lamp: wide foot, thin neck, shade.
        "Pip": (
            Part("cylinder", (0.0, -0.14, 0.0), (0.38, 0.16, 0.38), ("blue", "blue"), "plain"),
            Part("cylinder", (0.0, -0.50, 0.0), (0.20, 0.26, 0.20), ("pink", "pink"), "plain"),
            Part("cone", (0.0, -0.98, 0.0), (0.40, 0.30, 0.40), ("blue", "pink"), "halves"),
        ),
        # A snowman: three balls and a hat.
        "Oro": (
            _ball(0.38, 0.38, ("orange", "blue"), "dots"),
            _ball(0.88, 0.26, ("blue", "blue")),
            _ball(1.20, 0.16, ("orange", "orange")),
        ),
    }
)
