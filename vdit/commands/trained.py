"""A trained run, or a model that was taken in, opened for use."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vdit.config import Parsed, build_flow, build_part, recorded_run
from vdit.devices import available_device
from vdit.releases.take_in import DESCRIPTION
from vdit.sample.sampler import Sampling
from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.train.flow_task import FlowTask
from vdit.train.run_folder import RunFolder
from vdit.train.task import Data
from vdit.types import InputError
from vdit.yaml_file import read_yaml

__all__ = [
    "Opened",
    "Trained",
    "load_model",
    "load_trained",
    "own_sampling",
    "require_model",
    "saved_checkpoint",
]


@dataclass(frozen=True)
class Opened:
    """A text-to-video model with its weights in place.

    Attributes:
        task: samples and codec come from here.
        path: its folder.
    """

    task: FlowTask
    path: Path

    @property
    def sampling(self) -> Sampling:
        """Its own sampling settings."""
        return self.task.sampling

    @property
    def name(self) -> str:
        """For people and for metadata."""
        return self.path.absolute().name


@dataclass(frozen=True)
class Trained(Opened):
    """A text-to-video run with the averaged weights of a checkpoint in place.

    Attributes:
        config: its configuration.
        checkpoint: where the weights are from.
        folder: the run folder.
    """

    config: Parsed
    checkpoint: Checkpoint
    folder: RunFolder

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
        """Run and step."""
        return f"{self.folder.path.name} step {self.checkpoint.step}"


def load_model(path: Path, device: str = "auto") -> Opened:
    """Open the model that was taken into `path`, on a device by name.

    Raises:
        InputError: it holds no model, or one whose parts do not fit; no such device.
    """
    place = available_device(device)
    require_model(path)
    task = build_flow(path / DESCRIPTION)
    task.denoiser.to(place)
    task.place_codec(place)
    return Opened(task, path)


def require_model(path: Path) -> None:
    """Raises InputError where no model was taken into `path`."""
    if not (path / DESCRIPTION).is_file():
        raise InputError(f"{path} holds no model: it has no {DESCRIPTION}; take one in with `vdit import`")


def load_trained(path: Path, step: int | None = None, device: str = "auto") -> Trained:
    """Open the run in `path`, at its last checkpoint or at that of `step`, on a device by name.

    Raises:
        InputError: it holds no run, no such checkpoint, or a run that trains something else; no such device.
    """
    place = available_device(device)
    folder = RunFolder(path).require()
    checkpoint = saved_checkpoint(folder, step)
    config = recorded_run(folder.config)
    task = build_part(config, "task")
    if not isinstance(task, FlowTask):
        raise InputError(f"{path} trained a {task.title}; sampling needs a text-to-video run")
    task.use_codec(folder.codec)
    task.require_base(folder)
    checkpoint.verify()
    checkpoint.load_average(task.denoiser, task.borrowed)
    task.denoiser.to(place)
    task.place_codec(place)
    return Trained(task, path, config, checkpoint, folder)


def own_sampling(path: Path) -> Sampling | None:
    """How a model, or a run that began with one, is sampled; None where a run does not say. Builds nothing.

    Raises:
        InputError: the folder holds neither.
    """
    if (path / DESCRIPTION).is_file():
        return Sampling(**read_yaml(path / DESCRIPTION, "the model").get("sampling", {}))
    sampling = recorded_run(RunFolder(path).require().config).values.task.init_args.get("sampling")
    return None if sampling is None else Sampling(**sampling.as_dict())


def saved_checkpoint(folder: RunFolder, step: int | None) -> Checkpoint:
    """The last checkpoint of a run, or that of `step`. Raises InputError where there is none."""
    saved = Checkpoints(folder.checkpoints, keep=1).all()
    if not saved:
        raise InputError(f"{folder.path} has no checkpoint yet: train it first")
    for checkpoint in reversed(saved):
        if step in (None, checkpoint.step):
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in saved)
    raise InputError(
        f"{folder.path} has no checkpoint of step {step}: it has {steps}; loop.keep says how many stay"
    )
