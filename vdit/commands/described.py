"""A text-to-video model in shapes alone: what it cannot be asked for is known before its weights are read."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import WEIGHTS, require_codec
from vdit.commands.trained import require_model, saved_checkpoint
from vdit.config import build_flow, build_part, recorded_run
from vdit.plan.scenes import described_codec
from vdit.releases.take_in import DESCRIPTION
from vdit.train.flow_task import FlowTask
from vdit.train.run_folder import RunFolder
from vdit.types import InputError

__all__ = ["Described", "describe_model", "describe_trained"]


@dataclass(frozen=True)
class Described:
    """A model of which nothing is read.

    Attributes:
        task: on `meta`.
        codec: likewise.
        step: of the checkpoint of a run; None for a model that was taken in.
        weights: the files that a clip depends on.
    """

    task: FlowTask
    codec: VideoCodec
    step: int | None
    weights: tuple[Path, ...]


def describe_model(path: Path) -> Described:
    """The model that was taken into `path`. Raises InputError where it holds none."""
    require_model(path)
    task = build_flow(path / DESCRIPTION, shapes_only=True)
    require_codec(task.codec_folder)
    return Described(
        task, described_codec(task.codec_folder), None, tuple(sorted(path.rglob("*.safetensors")))
    )


def describe_trained(path: Path, step: int | None = None) -> Described:
    """The run in `path`, at its last checkpoint or at that of `step`.

    Raises:
        InputError: it holds no run, no such checkpoint, or a run that trains something else.
    """
    folder = RunFolder(path).require()
    checkpoint = saved_checkpoint(folder, step)
    config = recorded_run(folder.config)  # which imports its classes: what these make of their own has values
    with torch.device("meta"):
        task = build_part(config, "task")
    if not isinstance(task, FlowTask):
        raise InputError(f"{path} trained a {task.title}; sampling needs a text-to-video run")
    task.use_codec(folder.codec)
    require_codec(folder.codec)
    files = (checkpoint.average, folder.codec / WEIGHTS)
    return Described(task, described_codec(folder.codec), checkpoint.step, files)
