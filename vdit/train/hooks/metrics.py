"""The numbers of a run: a JSON line every few steps, and the same to TensorBoard."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import torch

from vdit.train.hooks.hook import Hook, due
from vdit.train.run_folder import RunFolder
from vdit.train.state import StepRecord, TrainState

__all__ = ["Journal", "Metrics"]


class Journal:
    """Appends rows of numbers to the metrics file and to TensorBoard; shared by all hooks that measure.

    Rows of steps that a resumed run is about to repeat are dropped first.
    """

    def __init__(self, folder: RunFolder, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        kept = [row for row in folder.records() if row["step"] <= resumed_at]
        aside = folder.metrics.with_suffix(".writing")
        aside.write_text("".join(json.dumps(row) + "\n" for row in kept))
        os.replace(aside, folder.metrics)
        self._file = folder.metrics.open("a", buffering=1)
        self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Add a row of `kind` (train, validation ...) after `step` steps."""
        row: dict[str, Any] = {"step": step, "kind": kind, **{k: float(v) for k, v in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class Metrics(Hook):
    """Loss, gradient norm, rate and speed, averaged over the steps since the last row.

    Tensors are gathered unread and read together, so that a device is not waited for at every step.
    """

    def __init__(self, journal: Journal, every: int, steps: int) -> None:
        self.journal, self.every, self.steps = journal, every, steps
        self._records: list[StepRecord] = []
        self._since = time.perf_counter()

    def start(self, state: TrainState) -> None:
        self._since = time.perf_counter()

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        self._records.append(record)
        if due(record.step, self.every, self.steps):
            self._flush()

    def finish(self, state: TrainState) -> None:
        if self._records:
            self._flush()
        self.journal.close()

    def _flush(self) -> None:
        records, self._records = self._records, []
        names = records[-1].metrics.keys()
        now = time.perf_counter()
        values = {
            "loss": torch.stack([r.loss for r in records]).mean().item(),
            "gradient_norm": torch.stack([r.gradient_norm for r in records]).mean().item(),
            "rate": records[-1].rate,
            "step_seconds": sum(r.seconds for r in records) / len(records),
            "clips_per_second": sum(r.clips for r in records) / (now - self._since),
            **{name: torch.stack([r.metrics[name] for r in records]).mean().item() for name in names},
        }
        self._since = now
        self.journal.write(records[-1].step, "train", values)
