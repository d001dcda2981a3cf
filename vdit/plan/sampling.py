"""How many clips can be sampled at once, by a rehearsal of one evaluation of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.denoiser import Denoiser
from vdit.flow.guidance import ladder
from vdit.models.experts import SigmaExperts
from vdit.plan.clips import ClipShape
from vdit.plan.rehearsal import rehearse_forward
from vdit.plan.scenes import scene_of
from vdit.sample.sampler import Sampling
from vdit.train.flow_task import FlowTask
from vdit.types import Kept

__all__ = ["MOST_AT_ONCE", "SamplingMemory", "sampling_memory"]

MOST_AT_ONCE = 16
"""More clips at once are no faster, and each is written later."""

USED = 0.9
"""Share of free memory that is planned with: allocators leave gaps."""

WORDS = 512
"""Tokens of a prompt, where the text encoder has no limit."""


@dataclass(frozen=True)
class SamplingMemory:
    """Bytes on the device while clips are sampled.

    Attributes:
        weights: of transformers and codec.
        clip: of one clip where it is most, all branches of guidance at once.
    """

    weights: int
    clip: int

    def clips(self, free: int) -> int:
        """How many clips fit at once into so many bytes, 16 at most; one is always tried."""
        left = USED * free - self.weights
        return max(1, min(MOST_AT_ONCE, int(left / self.clip)))


def sampling_memory(
    task: FlowTask, codec: VideoCodec, sampling: Sampling, precision: torch.dtype | None
) -> SamplingMemory:
    """What sampling needs, by one evaluation in shapes alone.

    Args:
        task: built on `meta`; of no use afterwards.
        codec: on `meta`.
        sampling: the settings.
        precision: of matrix products, where it is not that of the weights.
    """
    denoiser = task.denoiser
    if precision is not None:
        denoiser.backbone.lower(precision)
    weights = sum(_bytes(value) for part in (denoiser, codec) for value in part.state_dict().values())
    if isinstance(denoiser.backbone, SigmaExperts):  # all clips of a step are in one of them
        denoiser.backbone = denoiser.backbone.high
    shape = ClipShape(sampling.frames, sampling.height, sampling.width)
    scene = scene_of(task, codec, shape, 1, task.text.max_tokens or WORDS)
    branches = _branches(denoiser, sampling)

    def evaluate(module: Denoiser, inputs: tuple[Tensor, tuple]) -> Tensor:
        latents, signals = inputs
        stacked = module.stack([signals] * branches)
        return module(torch.cat([latents] * branches), torch.full((branches,), 0.5), stacked, Kept())

    clip = rehearse_forward(denoiser, scene.inputs, evaluate, scene.answer)
    return SamplingMemory(weights, clip)


def _branches(denoiser: Denoiser, sampling: Sampling) -> int:
    """Evaluations of a step, at most."""
    scales = [sampling.leads().scales(sigma) for sigma in (0.0, 1.0)]
    asked = denoiser.asks()
    return max(len(ladder([scale for name, scale in each.items() if name in asked])) for each in scales)


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()
