"""Images, and the ends of videos, as frames that are given to a model."""

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdit.data.decode import IMAGE_ENDINGS, VIDEO_ENDINGS, UnreadableVideo, open_video, read_image
from vdit.data.transforms import ResampleFps, ResizeCrop, ToUnitRange
from vdit.types import InputError

__all__ = [
    "cropped",
    "read_end",
    "read_frame",
    "read_mask",
    "read_reference",
    "read_start",
    "resampled",
    "unshown",
]


CUT_IN_SILENCE = 0.01
"""Share of a picture that may be cut off without a word: 1088 rows as 1080."""


def cropped(file: Path, height: int, width: int) -> str:
    """What is cut off of an image or a video that is given the shape asked for, in words; "" if very little.

    Raises:
        InputError: the file is missing, or is neither.
    """
    h, w = _size(file)
    if h * width > w * height:
        lost, where = 1 - w * height / (h * width), "above and below"
    else:
        lost, where = 1 - h * width / (w * height), "on the left and on the right"
    if lost < CUT_IN_SILENCE:
        return ""
    return f"{file} is {h}x{w}, and the clip {height}x{width}: {lost:.0%} of it are cut off, {where}"


def resampled(file: Path, fps: float) -> str:
    """How a video is shown at another frame rate, in words; "" if it has this one.

    Raises:
        InputError: the file is no video.
    """
    own = open_video(file).table.info.fps
    if abs(float(own) / fps - 1) < 1e-3:
        return ""
    return f"{file} has {float(own):g} frames a second, and the clip {fps:g}: the nearest in time are shown"


def unshown(file: Path, frames: int, fps: float) -> str:
    """How much of a video comes after the frames of which a clip is made, in words; "" if nothing.

    Raises:
        InputError: the file is no video.
    """
    table = open_video(file).table
    there = len(ResampleFps(fps)(table.times, table.info.duration))
    if there <= frames:
        return ""
    last = there - frames
    return (
        f"{file} has {there} frames at {fps:g} a second, and the clip {frames}: the last {last} are not used"
    )


def _size(file: Path) -> tuple[int, int]:
    """Rows and columns of an image or a video, as it is shown."""
    if file.suffix.lower() in VIDEO_ENDINGS:
        info = open_video(file).table.info
        return info.height, info.width
    _, _, h, w = _image(file).shape
    return h, w


def read_frame(file: Path, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """The middle of an image, of the shape asked for and resized to it, in [-1, 1].

    Raises:
        InputError: the file is missing or is no image.
    """
    return ToUnitRange()(ResizeCrop(height, width)(_image(file)))[:, 0]


def read_reference(file: Path, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """All of an image, resized to fit into the size asked for, between grey borders, in [-1, 1].

    Raises:
        InputError: the file is missing, is no image, or shows nothing.
    """
    image = _image(file)
    if (image == image[:, :, :1, :1]).all():
        raise InputError(f"{file} has one colour everywhere: a reference shows who or what is meant")
    rows, columns = image.shape[-2:]
    scale = min(height / rows, width / columns)
    inside = ResizeCrop(max(1, round(rows * scale)), max(1, round(columns * scale)))(image)
    frame = torch.zeros(3, height, width)
    top, left = (height - inside.shape[2]) // 2, (width - inside.shape[3]) // 2
    frame[:, top : top + inside.shape[2], left : left + inside.shape[3]] = ToUnitRange()(inside)[:, 0]
    return frame


def _image(file: Path) -> UInt8[Tensor, "3 1 h w"]:
    try:
        return rearrange(torch.from_numpy(read_image(file)), "h w c -> c 1 h w")
    except UnreadableVideo as error:
        raise InputError(str(error)) from error


def read_end(file: Path, frames: int, fps: float, height: int, width: int) -> Float[Tensor, "3 t h w"]:
    """The last frames of a video at a rate, the middle of each, of the shape asked for, in [-1, 1].

    Raises:
        InputError: the file is no video, or is too short.
    """
    wanted = "are to be continued: give a longer video, or a smaller --overlap"
    return _frames(file, slice(-frames, None), frames, fps, (height, width), wanted)


def read_start(file: Path, frames: int, fps: float, height: int, width: int) -> Float[Tensor, "3 t h w"]:
    """The first frames of a video at a rate, as `read_end` has the last.

    Raises:
        InputError: the file is no video, or is too short.
    """
    wanted = "are to be repainted: give a longer video, or fewer --frames"
    return _frames(file, slice(0, frames), frames, fps, (height, width), wanted)


def read_mask(file: Path, height: int, width: int) -> Bool[Tensor, "h w"]:
    """Where an image is nearer to white than to black, cut and resized as a frame is.

    Raises:
        InputError: the file is missing or is no image.
    """
    return read_frame(file, height, width).mean(0) > 0


def _frames(
    file: Path, which: slice, count: int, fps: float, size: tuple[int, int], wanted: str
) -> Float[Tensor, "3 t h w"]:
    if file.suffix.lower() in IMAGE_ENDINGS:
        raise InputError(f"{file} is an image: a video is asked for here; --first and --keyframe take images")
    video = open_video(file)
    at = ResampleFps(fps)(video.table.times, video.table.info.duration)
    if len(at) < count:
        raise InputError(f"{file} has {len(at)} frames at {fps:g} a second, and {count} {wanted}")
    return ToUnitRange()(ResizeCrop(*size)(video.frames(at[which].tolist())))
