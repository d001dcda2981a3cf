"""A trained run, opened for use."""

from dataclasses import dataclass
from pathlib import Path

from vdit.config import Run, build_run, load_run
from vdit.sample.sampler import Sampling
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.flow_task import FlowTask
from vdit.train.run_folder import RunFolder
from vdit.types import InputError
from vdit.weights.files import read_tensors

__all__ = ["Trained", "load_trained"]


@dataclass(frozen=True)
class Trained:
    """A text-to-video run with the averaged weights of a checkpoint in place.

    Attributes:
        run: its configuration, built.
        task: its task; samples and codec come from here.
        checkpoint: where the weights are from.
        folder: the run folder.
    """

    run: Run
    task: FlowTask
    checkpoint: Checkpoint
    folder: RunFolder

    @property
    def sampling(self) -> Sampling:
        """The run's own sampling settings."""
        return self.task.sampling

    @property
    def name(self) -> str:
        """Run and step, for people and for metadata."""
        return f"{self.folder.path.name} step {self.checkpoint.step}"


def load_trained(path: Path, step: int | None = None) -> Trained:
    """Open the run in `path`, at its last checkpoint or at that of `step`.

    Raises:
        InputError: it holds no run, no such checkpoint, or a run that trains something else.
    """
    folder = RunFolder(path).require()
    checkpoint = _chosen(Checkpoints(folder.checkpoints, keep=1).all(), path, step)
    run = build_run(load_run(folder.config))
    if not isinstance(run.task, FlowTask):
        raise InputError(f"{path} trained a {run.task.title}; sampling needs a text-to-video run")
    run.task.use_codec(folder.codec)
    checkpoint.verify()
    missing, unexpected = run.task.denoiser.load_state_dict(read_tensors(checkpoint.average), strict=False)
    buffers = {name for name, _ in run.task.denoiser.named_buffers()}
    if unexpected or set(missing) - buffers:
        raise InputError(f"{checkpoint.average} does not fit the configuration of {path}: {missing[:5]}")
    return Trained(run, run.task, checkpoint, folder)


def _chosen(saved: list[Checkpoint], path: Path, step: int | None) -> Checkpoint:
    if not saved:
        raise InputError(f"{path} has no checkpoint yet: train it first")
    for checkpoint in reversed(saved):
        if step in (None, checkpoint.step):
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in saved)
    raise InputError(f"{path} has no checkpoint of step {step}: it has {steps}; loop.keep says how many stay")
