"""A level as a set of clips, drawn when asked for: the index is the seed, nothing is stored."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdit.types import Clip, ClipFormat, InputError
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
        rates: frames per second, of which each clip has one, instead of `fps`; of twice `fps` it shows the
            first half of its motion in as many frames.

    Raises:
        InputError: if there are no clips or frames, a side is shorter than 16 pixels, or a rate is below
            `fps` or makes of the motion no whole number of frames.
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
        rates: Sequence[float] = (),
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
        for rate in rates:
            if rate < fps or ((frames - 1) * rate / fps) % 1:
                raise InputError(
                    f"rates has {rate:g}, but must have {fps:g} or more, at which the motion of {frames} "
                    "frames takes a whole number of them"
                )
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
        self.rates = tuple(rates)

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
            *self.rates,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def told(self) -> Told:
        """Which caption goes with a clip."""
        return self._caption

    @property
    def fps(self) -> float:
        """Frames per second of a clip that shows all of its motion."""
        return self._fps

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

    def rate(self, index: int) -> float:
        """Frames per second of clip `index`."""
        if not self.rates:
            return self._fps
        return float(np.random.default_rng((self._seed, index, len(self.rates))).choice(self.rates))

    def caption(self, index: int) -> str:
        """The caption of clip `index`, without drawing it."""
        return getattr(self.level.describe(self.scene(index)), self._caption)

    def format(self, index: int) -> ClipFormat:
        """Length, size and rate of clip `index`, without drawing it."""
        return ClipFormat(self._frames, self._height, self._width, self.rate(index))

    def video(self, index: int) -> str:
        """The scene of clip `index`: every clip is one of its own."""
        return f"{self.level.fingerprint}-{self._seed}-{self._held_out}-{index}"

    def __getitem__(self, index: int) -> Clip:
        scene = self.scene(index)
        fps = self.rate(index)
        whole = 1 + round((self._frames - 1) * fps / self._fps)  # of these, the clip shows the first
        rendering = self.level.render(scene, whole, self._height, self._width)
        cameras = rendering.cameras
        return Clip(
            id=f"{self.level.name}-{self._seed}-{'held-' if self._held_out else ''}{index:06d}",
            pixels=rendering.pixels[:, : self._frames],
            fps=fps,
            caption=getattr(self.level.describe(scene), self._caption),
            cameras=None if cameras is None else cameras.at(range(self._frames)),
            references=self._portraits(scene) if self.references else None,
        )

    def _portraits(self, scene: Any) -> Float[Tensor, "k 3 h w"]:
        portrait = self.level.portrait(scene, self._height, self._width)
        return torch.zeros(0, 3, self._height, self._width) if portrait is None else portrait[None]
