"""Pictures of what the model can do so far."""

from collections.abc import Callable
from pathlib import Path

from vdit.train.hooks.hook import Hook, due
from vdit.train.state import StepRecord, TrainState
from vdit.train.task import Session

__all__ = ["Samples"]


class Samples(Hook):
    """Has `draw` write into `samples/step_N` before training, every `every` steps and at the last.

    What is there from before the first step shows what the model owes to training. Of several processes the
    main one draws.
    """

    def __init__(self, draw: Callable[[Path], None], session: Session) -> None:
        self.draw, self.main = draw, session.engine.main
        self.folder, self.every, self.steps = session.folder.samples, session.pace.samples, session.steps

    def start(self, state: TrainState) -> None:
        if state.step == 0:
            self._draw(state)

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        if due(record.step, self.every, self.steps):
            self._draw(state)

    def _draw(self, state: TrainState) -> None:
        if not self.main:
            return
        with state.ema.applied():
            self.draw(self.folder / f"step_{state.step:08d}")
