"""Pictures of what the model can do so far."""

from collections.abc import Callable
from pathlib import Path

from vdit.train.hooks.hook import Hook, due
from vdit.train.state import StepRecord, TrainState
from vdit.train.task import Session

__all__ = ["Samples"]


class Samples(Hook):
    """Has `draw` write into `samples/step_N` before training, every `every` steps and at the last.

    What is there from before the first step shows what the model owes to training. All processes draw, for
    each may hold a part of the weights; the main one is told where to write.
    """

    lengthy = True

    def __init__(self, draw: Callable[[Path | None], None], session: Session) -> None:
        self.draw, self.every, self.steps = draw, session.pace.samples, session.steps
        self.folder = session.folder.samples if session.engine.main else None

    def start(self, state: TrainState) -> None:
        if state.step == 0:
            self._draw(state)

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        if due(record.step, self.every, self.steps):
            self._draw(state)

    def _draw(self, state: TrainState) -> None:
        with state.ema.applied():
            self.draw(None if self.folder is None else self.folder / f"step_{state.step:08d}")
