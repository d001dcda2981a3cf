"""The shapes of the clips of a run: each is a bucket of its own."""

import re
from dataclasses import dataclass

from vdit.data.mixture import Mixture
from vdit.train.task import Data
from vdit.types import InputError

__all__ = ["ClipShape", "shapes_of"]

WRITTEN = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class ClipShape:
    """Clips of one shape.

    Attributes:
        frames: of a clip.
        height: pixels.
        width: pixels.
        share: of all steps, beside those of the other shapes.
    """

    frames: int
    height: int
    width: int
    share: float = 1.0

    @classmethod
    def read(cls, text: str) -> "ClipShape":
        """Of a text such as `81x720x1280`. Raises InputError where it says something else."""
        found = WRITTEN.fullmatch(text)
        sizes = [int(size) for size in found.groups()] if found else [0]
        if min(sizes) < 1:
            raise InputError(
                f"--clip {text} is no shape of clips: write frames, height and width, as in 81x720x1280"
            )
        return cls(*sizes)


def shapes_of(data: Data) -> list[ClipShape]:
    """The shapes of the clips that a run learns from, by the first clip of each source."""
    source = data.train
    parts = [(p.source, p.share) for p in source.parts] if isinstance(source, Mixture) else [(source, 1.0)]
    found = []
    for part, share in parts:
        clip = part.format(0)
        found.append(ClipShape(clip.frames, clip.height, clip.width, share))
    return found
