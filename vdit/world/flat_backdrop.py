"""The background of a clip of the flat world: a plane of colour, fitted without knowing the scene."""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.world.flat_caption import background_words
from vdit.world.flat_scene import BACKGROUNDS, Background

__all__ = ["Backdrop", "fit_backdrop"]

_ROUNDS = 12
_NOISE = 0.06  # distance at which a pixel begins to count as something in front
_INLIER = 0.2
_SHARE = 0.65  # least share of pixels that agree with a background that is said to be seen
_SLOPE = (
    0.25  # least change of colour across the frame that is a gradient; the palette's gradients exceed 0.5
)
_OFF_PALETTE = 0.2


@dataclass(frozen=True)
class Backdrop:
    """A fitted background.

    Attributes:
        colours: of every pixel, in [0, 1] as far as the clip was.
        share: of all pixels that agree with it.
        words: what a short caption would call it, or "unclear".
    """

    colours: Float[Tensor, "3 h w"]
    share: float
    words: str


def _nearest(colour: Float[Tensor, "3"]) -> str | None:
    """The background colour meant; None where it is like none of them."""
    names = tuple(BACKGROUNDS)
    distances = (torch.tensor([BACKGROUNDS[name] for name in names]) - colour).norm(dim=1)
    return names[int(distances.argmin())] if distances.min() < _OFF_PALETTE else None


def _words(plane: Float[Tensor, "3 3"]) -> str:
    across, down, middle = plane
    slope, minor = (across, down) if across.norm() > down.norm() else (down, across)
    if slope.norm() < _SLOPE:
        plain = _nearest(middle)
        return "unclear" if plain is None else background_words(Background(plain))
    start, end = _nearest(middle - slope / 2), _nearest(middle + slope / 2)
    if start is None or end is None or start == end or minor.norm() > slope.norm() / 2:
        return "unclear"
    return background_words(Background(start, end))


def fit_backdrop(pixels: Float[Tensor, "3 t h w"]) -> Backdrop:
    """The plane of colour that most pixels agree with.

    Iteratively re-weighted least squares: first absolute deviations, which objects on less than half of the
    frame cannot pull over, then a redescending weight that forgets the objects altogether.
    """
    _, frames, height, width = pixels.shape
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height - 0.5, (torch.arange(width) + 0.5) / width - 0.5, indexing="ij"
    )
    terms = rearrange(torch.stack([x, y, torch.ones_like(x)]), "k h w -> k (h w)")
    values = rearrange(pixels, "c t h w -> c t (h w)")
    weights = torch.ones(frames, height * width)
    plane = torch.zeros(3, 3)
    residual = weights
    for turn in range(_ROUNDS):
        weight = weights.sum(0)
        normal = einsum(terms, terms, weight, "k p, l p, p -> k l") + 1e-6 * torch.eye(3)
        moment = einsum(terms, (values * weights).sum(1), "k p, c p -> k c")
        plane = torch.linalg.solve(normal, moment)
        residual = ((values - einsum(plane, terms, "k c, k p -> c p")[:, None]) ** 2).sum(0).sqrt()
        weights = 1 / (residual + 0.01) if turn < _ROUNDS // 2 else (1 + (residual / _NOISE) ** 2) ** -2
    share = float((residual < _INLIER).float().mean())
    colours = rearrange(einsum(plane, terms, "k c, k p -> c p"), "c (h w) -> c h w", h=height)
    return Backdrop(colours, share, _words(plane) if share > _SHARE else "unclear")
