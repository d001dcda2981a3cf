"""A level as a set of clips, drawn when asked for: the index is the seed, nothing is stored."""

import hashlib
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdit.types import Clip, InputError
from vdit.world.level import Level

__all__ = ["WorldSource"]

_LEAST_SIDE = 16

Told = Literal["short", "things", "unnamed", "dense"]


class WorldSource:
    """Captioned clips of a level; clip i is a pure function of (seed, i).

    Args:
        level: the kind of world.
        clips: how many there are.
        frames: length of every clip.
        height: of every frame, in pixels.
        width: of every frame, in pixels.
        fps: frames per second.
        seed: another seed, another set.
        held_out: draw only combinations of attributes that are held out of all other sets.
        caption: which caption goes with a clip.
        references: whether clips come with a portrait of whoever has a name in them.

    Raises:
        InputError: if there are no clips or frames, or a side is shorter than 16 pixels.
    """

    def __init__(
        self,
        level: Level,
        clips: int,
        frames: int,
        height: int,
        width: int,
        fps: float = 8.0,
        seed: int = 0,
        held_out: bool = False,
        caption: Told = "short",
        references: bool = False,
    ):
        for name, value, least in (
            ("clips", clips, 1),
            ("frames", frames, 1),
            ("height", height, _LEAST_SIDE),
            ("width", width, _LEAST_SIDE),
            ("seed", seed, 0),
        ):
            if value < least:
                raise InputError(f"{name} is {value}, but must be at least {least}: choose a larger {name}.")
        if fps <= 0:
            raise InputError(f"fps is {fps}, but must be above 0: choose a positive frame rate.")
        if caption not in get_args(Told):
            told = ", ".join(get_args(Told))
            raise InputError(f"caption is {caption!r}, but must be one of {told}.")
        self.level = level
        self._clips = clips
        self._frames = frames
        self._height = height
        self._width = width
        self._fps = fps
        self._seed = seed
        self._held_out = held_out
        self._caption: Told = caption
        self.references = references

    @property
    def fingerprint(self) -> str:
        """Changes whenever any pixel or caption could."""
        parts = (
            self.level.fingerprint,
            self._clips,
            self._frames,
            self._height,
            self._width,
            self._fps,
            self._seed,
            self._held_out,
            self._caption,
            *(["references"] if self.references else []),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def told(self) -> Told:
        """Which caption goes with a clip."""
        return self._caption

    def __len__(self) -> int:
        return self._clips

    def scene(self, index: int) -> Any:
        """The scene behind clip `index`.

        Raises:
            IndexError: if there is no such clip.
        """
        if not 0 <= index < self._clips:
            raise IndexError(f"clip {index} of a source of {self._clips}")
        return self.level.scene(np.random.default_rng((self._seed, index)), self._held_out)

    def caption(self, index: int) -> str:
        """The caption of clip `index`, without drawing it."""
        return getattr(self.level.describe(self.scene(index)), self._caption)

    def __getitem__(self, index: int) -> Clip:
        scene = self.scene(index)
        rendering = self.level.render(scene, self._frames, self._height, self._width)
        return Clip(
            id=f"{self.level.name}-{self._seed}-{'held-' if self._held_out else ''}{index:06d}",
            pixels=rendering.pixels,
            fps=self._fps,
            caption=getattr(self.level.describe(scene), self._caption),
            cameras=rendering.cameras,
            references=self._portraits(scene) if self.references else None,
        )

    def _portraits(self, scene: Any) -> Float[Tensor, "k 3 h w"]:
        portrait = self.level.portrait(scene, self._height, self._width)
        return torch.zeros(0, 3, self._height, self._width) if portrait is None else portrait[None]
