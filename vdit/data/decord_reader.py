"""Reading by decord, for files of which it shows what PyAV shows.

Its FFmpeg leaves edit lists and display matrices out, takes HDR and unmarked HD for BT.601, weaves fields
together and counts packets for frames. So each file is compared before it is used.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from vdit.data.media import UnreadableVideo

__all__ = ["compared", "decord_frames", "refuse_other_frames"]

COMPARED = 8
"""Frames of a file that are compared, spread evenly."""
ROUNDING = 2.0
"""Levels that frames may differ by in the mean: decord rounds down, which makes them 1 to 2 darker."""


def decord_frames(path: Path, indices: Sequence[int], frames: int) -> UInt8[Tensor, "c t h w"]:
    """The frames with these numbers as decord shows them.

    Raises:
        UnreadableVideo: it fails, or counts another number than `frames` in the file.
    """
    import decord  # pyright: ignore[reportMissingImports]

    try:
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if len(video) != frames:
            raise _other(path, f"{len(video)} frames instead of {frames}")
        read = video.get_batch([int(i) for i in indices]).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise UnreadableVideo(path, f"decord cannot read it: {str(error).splitlines()[-1]}") from error
    return rearrange(torch.from_numpy(read), "t h w c -> c t h w").contiguous()


def compared(frames: int) -> list[int]:
    """The numbers of frames that are compared in a file of so many: some, and those beside them."""
    places = [round(place) for place in np.linspace(0, frames - 1, COMPARED)]
    return sorted(
        {number for place in places for number in (place - 1, place, place + 1) if 0 <= number < frames}
    )


def refuse_other_frames(path: Path, exact: UInt8[Tensor, "c t h w"], frames: int) -> None:
    """Refuse a file of which decord shows other frames than PyAV, which shows `exact` for those compared.

    Raises:
        UnreadableVideo: it counts, shapes, colours or orders them otherwise.
    """
    numbers = compared(frames)
    shown = decord_frames(path, numbers, frames)
    if shown.shape != exact.shape:
        (h, w), (h2, w2) = shown.shape[2:], exact.shape[2:]
        raise _other(path, f"{w}x{h} pixels instead of {w2}x{h2}")
    for place, number in enumerate(numbers):
        near = range(max(0, place - 1), min(len(numbers), place + 2))
        apart = {k: (shown[:, place].float() - exact[:, k].float()).abs().mean().item() for k in near}
        if apart[place] > ROUNDING:
            raise _other(path, f"frame {number} otherwise, by {apart[place]:.1f} levels in the mean")
        if min(apart.values()) < apart[place]:
            raise _other(path, f"another frame where frame {number} stands")


def _other(path: Path, what: str) -> UnreadableVideo:
    return UnreadableVideo(path, f"decord shows {what}; read it with decoder: pyav")
