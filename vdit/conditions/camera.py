"""The camera: rays of its pixels in the slot `added`."""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured, Rows
from vdit.conditions.rays import grouped, plucker
from vdit.types import Cameras, ClipBatch, DenoiserInput, InputError, Slot

__all__ = ["CameraRays"]

STILL = torch.cat([torch.full((4,), 0.5), torch.eye(4).flatten()])
"""Some camera, as it is kept: fx, fy, cx, cy, and its pose."""


class CameraRays(Rows, Featured[Tensor]):
    """Asks for a path of the camera. Its null is zeros, which no ray is.

    What is kept of a clip are its cameras, twenty numbers a frame; the rays of all pixels are made of them
    when they are needed.

    Args:
        stride_t: pixel frames of a latent frame.
        stride_s: pixels of a side of a latent.
        drop: probability of training a clip without its camera.
    """

    name = "camera"
    slots = frozenset({Slot.ADDED})
    asks = "camera"

    def __init__(self, stride_t: int = 4, stride_s: int = 8, drop: float = 0.1) -> None:
        super().__init__(drop)
        self.stride_t, self.stride_s = stride_t, stride_s

    @property
    def fingerprint(self) -> str:
        return "cameras of clips"

    def check(self, batch: ClipBatch) -> None:
        if batch.cameras is None and (batch.pixels is not None or not self.drop):
            raise InputError("this model follows a camera: give one with --camera, or clips that know theirs")

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Float[Tensor, "b t twenty"]:
        if batch.cameras is None:  # in sampling, by a model that was trained without it too
            assert batch.latents is not None  # of the size asked for
            frames = 1 + self.stride_t * (batch.latents.shape[2] - 1)
            return batch.latents.new_zeros(len(batch), frames, 20)
        poses = rearrange(batch.cameras.c2w, "b t i j -> b t (i j)")
        return torch.cat([batch.cameras.intrinsics, poses], dim=-1).float()

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b c t h w"]:
        told = batch.features[self.name].to(batch.fps.device)
        assert batch.latents is not None  # noise in sampling: it has the size
        t, h, w = batch.latents.shape[2:]
        if (frames := told.shape[1]) != 1 + self.stride_t * (t - 1):
            raise InputError(f"the camera has {frames} frames, and the clip {1 + self.stride_t * (t - 1)}")
        there = told[:, 0, 0] > 0  # a focal length
        told = torch.where(there[:, None, None], told, STILL.to(told))
        cameras = Cameras(told[..., :4], rearrange(told[..., 4:], "b t (i j) -> b t i j", i=4))
        rays = grouped(plucker(cameras, h * self.stride_s, w * self.stride_s), self.stride_t)
        return rays * rearrange(there, "b -> b 1 1 1 1")

    def apply(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, added=signal)
