"""A measurement on held-out clips, made with the averaged weights, written to the journal."""

from collections.abc import Callable, Mapping

from rich.console import Console

from vdit.train.hooks.hook import Hook, due
from vdit.train.hooks.metrics import Journal
from vdit.train.state import StepRecord, TrainState

__all__ = ["Validation"]


class Validation(Hook):
    """Calls `measure` every `every` steps and at the last, and prints what it says."""

    lengthy = True

    def __init__(
        self,
        measure: Callable[[], Mapping[str, float]],
        journal: Journal,
        every: int,
        steps: int,
        console: Console,
    ) -> None:
        self.measure, self.journal, self.every, self.steps = measure, journal, every, steps
        self.console = console

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        if not due(record.step, self.every, self.steps):
            return
        with state.ema.applied():
            values = self.measure()
        self.journal.write(record.step, "validation", values)
        said = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.console.print(f"step {record.step}  {said}")
