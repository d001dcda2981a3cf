"""Guidance: velocities composed into one that follows what is asked for more closely."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Branch", "Guidance", "compose", "ladder"]


@dataclass(frozen=True)
class Guidance:
    """How far beyond what was asked to go; 1 is exactly what was asked.

    Attributes:
        text: scale of what the text adds to all that is asked besides.
        frames: scale of what given frames add to nothing at all.
        references: scale of what references add to the frames.
        camera: scale of what the camera adds to these.
        low_text: `text` for sigma below `boundary`, where another one of two experts speaks.
        boundary: see `low_text`.
    """

    text: float
    frames: float = 1.0
    references: float = 1.0
    camera: float = 1.0
    low_text: float = 1.0
    boundary: float = 0.0

    def scales(self, sigma: float) -> dict[str, float]:
        """The scale of each at this sigma, in the order in which they are asked."""
        text = self.text if sigma >= self.boundary else self.low_text
        return {"frames": self.frames, "references": self.references, "camera": self.camera, "text": text}


class Branch(NamedTuple):
    """One evaluation of the model.

    Attributes:
        heard: how many of what can be asked it hears.
        scale: what its difference from the branch before counts; of the first it says nothing.
    """

    heard: int
    scale: float


def ladder(scales: Sequence[float]) -> list[Branch]:
    """The branches to evaluate, of which each hears more than the one before, for a scale of each step.

    v = v_0 + s_1 (v_1 - v_0) + s_2 (v_2 - v_1) + ..., where v_j hears the first j things. Steps of one scale
    are one step, and what begins with a scale of 1 needs nothing before it: with 1 everywhere the last branch
    is alone, with one other scale at the end it is classifier-free guidance.

    Source: Ho & Salimans 2022, eq. 6; for two things Brooks et al. 2023, eq. 3.
    """
    branches = [Branch(0, 1.0)]
    for heard, scale in enumerate(scales, start=1):
        if scale == branches[-1].scale:
            branches[-1] = Branch(heard, scale)
        else:
            branches.append(Branch(heard, scale))
    return branches


def compose(
    velocities: Sequence[Float[Tensor, "*shape"]], branches: Sequence[Branch]
) -> Float[Tensor, "*shape"]:
    """The velocity the solver follows, of those of the branches."""
    found = before = velocities[0]
    for velocity, branch in zip(velocities[1:], branches[1:], strict=True):
        step = torch.lerp(before, velocity, branch.scale)
        found = step if found is before else found + step - before
        before = velocity
    return found
