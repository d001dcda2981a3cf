"""The camera: rays of its pixels in the slot `added`."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.conditions.condition import Rows
from vdit.conditions.rays import grouped, plucker
from vdit.types import ClipBatch, DenoiserInput, InputError, Slot

__all__ = ["CameraRays"]


class CameraRays(Rows):
    """Asks for a path of the camera. Its null is zeros, which no ray is.

    Args:
        stride_t: pixel frames of a latent frame.
        stride_s: pixels of a side of a latent.
        drop: probability of training a clip without its camera.
    """

    name = "camera"
    slot = Slot.ADDED

    def __init__(self, stride_t: int = 4, stride_s: int = 8, drop: float = 0.1) -> None:
        super().__init__(drop)
        self.stride_t, self.stride_s = stride_t, stride_s

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b c t h w"]:
        if batch.cameras is None:
            raise InputError("this model follows a camera: give one with --camera, or clips that know theirs")
        if batch.latents is None:
            raise InputError("the size of rays is that of the latents, and the batch has none")
        t, h, w = batch.latents.shape[2:]
        if (frames := batch.cameras.c2w.shape[-3]) != 1 + self.stride_t * (t - 1):
            raise InputError(f"the camera has {frames} frames, and the clip {1 + self.stride_t * (t - 1)}")
        rays = plucker(batch.cameras, h * self.stride_s, w * self.stride_s)
        return grouped(rays, self.stride_t).to(batch.fps.device, torch.float32)

    def apply(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, added=signal)
