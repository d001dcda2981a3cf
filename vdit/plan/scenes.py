"""What a step of each task works on, in shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import DESCRIPTION, holds_codec
from vdit.conditions.caption import Caption
from vdit.conditions.condition import Condition
from vdit.conditions.known import KnownFrames
from vdit.flow.objective import FlowMatching
from vdit.plan.clips import ClipShape
from vdit.plan.ledger import Ledger
from vdit.plan.rehearsal import Blank
from vdit.train.codec_step import Lengths
from vdit.train.codec_task import CodecTask
from vdit.train.flow_task import FlowTask
from vdit.train.step import FlowStep, StepOutput
from vdit.train.task import Task
from vdit.types import ClipBatch, InputError, Tokens
from vdit.weights.described import build_described

__all__ = ["Scene", "described_codec", "scene_of", "shapes_in_steps"]


@dataclass(frozen=True)
class Scene:
    """One step of one shape of clips.

    Attributes:
        module: what is trained, on `meta`.
        inputs: what the step reads, on `meta`.
        work: the step.
        grid: latent frames, rows and columns of a clip.
        text: tokens of its caption; 0 where there is none.
        answer: see `rehearse`.
    """

    module: nn.Module
    inputs: Any
    work: Any
    grid: tuple[int, int, int]
    text: int = 0
    answer: int = 0


def described_codec(folder: Path) -> VideoCodec:
    """A codec on `meta`, by its folder. Raises InputError where there is none."""
    if not holds_codec(folder):
        raise InputError(
            f"{folder} holds no codec, whose strides a plan needs: train it or take it in first, or give "
            "--codec configs/codec/NAME.yaml"
        )
    with torch.device("meta"):
        return build_described(folder / DESCRIPTION, VideoCodec)


def shapes_in_steps(task: Task, shapes: Sequence[ClipShape]) -> list[tuple[ClipShape, int]]:
    """The shapes that steps see, and how many clips of each are cut out of one that is read."""
    if not isinstance(task, CodecTask) or not task.lengths.shares:
        return [(shape, 1) for shape in shapes]
    found = []
    for shape in shapes:
        for length, share in task.lengths.shares.items():
            n = min(length, shape.frames)
            found.append((ClipShape(n, shape.height, shape.width, shape.share * share), shape.frames // n))
    return found


def scene_of(task: Task, codec: VideoCodec | None, shape: ClipShape, clips: int, text: int | None) -> Scene:
    """What a step of some clips works on.

    Args:
        task: built on `meta`.
        codec: on `meta`, in place of the task's own.
        shape: of the clips.
        clips: of one process.
        text: tokens of a caption; the most that the text encoder gives where it is None.

    Raises:
        InputError: a task of another kind, or sizes that do not fit.
    """
    if isinstance(task, FlowTask):
        return _flow(task, codec or described_codec(task.codec_folder), shape, clips, text)
    if isinstance(task, CodecTask):
        return _codec(task, codec, shape, clips)
    raise InputError(f"a {type(task).__name__} cannot be planned: only flow and codec runs can")


def _flow(task: FlowTask, codec: VideoCodec, shape: ClipShape, clips: int, text: int | None) -> Scene:
    denoiser, sizes = task.denoiser, (shape.frames, shape.height, shape.width)
    backbone = denoiser.backbone
    if codec.latent_channels != backbone.latent_channels:
        raise InputError(
            f"the codec has {codec.latent_channels} latent channels, the backbone "
            f"{backbone.latent_channels}: make them equal"
        )
    grid = codec.latent_size(*sizes, patch=backbone.patch)
    words = task.text.max_tokens if text is None else text
    if words is None:
        raise InputError("the text encoder has no limit of tokens: give --text-tokens")
    step = FlowStep(denoiser, FlowMatching(task.objective.levels, task.objective.weight))
    latents = torch.empty(clips, codec.latent_channels, *grid, device="meta")
    features = {
        c.name: torch.empty(clips, *c.feature_size(codec, *sizes), device="meta") for c in denoiser.featured
    }
    batch = _batch(clips, torch.device("meta"), latents=latents, features=features)
    listeners = [c for c in denoiser.conditions if isinstance(c, Condition)]
    answer = max((c.most_images for c in listeners if isinstance(c, KnownFrames)), default=0)
    told = Tokens(
        torch.empty(clips, words, backbone.text_width, device="meta"),
        torch.ones(clips, words, dtype=torch.bool, device="meta"),
    )
    with Ledger((), answer):
        signals = tuple(told if isinstance(c, Caption) else c.drawn(batch, Blank(0)) for c in listeners)

    def work(module: nn.Module, inputs: Any) -> StepOutput:
        return step.heard(module, inputs[0], inputs[1], Blank(0))

    return Scene(denoiser, (latents, signals), work, grid, words, answer)


def _codec(task: CodecTask, codec: VideoCodec | None, shape: ClipShape, clips: int) -> Scene:
    if task.start is not None:
        task.codec = codec or described_codec(task.start)
    step = task.step
    step.lengths = Lengths({})  # which are shapes of their own here

    def work(module: nn.Module, inputs: Any) -> StepOutput:
        batch = _batch(clips, torch.device("cpu"), pixels=inputs[0])
        return step(module, batch, Blank(0), 10**9)  # when the critic is heard in full

    grid = task.codec.latent_size(shape.frames, shape.height, shape.width)
    pixels = torch.empty(clips, 3, shape.frames, shape.height, shape.width, device="meta")
    return Scene(task.module, (pixels,), work, grid)


def _batch(
    clips: int,
    device: torch.device,
    pixels: Tensor | None = None,
    latents: Tensor | None = None,
    features: dict[str, Tensor] | None = None,
) -> ClipBatch:
    names = tuple(f"clip {i}" for i in range(clips))
    fps = torch.ones(clips, device=device)
    return ClipBatch(names, names, fps, pixels=pixels, latents=latents, features=features or {})
