"""An image file as a frame that is given to a model."""

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vdit.data.decode import UnreadableVideo, read_image
from vdit.data.transforms import ResizeCrop, ToUnitRange
from vdit.types import InputError

__all__ = ["read_frame"]


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
