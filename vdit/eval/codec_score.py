"""What a codec makes of clips, in numbers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.tiling import TiledCodec
from vdit.eval.frechet import frechet_distance
from vdit.eval.perceptual import PerceptualDistance, mean_over_frames
from vdit.eval.psnr import psnr
from vdit.types import Clip

__all__ = ["CodecScore", "flicker", "score_codec", "ssim"]


def ssim(a: Float[Tensor, "b 3 t h w"], b: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b"]:
    """Structural similarity of clips with pixels in [-1, 1], the mean over frames (Wang et al. 2004)."""
    # Imported here: it brings matplotlib along.
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = []
    for one, other in zip(a, b, strict=True):
        frames = (one.float().transpose(0, 1), other.float().transpose(0, 1))
        found.append(structural_similarity_index_measure(*frames, data_range=2.0))
    return torch.stack([torch.as_tensor(value) for value in found])


def flicker(a: Float[Tensor, "b c t h w"], b: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b"]:
    """By how much changes from frame to frame differ, in 8-bit steps, the mean over pixels; 0 for one frame.

    A reconstruction that is wrong in the same way in every frame has none; one that is wrong in another
    way in each has much.
    """
    if a.shape[2] < 2:
        return torch.zeros(len(a))
    return 127.5 * (a.float().diff(dim=2) - b.float().diff(dim=2)).abs().flatten(1).mean(1)


@dataclass
class CodecScore:
    """Numbers of every clip, and of all together.

    Attributes:
        clips: by clip id: psnr (dB), ssim, flicker (8-bit steps) and, where asked for, perceptual.
        frechet: distance of all reconstructions from all originals; None where it was not asked for.
        perceptual_name: of the distance.
        features_name: of what `frechet` is taken over.
    """

    clips: dict[str, dict[str, float]] = field(default_factory=dict)
    frechet: float | None = None
    perceptual_name: str = ""
    features_name: str = ""

    def mean(self) -> Mapping[str, float]:
        """Of every number over the clips."""
        names = next(iter(self.clips.values()))
        return {name: sum(clip[name] for clip in self.clips.values()) / len(self.clips) for name in names}


@torch.no_grad()
def score_codec(
    codec: TiledCodec,
    clips: Iterable[Clip],
    perceptual: PerceptualDistance | None,
    keep: Callable[[Clip, Tensor], None] = lambda clip, again: None,
) -> CodecScore:
    """Encode and decode clips one by one, and compare.

    Args:
        codec: what is scored.
        clips: what it is scored on.
        perceptual: a trained judge, or None.
        keep: called with every clip and its reconstruction.
    """
    score = CodecScore()
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    for clip in clips:
        original = clip.pixels[None]
        again = codec.reconstruct(original)
        measures: dict[str, Callable[[Tensor, Tensor], Tensor]]
        measures = {"psnr": psnr, "ssim": ssim, "flicker": flicker}
        if perceptual is not None:
            measures["perceptual"] = partial(mean_over_frames, perceptual)
            features[0].append(mean_over_frames(perceptual.features, original))
            features[1].append(mean_over_frames(perceptual.features, again))
        score.clips[clip.id] = {what: measure(again, original).item() for what, measure in measures.items()}
        keep(clip, again[0])
    if perceptual is not None and len(score.clips) > 1:
        score.frechet = frechet_distance(torch.cat(features[0]), torch.cat(features[1]))
        score.features_name = perceptual.features_name
    score.perceptual_name = "" if perceptual is None else perceptual.name
    return score
