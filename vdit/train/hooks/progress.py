"""The progress bar, with loss, speed and the time that is left."""

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from vdit.progress import PLAIN_LINE_SECONDS
from vdit.train.hooks.hook import Hook
from vdit.train.state import StepRecord, TrainState

__all__ = ["ProgressBar"]


class ProgressBar(Hook):
    """A live bar on a terminal; in a log file, a line every quarter of a minute."""

    def __init__(self, title: str, steps: int, console: Console) -> None:
        self.title, self.steps, self.console = title, steps, console
        self._loss: Tensor | None = None
        self._spoke = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def start(self, state: TrainState) -> None:
        self._task = self._bar.add_task(self.title, total=self.steps, completed=state.step, loss="-")
        self._bar.start()
        if not self.console.is_terminal:
            self.console.print(f"{self.title}: {state.step} of {self.steps} steps done")

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        self._loss = record.loss if self._loss is None else torch.lerp(self._loss, record.loss, 0.1)
        if self.console.is_terminal:
            if record.step % 5 == 0 or record.step == self.steps:
                self._bar.update(self._task, completed=record.step, loss=f"{self._loss.item():.4f}")
        elif state.seconds - self._spoke > PLAIN_LINE_SECONDS or record.step == self.steps:
            self._spoke = state.seconds
            left = (self.steps - record.step) * state.seconds / record.step
            self.console.print(
                f"{self.title}: step {record.step}/{self.steps}  loss {self._loss.item():.4f}  "
                f"{record.seconds:.2f} s/step  {left / 60:.1f} min left"
            )

    def finish(self, state: TrainState) -> None:
        self._bar.stop()
