"""The numbers of a run: a JSON line every few steps, and the same to TensorBoard."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vdit.eval.curves import read_rows
from vdit.train.hooks.hook import Hook, due
from vdit.train.run_folder import RunFolder
from vdit.train.state import StepRecord, TrainState
from vdit.weights.files import write_whole

__all__ = ["Journal", "Metrics"]


class Journal:
    """Appends rows of numbers to the metrics file and to TensorBoard; shared by all hooks that measure.

    Rows of steps that a resumed run is about to repeat are dropped first. Of several processes one `writes`;
    the journals of the others take rows and keep none.
    """

    def __init__(self, folder: RunFolder, resumed_at: int, writes: bool = True) -> None:
        self._writes = writes
        if not writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        kept = [row for row in read_rows(folder.metrics) if row["step"] <= resumed_at]
        write_whole(folder.metrics, (json.dumps(row) + "\n" for row in kept))
        self._file = folder.metrics.open("a", buffering=1)
        self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Add a row of `kind` (train, validation ...) after `step` steps."""
        if not self._writes:
            return
        row: dict[str, Any] = {"step": step, "kind": kind, **{k: float(v) for k, v in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._writes:
            self._file.close()
            self._board.close()


class Metrics(Hook):
    """Loss, gradient norm, rate and speed, averaged over the steps since the last row.

    Tensors are gathered unread and read together, so that a device is not waited for at every step.

    Args:
        journal: where rows go.
        every: steps a row.
        steps: of the whole run.
        mean: of a number over all processes. Steps that a run which ends early leaves without a full row are
            those of one process: the others may be gone.
    """

    def __init__(
        self, journal: Journal, every: int, steps: int, mean: Callable[[Tensor], Tensor] = lambda value: value
    ) -> None:
        self.journal, self.every, self.steps, self.mean = journal, every, steps, mean
        self._records: list[StepRecord] = []
        self._since = time.perf_counter()

    def start(self, state: TrainState) -> None:
        self._since = time.perf_counter()

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        self._records.append(record)
        if due(record.step, self.every, self.steps):
            self._flush(self.mean)

    def finish(self, state: TrainState) -> None:
        if self._records:
            self._flush(lambda value: value)
        self.journal.close()

    def _flush(self, over_processes: Callable[[Tensor], Tensor]) -> None:
        def mean(values: list[Tensor]) -> float:
            return over_processes(torch.stack(values).mean()).item()

        records, self._records = self._records, []
        names = records[-1].metrics.keys()
        now = time.perf_counter()
        values = {
            "loss": mean([r.loss for r in records]),
            "gradient_norm": mean([r.gradient_norm for r in records]),
            "rate": records[-1].rate,
            "step_seconds": sum(r.seconds for r in records) / len(records),
            "clips_per_second": sum(r.clips for r in records) / (now - self._since),
            **{name: mean([r.metrics[name] for r in records]) for name in names},
        }
        self._since = now
        self.journal.write(records[-1].step, "train", values)
