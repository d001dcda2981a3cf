"""Clips of one shape, stacked into a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.types import Cameras, Clip, ClipBatch, InputError, References

__all__ = ["LatentClip", "stack"]


@dataclass(frozen=True)
class LatentClip:
    """A clip of which only the latents are kept.

    Attributes:
        id: name of the clip, unique within its source.
        latents: normalised codec latents.
        caption: the text that describes it; may be empty.
        fps: frames per second of the pixels.
        features: what frozen networks made of the clip for a condition, by its name.
    """

    id: str
    latents: Float[Tensor, "c t h w"]
    caption: str
    fps: float
    features: Mapping[str, Tensor] = field(default_factory=dict)


def stack(items: Sequence[Clip | LatentClip]) -> ClipBatch:
    """One batch of clips, or of latents. Raises `InputError` naming the clips whose shapes differ."""
    pixels = [item.pixels for item in items if isinstance(item, Clip)]
    latents = [item.latents for item in items if isinstance(item, LatentClip)]
    if pixels and latents:
        raise InputError("a batch cannot mix clips with latents of clips; use one source for all")
    for item, tensor in zip(items, pixels or latents, strict=True):
        if tensor.shape != (first := (pixels or latents)[0]).shape:
            raise InputError(
                f"clips of one batch must have one shape, but {items[0].id} is {tuple(first.shape)} "
                f"and {item.id} is {tuple(tensor.shape)}"
            )
    cameras = [item.cameras for item in items if isinstance(item, Clip) and item.cameras is not None]
    references = [item.references for item in items if isinstance(item, Clip) and item.references is not None]
    features = [item.features for item in items if isinstance(item, LatentClip)]
    return ClipBatch(
        ids=tuple(item.id for item in items),
        captions=tuple(item.caption for item in items),
        fps=torch.tensor([item.fps for item in items], dtype=torch.float32),
        pixels=torch.stack(pixels) if pixels else None,
        latents=torch.stack(latents).float() if latents else None,
        cameras=_stacked(cameras) if len(cameras) == len(items) else None,
        references=References.of(references) if len(references) == len(items) else None,
        features={name: torch.stack([one[name] for one in features]).float() for name in features[0]}
        if features
        else {},
    )


def _stacked(cameras: Sequence[Cameras]) -> Cameras:
    return Cameras(
        torch.stack([each.intrinsics for each in cameras]), torch.stack([each.c2w for each in cameras])
    )
