"""What a run trains: the joint between the configuration and the loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from rich.console import Console
from torch import nn

from vdit.data.loader import ItemSource
from vdit.data.split import split_source
from vdit.parallel.engine import Engine
from vdit.train.captions import Captions
from vdit.train.hooks.hook import Hook
from vdit.train.hooks.metrics import Journal
from vdit.train.run_folder import RunFolder
from vdit.train.step import Step
from vdit.types import ClipSource, InputError

__all__ = ["HELD_OUT_SHARE", "Data", "Pace", "Session", "Task", "Work"]


HELD_OUT_SHARE = 0.05
"""Of the videos of `Data.train`, unless a run says more of what it is measured on."""


@final
class Data:
    """The clips of a run: `train` and `held_out`, which share no video unless a run asks for it.

    Args:
        train: what it learns from.
        held_out: what it is measured on; where it is not given, some of the videos of `train`, which are then
            not trained on.
        held_out_share: how many of the videos of `train` that is, over all of them; a twentieth by itself.
        workers: threads that prepare batches.
        max_unreadable: share of the clips that training may do without because they cannot be read; others
            stand in their place. Those of one video may be, unless it is 0.

    Raises:
        InputError: a source of `train` with no second video; a share of what is given apart.
    """

    def __init__(
        self,
        train: ClipSource,
        held_out: ClipSource | None = None,
        held_out_share: float | None = None,
        workers: int = 1,
        max_unreadable: float = 0.01,
    ) -> None:
        if workers < 1:
            raise InputError(f"data.workers is {workers}, but must be at least 1: a thread reads the clips")
        if held_out is not None and held_out_share is not None:
            raise InputError(
                "data.held_out names its clips, so data.held_out_share has nothing to split: give one of them"
            )
        if not 0 <= max_unreadable < 1:
            raise InputError(
                f"data.max_unreadable is {max_unreadable}, but must be a share of the clips, below 1"
            )
        share = HELD_OUT_SHARE if held_out_share is None else held_out_share
        pair = split_source(train, share) if held_out is None else (train, held_out)
        self.train, self.held_out = pair
        self.workers = workers
        self.max_unreadable = max_unreadable


@dataclass(frozen=True)
class Pace:
    """How often a run looks at itself, in steps; 0 means only at the last step.

    Samples are drawn before the first step too.

    Args:
        metrics: averages of the loss.
        validation: measurements on held-out clips.
        samples: pictures or clips.
    """

    metrics: int = 10
    validation: int = 200
    samples: int = 400

    def __post_init__(self) -> None:
        for name in ("metrics", "validation", "samples"):
            if getattr(self, name) < 0:
                raise InputError(f"pace.{name} is {getattr(self, name)}: 0 is at the end only")


@dataclass(frozen=True)
class Session:
    """What a task may use while it prepares its work.

    Attributes:
        engine: devices and processes.
        folder: where the run writes.
        console: where it speaks to a person.
        data: the clips.
        pace: how often hooks fire.
        steps: of the whole run.
        seed: of the whole run.
        clips: that this process computes with at once, in a step.
        began: when the command was given, in seconds of the epoch.
    """

    engine: Engine
    folder: RunFolder
    console: Console
    data: Data
    pace: Pace
    steps: int
    seed: int
    clips: int
    began: float


@dataclass(frozen=True)
class Work:
    """What the loop runs.

    Attributes:
        step: what one step computes.
        items: what batches are made of, one for each training clip.
        missing: why, by number, for clips that are known to be unreadable already.
    """

    step: Step
    items: ItemSource
    missing: Mapping[int, str] = field(default_factory=dict)


class Task(ABC):
    """Something that can be trained. Constructing one is cheap; `prepare` does the heavy part.

    Attributes:
        title: what is trained, in a word.
        module: its weights.
        borrowed: names of those that training does not change and that stand elsewhere.
    """

    title: str
    module: nn.Module
    borrowed: frozenset[str] = frozenset()

    @abstractmethod
    def adopt(self, folder: RunFolder) -> None:
        """Take from the folder of a run that goes on what has gone from where it came from.

        Raises InputError where a codec is in neither place.
        """

    @abstractmethod
    def require_own(self, folder: RunFolder) -> None:
        """Refuse the folder of a run with another codec; the first process does. Raises InputError."""

    @abstractmethod
    def check(self, data: Data) -> None:
        """Refuse, before any heavy work, what cannot be trained. Raises InputError."""

    def notes(self, data: Data) -> Sequence[str]:
        """What a person should know of these clips before the first step, a sentence each."""
        return []

    @abstractmethod
    def captions(self, source: ClipSource) -> Captions | None:
        """What it reads of the captions of a source; None where it reads none."""

    def begin(self) -> Mapping[str, Any]:
        """Take the weights that a new run begins with, where those are another run's.

        Returns:
            Which run, step and content they are of; nothing where they are the module's own.
        """
        return {}

    @abstractmethod
    def prepare(self, session: Session) -> Work:
        """Do all frozen work (caches) that comes before the first step."""

    @abstractmethod
    def hooks(self, session: Session, work: Work, journal: Journal) -> Sequence[Hook]:
        """What happens beside training for this task: measurements, pictures, exports."""
