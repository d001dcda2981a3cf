"""What a run hands on when it is done."""

from collections.abc import Callable

from vdit.train.hooks.hook import Hook
from vdit.train.state import StepRecord, TrainState

__all__ = ["Export"]


class Export(Hook):
    """Calls `export` with the averaged weights in place, after the last step."""

    lengthy = True

    def __init__(self, export: Callable[[], None], steps: int) -> None:
        self.export, self.steps = export, steps

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        if record.step == self.steps:
            with state.ema.applied():
                self.export()
