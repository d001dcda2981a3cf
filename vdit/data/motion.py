"""How much moves in a clip."""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdit.opencv import grey_picture, opencv

__all__ = ["motion_score"]

_SIDE = 128  # pixels of the shorter side of the frames that are compared


def motion_score(pixels: Float[Tensor, "b 3 t h w"], fps: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Mean speed of all that is seen: shorter sides of the frame a second, by optical flow (Farneback 2003).

    0 is a still; a pan of the whole view in four seconds is about 0.25. A clip of one frame has none.

    Args:
        pixels: in [-1, 1].
        fps: frames per second of each clip.

    Raises:
        InputError: OpenCV is not installed.
    """
    cv2 = opencv()
    settings = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.1}
    speeds = []
    for clip, rate in zip(pixels, fps.tolist(), strict=True):
        pictures = [grey_picture(frame, _SIDE) for frame in clip.unbind(1)]
        flows = [
            cv2.calcOpticalFlowFarneback(before, after, None, flags=0, **settings)
            for before, after in pairwise(pictures)
        ]
        steps = [float(np.linalg.norm(flow, axis=2).mean()) for flow in flows]
        speeds.append(rate * sum(steps) / max(1, len(steps)) / _SIDE)
    return torch.tensor(speeds, dtype=torch.float32)
