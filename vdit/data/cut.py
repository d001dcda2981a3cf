"""What is cut out of each video: how many frames, at which size and rate, from which places."""

from dataclasses import dataclass
from typing import Literal

from vdit.data.transforms import ResizeCrop
from vdit.types import InputError

__all__ = ["ClipCut"]


@dataclass(frozen=True)
class ClipCut:
    """The shape of every clip of a source, and which clips a video gives.

    Attributes:
        frames: frames of a clip.
        height: pixels of a clip.
        width: pixels of a clip.
        fps: frames per second of a clip; None keeps the rate of each file.
        windows: where in a video clips begin. `head`: one at its start. `slide`: one every `hop` frames.
            `even`: `windows_per_video` spread evenly from its start to its end; one stands in the middle.
        hop: frames (at `fps`) from one `slide` window to the next; None is `frames`, so that none overlap.
        windows_per_video: for `even`; a video too short for that many different places gives fewer.
        crops: clips taken from each window, at different places in the picture.
        random_crop: place each crop by chance, drawn from the clip's id, so it never changes; else centre.
        zoom: with `random_crop`, the crop is 1 to `zoom` times smaller than the largest that fits.
    """

    frames: int
    height: int
    width: int
    fps: float | None = None
    windows: Literal["head", "slide", "even"] = "head"
    hop: int | None = None
    windows_per_video: int = 1
    crops: int = 1
    random_crop: bool = False
    zoom: float = 1.0

    def __post_init__(self):
        if self.frames < 1:
            raise InputError(f"frames must be at least 1, got {self.frames}")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"fps must be above 0, or null to keep each file's own rate; got {self.fps}")
        if self.windows not in ("head", "slide", "even"):
            raise InputError(f"windows must be 'head', 'slide' or 'even', got {self.windows!r}")
        if self.hop is not None and (self.hop < 1 or self.windows != "slide"):
            raise InputError(
                f"hop must be at least 1 and goes with windows 'slide'; got {self.hop}, {self.windows!r}"
            )
        if self.windows_per_video < 1 or (self.windows_per_video > 1 and self.windows != "even"):
            raise InputError(
                f"windows_per_video must be at least 1 and goes with windows 'even'; "
                f"got {self.windows_per_video} with {self.windows!r}"
            )
        if self.crops < 1 or (self.crops > 1 and not self.random_crop):
            raise InputError(f"crops must be 1, or more together with random_crop: true; got {self.crops}")
        _ = self.resize  # refuses a bad size or zoom here, before any file is read

    @property
    def resize(self) -> ResizeCrop:
        """The transform from a video's frames to those of a clip."""
        return ResizeCrop(self.height, self.width, self.random_crop, self.zoom)

    def starts(self, available: int) -> list[int]:
        """First frames of the windows in a video of `available` frames; empty where it is too short."""
        slack = available - self.frames
        if slack < 0:
            return []
        if self.windows == "head":
            return [0]
        if self.windows == "slide":
            return list(range(0, slack + 1, self.hop or self.frames))
        if self.windows_per_video == 1:
            return [slack // 2]
        last = self.windows_per_video - 1
        return sorted({round(slack * k / last) for k in range(last + 1)})
