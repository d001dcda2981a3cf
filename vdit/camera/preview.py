"""A path of a camera as a picture: from above, from the side, and how it turns and zooms."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vdit.types import Cameras, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["preview"]

MARKS = 9
"""Frames whose view is drawn."""


def preview(cameras: Cameras, file: Path) -> None:
    """Draw cameras into an image file: where they are, where they look, how they turn, what they zoom.

    Args:
        cameras: one a frame.
        file: ends in what matplotlib can write, such as `.png`.

    Raises:
        InputError: matplotlib is not installed, or cannot write such a file.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError("a preview needs matplotlib: pip install 'vdit-video[report]'") from error
    poses = cameras.c2w.double()
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    above, side, turns = figure.subplots(1, 3)
    _way(above, poses, (0, 2), "from above", ("right, m", "forward, m"))
    _way(side, poses, (2, 1), "from the right", ("forward, m", "down, m"))
    side.invert_yaxis()
    right, down, forward = poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2]
    frames = range(len(poses))
    for name, angle in (
        ("pan, to the right", torch.atan2(forward[:, 0], forward[:, 2])),
        ("tilt, up", torch.asin((-forward[:, 1]).clamp(-1, 1))),
        ("roll, clockwise", torch.atan2(right[:, 1], down[:, 1])),
    ):
        turns.plot(frames, angle.rad2deg().tolist(), label=name)
    zoom = cameras.intrinsics[:, 0] / cameras.intrinsics[0, 0]
    turns.plot(frames, (100 * (zoom - 1)).tolist(), label="zoom, % of focal length", linestyle=":")
    turns.set(title="turns", xlabel="frame", ylabel="degrees")
    turns.legend(fontsize="small")
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise InputError(f"no preview can be written to {file}: {error}") from error


def _way(
    axes: "Axes", poses: torch.Tensor, plane: tuple[int, int], title: str, labels: tuple[str, str]
) -> None:
    """Places of the cameras, and arrows where they look."""
    x, y = plane
    place = poses[:, [x, y], 3]
    look = poses[:, [x, y], 2]
    size = max(0.25, 0.3 * (place.amax(0) - place.amin(0)).max().item())
    axes.plot(*place.T.tolist(), color="#4f8ae8")
    for k in torch.linspace(0, len(poses) - 1, min(MARKS, len(poses))).round().long().tolist():
        (ax, ay), (dx, dy) = place[k].tolist(), (size * look[k]).tolist()
        colour = "#d8603c" if k == 0 else "#7c7c7c"
        axes.annotate("", (ax + dx, ay + dy), (ax, ay), arrowprops={"arrowstyle": "->", "color": colour})
    ends = torch.cat([place, place + size * look])
    low, high = ends.amin(0) - 0.2, ends.amax(0) + 0.2
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
