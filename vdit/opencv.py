"""OpenCV, for whoever follows points or motion in frames; it is loaded when it is first needed."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from vdit.types import InputError

__all__ = ["grey_picture", "opencv"]


def opencv() -> Any:
    """The module. Raises InputError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            "motion and poses are measured with OpenCV, which is not installed: "
            "pip install 'vdit-video[opencv]'"
        ) from error
    return cv2


def grey_picture(frame: Float[Tensor, "3 h w"], side: int) -> UInt8[np.ndarray, "h_out w_out"]:
    """A frame in [-1, 1] as OpenCV has grey pictures, its shorter side resized to `side`."""
    grey = frame.float().mean(0)[None, None]
    scale = side / min(frame.shape[1:])
    sized = functional.interpolate(grey, scale_factor=scale, mode="bicubic", align_corners=False)
    return ((sized[0, 0] + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
