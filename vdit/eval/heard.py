"""Whether what clips were given besides their prompts is heard, and how long clips drift."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.eval.camera_score import CameraScore, score_cameras
from vdit.eval.drift import Drift, look_drift
from vdit.eval.frame_score import FrameScore, score_frames
from vdit.eval.motion_rank import MotionRank, rank_motion
from vdit.eval.pace import Pace, measure_pace
from vdit.eval.region_score import RegionScore, middle, score_region
from vdit.types import Clip

__all__ = ["Heard", "Table", "score_heard"]


@dataclass(frozen=True)
class Heard:
    """The scores of what was given; None, or no rows, of what was not."""

    frames: Sequence[FrameScore] = ()
    region: RegionScore | None = None
    cameras: CameraScore | None = None
    motion: MotionRank | None = None
    pace: Pace | None = None
    drift: Drift | None = None

    def record(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return asdict(self)

    def tables(self) -> list["Table"]:
        """For people, of what was given alone."""
        found = [_frames_table(self.frames)] if self.frames else []
        found += [] if self.region is None else [_region_table(self.region)]
        found += [] if self.cameras is None else [_cameras_table(self.cameras)]
        found += [] if self.motion is None else [_motion_table(self.motion)]
        found += [] if self.pace is None else [_pace_table(self.pace)]
        return found + ([] if self.drift is None else [_drift_table(self.drift)])


class Table(NamedTuple):
    """Numbers as people read them: what it is about, a name for each column, and rows of texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def score_heard(
    clips: Float[Tensor, "n 3 t h w"],
    true: Sequence[Clip],
    copies: Float[Tensor, "n 3 t h w"],
    frames: Sequence[int],
    asked: Collection[str],
    long: bool = False,
) -> Heard:
    """The scores of sampled clips.

    Args:
        clips: sampled.
        true: the clips that what was given is from.
        copies: what the codec makes of these.
        frames: which of them were given, and have a neighbour inside that was not.
        asked: what was given besides: camera, motion, region (all but the middle of the picture), pace (a
            frame rate, of several).
        long: whether to measure drift, which says something of clips of several seconds.

    Raises:
        InputError: fewer than two clips, or OpenCV is not installed and cameras or motion were asked.
    """
    truth, fps = torch.stack([clip.pixels for clip in true]), true[0].fps
    looks = [look_drift(each, fps) for each in (clips, truth, copies)] if long else []
    paths = [clip.cameras for clip in true if clip.cameras is not None]
    return Heard(
        score_frames(clips, truth, copies, frames),
        score_region(clips, truth, copies, middle(*truth.shape[-2:])) if "region" in asked else None,
        score_cameras(clips, truth, copies, paths) if "camera" in asked else None,
        rank_motion(clips, truth, copies, fps) if "motion" in asked else None,
        measure_pace(clips, truth, copies, fps) if "pace" in asked else None,
        Drift(*looks) if long else None,
    )


def _frames_table(frames: Sequence[FrameScore]) -> Table:
    title = "given frames: decibels against the truth, and the step to the frame beside"
    columns = ("frame", "model", "ceiling codec", "floor", "step", "step truth", "step codec")
    rows = []
    for row in frames:
        decibels = [f"{value:.1f}" for value in (row.psnr, row.ceiling, row.floor)]
        steps = [f"{value:.3f}" for value in (row.seam, row.seam_truth, row.seam_codec)]
        rows.append([str(row.frame), *decibels, *steps])
    return Table(title, columns, rows)


def _region_table(region: RegionScore) -> Table:
    title = "all but the middle of the picture: decibels against the truth, and the step across the border"
    rows = [
        ("kept", f"{region.kept:.1f}", f"{region.kept_codec:.1f}", "", ""),
        ("painted", *(f"{x:.1f}" for x in (region.painted, region.painted_codec, region.painted_floor)), ""),
        ("step", f"{region.edge:.3f}", f"{region.edge_codec:.3f}", "", f"{region.edge_truth:.3f}"),
    ]
    return Table(title, ("", "model", "ceiling codec", "floor", "truth"), rows)


def _cameras_table(cameras: CameraScore) -> Table:
    title = "cameras, the median over clips (and mean): how far from those that were asked for"
    scores = (cameras.model, cameras.ceiling_truth, cameras.ceiling_codec, cameras.floor)
    rows = []
    for unit, name in (("degrees", "rotation"), ("metres", "translation"), ("CamMC", "matrix")):
        pairs = [(getattr(score.median, name), getattr(score.mean, name)) for score in scores]
        rows.append([unit, *(f"{median:.2f} ({mean:.2f})" for median, mean in pairs)])
    rows.append(["found", *(f"{score.found:.0%}" for score in scores)])
    return Table(title, ("error", "model", "ceiling truth", "ceiling codec", "floor"), rows)


def _motion_table(motion: MotionRank) -> Table:
    row = [f"{value:.2f}" for value in (motion.model, motion.ceiling_codec, motion.floor)]
    return Table("motion: rank correlation with what was asked", ("model", "ceiling codec", "floor"), [row])


def _pace_table(pace: Pace) -> Table:
    row = [f"{pace.fps:g}", *(f"{value:.3f}" for value in (pace.model, pace.truth, pace.codec))]
    title = "pace: sides of the frame that things move by a second"
    return Table(title, ("frames a second", "model", "truth", "codec"), [row])


def _drift_table(drift: Drift) -> Table:
    rows = [[name, *(f"{value:.4f}" for value in values)] for name, *values in drift.rows()]
    return Table("drift: change of the look a second", ("", "model", "truth", "codec"), rows)
