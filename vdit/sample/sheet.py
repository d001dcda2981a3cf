"""Contact sheets: clips side by side in one picture, each under its label."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vdit.sample.lettering import Lettering, one_line
from vdit.sample.video_file import to_bytes, written_aside
from vdit.types import InputError

__all__ = ["SHEET_CLIPS", "contact_sheet", "frames_shown"]

SHEET_CLIPS = 32
"""Rows of a contact sheet that a person still looks through."""

COLUMNS = 8
"""Frames of a clip."""


def contact_sheet(
    clips: Sequence[tuple[Float[Tensor, "c t h w"], str]],
    path: Path | str,
    columns: int = COLUMNS,
    scale: int | None = None,
) -> None:
    """Draw clips as a PNG: one row a clip under its label, `columns` frames spread evenly over its time.

    Args:
        clips: pixels in [-1, 1] with a label each; sizes and lengths may differ.
        path: the PNG to write.
        columns: frames shown of each clip; shorter clips show all they have.
        scale: how many times frames are enlarged (nearest neighbour); by default so that they are at least
            128 pixels high.

    Raises:
        InputError: no clips, or `columns` or `scale` below 1.
    """
    from PIL import Image, ImageDraw

    if not clips or columns < 1 or (scale is not None and scale < 1):
        raise InputError(
            f"a contact sheet needs a clip, a column and a scale of 1 or more; "
            f"got {len(clips)} clips, {columns} columns, scale {scale}"
        )
    rows = [_film_strip(pixels, columns, scale) for pixels, _ in clips]
    labels, line, gap = [one_line(label) for _, label in clips], 20, 6
    lettering = Lettering(labels)
    width = max(row.shape[1] for row in rows) + 2 * gap
    height = sum(row.shape[0] + line + gap for row in rows) + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, label in zip(rows, labels, strict=True):
        lettering.draw(draw, gap, top, _fitted(label, width - 2 * gap, lettering.length))
        sheet.paste(Image.fromarray(row), (gap, top + line))
        top += line + row.shape[0] + gap
    with written_aside(Path(path)) as aside:
        sheet.save(aside, format="PNG")


def frames_shown(frames: int, columns: int = COLUMNS) -> list[int]:
    """Which of so many frames a contact sheet shows."""
    return np.linspace(0, frames - 1, min(columns, frames)).round().astype(int).tolist()


def _fitted(text: str, room: float, length: Callable[[str], float]) -> str:
    """As much of a text as fits, by halves: a prompt may have thousands of letters."""
    if length(text) <= room:
        return text
    letters = bisect_right(range(len(text)), room, key=lambda kept: length(text[:kept] + "…")) - 1
    return text[:letters] + "…" if letters >= 0 else ""


def _film_strip(pixels: Tensor, columns: int, scale: int | None) -> UInt8[np.ndarray, "h w c"]:
    chosen = to_bytes(pixels[:, frames_shown(pixels.shape[1], columns)])
    times = max(1, math.ceil(128 / chosen.shape[1])) if scale is None else scale
    enlarged = chosen.repeat(times, axis=1).repeat(times, axis=2)
    gap = np.full((len(chosen), enlarged.shape[1], 2, 3), 255, np.uint8)
    return rearrange(np.concatenate([enlarged, gap], axis=2), "t h w c -> h (t w) c")
