"""Images, and the ends of videos, as frames that are given to a model."""

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.data.decode import UnreadableVideo, open_video, read_image
from vdit.data.transforms import ResampleFps, ResizeCrop, ToUnitRange
from vdit.types import InputError

__all__ = ["read_end", "read_frame"]


def read_frame(file: Path, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """The middle of an image, of the shape asked for and resized to it, in [-1, 1].

    Raises:
        InputError: the file is missing or is no image.
    """
    try:
        image = torch.from_numpy(read_image(file))
    except UnreadableVideo as error:
        raise InputError(str(error)) from error
    frame = ResizeCrop(height, width)(rearrange(image, "h w c -> c 1 h w"))
    return ToUnitRange()(frame)[:, 0]


def read_end(file: Path, frames: int, fps: float, height: int, width: int) -> Float[Tensor, "3 t h w"]:
    """The last frames of a video at a rate, the middle of each, of the shape asked for, in [-1, 1].

    Raises:
        InputError: the file is no video, or is too short.
    """
    try:
        video = open_video(file)
        at = ResampleFps(fps)(video.table.times, video.table.info.duration)
        if len(at) < frames:
            raise InputError(
                f"{file} has {len(at)} frames at {fps:g} a second, and {frames} are to be continued: "
                "give a longer video, or a smaller --overlap"
            )
        pixels = video.frames(at[-frames:].tolist())
    except UnreadableVideo as error:
        raise InputError(str(error)) from error
    return ToUnitRange()(ResizeCrop(height, width)(pixels))
