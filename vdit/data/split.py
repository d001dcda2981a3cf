"""Clips to learn from and clips to measure on, out of one source: no video stands on both sides."""

import hashlib
from collections.abc import Collection

from vdit.data.mixture import Mixture, Part, parts_of, usual_part
from vdit.data.sources import VideoSource
from vdit.data.subset import Subset
from vdit.types import ClipSource, InputError

__all__ = ["split_source"]


def split_source(source: ClipSource, share: float) -> tuple[ClipSource, ClipSource]:
    """Clips to learn from, and clips of other videos to measure on.

    Whether a video is held out follows from its content alone: neither its name nor what else there is
    matters, as long as some are on either side. Of a mixture those of its usual part are measured on, and no
    part learns from any that is held out.

    Args:
        source: all clips.
        share: of the videos of a source, to hold out, on average; one at least.

    Raises:
        InputError: a share out of range, or a source with no second video.
    """
    if not 0 < share < 1:
        raise InputError(f"data.held_out_share is {share:g}, but must lie between 0 and 1")
    parts = parts_of(source)
    videos = [{part.video(i) for i in range(len(part))} for part in parts]
    held = {video for of_part in videos for video in _held_out(of_part, share)}
    if any(of_part <= held for of_part in videos):
        raise InputError(
            "a source of data.train has one video alone, so none can be held out to measure on: add videos, "
            "or name others as data.held_out (the same again measures how well they are learnt by heart)"
        )
    usual = next(part for part in parts if part is usual_part(source))
    held_out = _split(usual, held)[1]
    learnt = [_split(part, held)[0] for part in parts]
    if not isinstance(source, Mixture):
        return learnt[0], held_out
    shares = [part.share for part in source.parts]
    return Mixture([Part(*each) for each in zip(learnt, shares, strict=True)]), held_out


def _held_out(videos: Collection[str], share: float) -> list[str]:
    """Those whose hashes are low: as if drawn, and always the same."""
    ordered = sorted((hashlib.sha256(video.encode()).digest(), video) for video in videos)
    low = sum(int.from_bytes(digest) < share * 2.0**256 for digest, _ in ordered)
    return [video for _, video in ordered[: max(1, min(low, len(ordered) - 1))]]


def _split(source: ClipSource, held: Collection[str]) -> tuple[ClipSource, ClipSource]:
    if isinstance(source, VideoSource):
        return source.split(held)
    sides: tuple[list[int], list[int]] = ([], [])
    for i in range(len(source)):
        sides[source.video(i) in held].append(i)
    return Subset(source, sides[0]), Subset(source, sides[1])
