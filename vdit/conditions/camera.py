"""The camera: rays of its pixels in the slot `added`, or its poses in the slot `vectors`."""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured, Rows
from vdit.conditions.rays import from_first, grouped, plucker
from vdit.types import Cameras, ClipBatch, DenoiserInput, InputError, Slot, onto

__all__ = ["CameraCondition", "CameraPoses", "CameraRays"]

STILL = torch.cat([torch.full((4,), 0.5), torch.eye(4).flatten()])
"""Some camera, as it is kept: fx, fy, cx, cy, and its pose."""


class CameraCondition(Rows, Featured[Tensor]):
    """Asks for a path of the camera. Its null is zeros, which no camera is.

    What is kept of a clip are its cameras, twenty numbers a frame; what a model is told is made of them when
    it is needed.

    Args:
        stride_t: pixel frames of a latent frame.
        drop: probability of training a clip without its camera.
    """

    name = "camera"
    asks = "camera"
    reads = frozenset({"cameras"})

    def __init__(self, stride_t: int = 4, drop: float = 0.1) -> None:
        super().__init__(drop)
        self.stride_t = stride_t

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

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        return t, 20

    def cameras(self, batch: ClipBatch) -> tuple[Cameras, Bool[Tensor, "b"]]:
        """Those of the clips, and which clips have any. Raises InputError where their frames are too many."""
        told = onto(batch.features[self.name], batch.fps.device)
        assert batch.latents is not None  # noise in sampling: it has the size
        length = 1 + self.stride_t * (batch.latents.shape[2] - 1)
        if (frames := told.shape[1]) != length:
            raise InputError(f"the camera has {frames} frames, and the clip {length}")
        there = told[:, 0, 0] > 0  # a focal length
        told = torch.where(there[:, None, None], told, onto(STILL, told.device).to(told))
        return Cameras(told[..., :4], rearrange(told[..., 4:], "b t (i j) -> b t i j", i=4)), there


class CameraRays(CameraCondition):
    """A path of the camera as the rays of all pixels.

    Args:
        stride_t: pixel frames of a latent frame.
        stride_s: pixels of a side of a latent.
        drop: probability of training a clip without its camera.
    """

    slots = frozenset({Slot.ADDED})

    def __init__(self, stride_t: int = 4, stride_s: int = 8, drop: float = 0.1) -> None:
        super().__init__(stride_t, drop)
        self.stride_s = stride_s

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b c t h w"]:
        cameras, there = self.cameras(batch)
        assert batch.latents is not None
        h, w = batch.latents.shape[3:]
        rays = grouped(plucker(cameras, h * self.stride_s, w * self.stride_s), self.stride_t)
        return rays * rearrange(there, "b -> b 1 1 1 1")

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, added=signal)


class CameraPoses(CameraCondition):
    """A path of the camera as numbers: of each pixel frame of a latent frame the upper rows of its pose,
    seen from frame 0 (as ReCamMaster has it, Bai et al. 2025, for every fourth frame), and fx, fy.

    They are 14 `stride_t` for each latent frame, by the name `camera`.
    """

    slots = frozenset({Slot.VECTORS})

    def signal(self, batch: ClipBatch) -> Float[Tensor, "b t d"]:
        cameras, there = self.cameras(batch)
        poses = rearrange(from_first(cameras.c2w)[:, :, :3], "b t i j -> b t (i j)")
        numbers = torch.cat([poses, cameras.intrinsics[..., :2]], dim=-1)
        told = grouped(rearrange(numbers, "b t d -> b t d 1 1"), self.stride_t)
        return rearrange(told, "b d t 1 1 -> b t d") * there[:, None, None]

    def fill(self, inputs: DenoiserInput, signal: Tensor) -> DenoiserInput:
        return replace(inputs, vectors={**inputs.vectors, self.name: signal})
