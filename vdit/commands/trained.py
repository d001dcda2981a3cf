"""A trained run, opened for use."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vdit.config import Parsed, build_part, load_run
from vdit.devices import available_device
from vdit.sample.sampler import Sampling
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.flow_task import FlowTask
from vdit.train.run_folder import RunFolder
from vdit.train.task import Data
from vdit.types import InputError
from vdit.weights.files import read_tensors

__all__ = ["Trained", "load_trained"]


@dataclass(frozen=True)
class Trained:
    """A text-to-video run with the averaged weights of a checkpoint in place.

    Attributes:
        config: its configuration.
        task: its task; samples and codec come from here.
        checkpoint: where the weights are from.
        folder: the run folder.
    """

    config: Parsed
    task: FlowTask
    checkpoint: Checkpoint
    folder: RunFolder

    @property
    def sampling(self) -> Sampling:
        """The run's own sampling settings."""
        return self.task.sampling

    @property
    def seed(self) -> int:
        """Of its training."""
        return self.config.values.seed

    @cached_property
    def data(self) -> Data:
        """The clips it was trained and validated on, which must still be where they were."""
        return build_part(self.config, "data")

    @property
    def name(self) -> str:
        """Run and step, for people and for metadata."""
        return f"{self.folder.path.name} step {self.checkpoint.step}"


def load_trained(path: Path, step: int | None = None, device: str = "auto") -> Trained:
    """Open the run in `path`, at its last checkpoint or at that of `step`, on a device by name.

    Raises:
        InputError: it holds no run, no such checkpoint, or a run that trains something else; no such device.
    """
    place = available_device(device)
    folder = RunFolder(path).require()
    checkpoint = _chosen(Checkpoints(folder.checkpoints, keep=1).all(), path, step)
    config = load_run(folder.config)
    task = build_part(config, "task")
    if not isinstance(task, FlowTask):
        raise InputError(f"{path} trained a {task.title}; sampling needs a text-to-video run")
    task.use_codec(folder.codec)
    checkpoint.verify()
    missing, unexpected = task.denoiser.load_state_dict(read_tensors(checkpoint.average), strict=False)
    buffers = {name for name, _ in task.denoiser.named_buffers()}
    if unexpected or set(missing) - buffers:
        raise InputError(f"{checkpoint.average} does not fit the configuration of {path}: {missing[:5]}")
    task.denoiser.to(place)
    task.codec.to(place)
    return Trained(config, task, checkpoint, folder)


def _chosen(saved: list[Checkpoint], path: Path, step: int | None) -> Checkpoint:
    if not saved:
        raise InputError(f"{path} has no checkpoint yet: train it first")
    for checkpoint in reversed(saved):
        if step in (None, checkpoint.step):
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in saved)
    raise InputError(f"{path} has no checkpoint of step {step}: it has {steps}; loop.keep says how many stay")
