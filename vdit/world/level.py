"""What a level of the world is: scenes drawn at random, rendered exactly, described in words, judged.

A level is the ground truth of an experiment. Training sees its renderings and captions; scoring asks
a model for the captions of scenes it never saw and hands the clips back to the level's judge.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vdit.types import Cameras

__all__ = ["Captions", "Level", "Rendering", "Verdict"]

Scene = TypeVar("Scene")


@dataclass(frozen=True)
class Captions:
    """One scene in words, from one grammar.

    Attributes:
        short: one sentence that names every judged attribute.
        things: the short one without the camera, for models that are told it otherwise.
        unnamed: likewise, with "someone" for whoever has a name, for models that are shown who.
        dense: the short one and all that can be seen besides.
        structured: the same facts as JSON-serialisable values.
    """

    short: str
    things: str
    unnamed: str
    dense: str
    structured: Mapping[str, Any]


@dataclass(frozen=True)
class Rendering:
    """A scene as pixels, and the exact truth behind every pixel.

    Attributes:
        pixels: RGB in [-1, 1].
        masks: 0 for background, i + 1 where object i is in front.
        flow: forward optical flow (x right, y down) in pixels from frame k to k + 1.
        depth: distance along the camera's z axis in metres; None in a flat world.
        cameras: None in a flat world.
    """

    pixels: Float[Tensor, "3 t h w"]
    masks: Int64[Tensor, "t h w"]
    flow: Float[Tensor, "t-1 2 h w"]
    depth: Float[Tensor, "t h w"] | None = None
    cameras: Cameras | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge found in a clip.

    Attributes:
        right: attribute -> whether the clip shows what the scene asked for.
        seen: attribute -> what the judge believes to have seen, for people.
    """

    right: Mapping[str, bool]
    seen: Mapping[str, str]

    @property
    def all_right(self) -> bool:
        return all(self.right.values())


class Level(ABC, Generic[Scene]):
    """A kind of world. Scenes are frozen dataclasses of the level's own."""

    name: ClassVar[str]
    attributes: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever any scene, pixel or caption drawn from the same seed could change."""

    @abstractmethod
    def scene(self, rng: np.random.Generator, held_out: bool) -> Scene:
        """A scene at random, from the held-out combinations of attributes or from all the others."""

    @abstractmethod
    def render(self, scene: Scene, frames: int, height: int, width: int) -> Rendering:
        """The scene as a clip. The motion spans the clip, however many frames it has."""

    @abstractmethod
    def describe(self, scene: Scene) -> Captions:
        """The scene in words."""

    def portrait(self, scene: Scene, height: int, width: int) -> Float[Tensor, "3 h w"] | None:
        """An image of whoever has a name in the scene, elsewhere and seen otherwise; None where nobody is."""
        return None

    @abstractmethod
    def judge(self, pixels: Float[torch.Tensor, "3 t h w"], scene: Scene) -> Verdict:
        """Whether a clip, of whatever origin, shows the scene."""
