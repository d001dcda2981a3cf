"""How a run fares: losses that leap, ranks that lag, waiting for data, and time that bears fruit."""

import json
import statistics
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from vdit.parallel.engine import Engine
from vdit.train.hooks.hook import Hook, due
from vdit.train.hooks.metrics import Journal
from vdit.train.sessions import Sessions
from vdit.train.state import StepRecord, TrainState

__all__ = ["Health", "leaps"]

REMEMBERED = 200
"""Losses that a new one is measured against."""

ENOUGH = 50
"""Losses without which nothing is called a leap."""

SLOW = 1.5
"""A rank is slow whose forward pass takes so many times the median's ..."""

ROWS = 3
"""... in so many rows of metrics, one after the other."""


class Health(Hook):
    """Writes a row of kind `health` beside each row of metrics, and what a leaping loss saw.

    A loss leaps where it is further above the median of the last 200 steps than `leap` times their spread
    (the median distance from it, scaled to a deviation of Gaussian numbers). What was seen then lands in
    `spikes/step_N.json`: the clips with the loss of each, worst first, the norm of the gradient, the losses
    before.

    Forward passes are compared, for the backward pass of every rank waits for the slowest. Where ranks share
    a clip or weights (`parallel.sequence`, zero3), they wait for each other in the forward pass too.

    Args:
        engine: whose ranks are asked.
        journal: where rows go.
        console: where a slow rank and a leap are told.
        spikes: the folder for what was seen.
        sessions: the times that the run was worked on.
        every: steps a row.
        steps: of the whole run.
        leap: see above; 0 looks for none.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        console: Console,
        spikes: Path,
        sessions: Sessions,
        every: int,
        steps: int,
        leap: float,
    ) -> None:
        self.engine, self.journal, self.console, self.spikes = engine, journal, console, spikes
        self.sessions, self.every, self.steps, self.leap = sessions, every, steps, leap
        self._records: list[StepRecord] = []
        self._before: deque[float] = deque(maxlen=REMEMBERED)
        self._slow = [0] * engine.mesh.world

    def start(self, state: TrainState) -> None:
        mesh, parallel = self.engine.mesh, self.engine.parallel
        self.sessions.begin(state.step, mesh.world, parallel.strategy)
        self._hosts = self.engine.gathered([self.engine.watchdog.host])

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        self._records.append(record)
        if due(record.step, self.every, self.steps):
            records, self._records = self._records, []
            self.sessions.seen()
            self._write_row(records, state)
            self._write_spikes(records)

    def finish(self, state: TrainState) -> None:
        self.sessions.seen()

    def _write_row(self, records: Sequence[StepRecord], state: TrainState) -> None:
        forward = sum(record.own.forward.seconds() for record in records) / len(records)
        waited = sum(record.own.waited for record in records) / len(records)
        rows = self.engine.rows([forward, waited, self.engine.take_peak()])  # rank, (forward, waited, bytes)
        forwards = [row[0] for row in rows]
        usual, slowest = statistics.median(forwards), max(range(len(rows)), key=forwards.__getitem__)
        values = {
            "forward_seconds": usual,
            "forward_seconds_slowest": forwards[slowest],
            "slowest_rank": slowest,
            "wait_seconds": statistics.mean(row[1] for row in rows),
            "wait_seconds_slowest": max(row[1] for row in rows),
            "goodput": min(1.0, state.seconds / max(self.sessions.spent(), 1e-9)),
        }
        if most := max(row[2] for row in rows):
            values["memory_gib_most"] = most / 2**30
        self.journal.write(state.step, "health", values)
        for rank, seconds in enumerate(forwards):
            self._slow[rank] = self._slow[rank] + 1 if seconds > SLOW * usual else 0
            if self._slow[rank] == ROWS:
                self.console.print(
                    f"step {state.step}: rank {rank} ({self._hosts[rank]}) is slow: {seconds:.3g} s for a "
                    f"forward pass that takes {usual:.3g} s elsewhere; all others wait for it"
                )

    def _write_spikes(self, records: Sequence[StepRecord]) -> None:
        losses = self.engine.mean(torch.stack([record.loss for record in records])).tolist()
        found = leaps(losses, self._before, self.leap)
        for record, loss, far in zip(records, losses, found, strict=True):
            if far:
                self._write_spike(record, loss, far)
        self._before.extend(losses)

    def _write_spike(self, record: StepRecord, loss: float, far: float) -> None:
        own = record.own
        told = [f"{one:.6g} {name}" for name, one in zip(own.ids, own.losses.tolist(), strict=True)]
        clips = sorted(
            (line.split(" ", 1) for line in self.engine.said_of_clips(told)), key=lambda c: -float(c[0])
        )
        if not self.engine.main:
            return
        seen = {
            "step": record.step,
            "loss": loss,
            "deviations": far,
            "gradient_norm": record.gradient_norm.item(),
            "rate": record.rate,
            "clips": [{"id": name, "loss": float(one)} for one, name in clips],
            "before": list(self._before)[-20:],
        }
        self.spikes.mkdir(exist_ok=True)
        file = self.spikes / f"step_{record.step:08d}.json"
        file.write_text(json.dumps(seen, indent=1) + "\n")
        self.console.print(
            f"step {record.step}: the loss leapt to {loss:.4g}, {far:.0f} deviations above the last steps; "
            f"the clips are in {file}"
        )


def leaps(losses: Sequence[float], before: Sequence[float], least: float) -> list[float]:
    """How many deviations each loss is above the median of those before; 0 where that is below `least`.

    A deviation is 1.4826 times the median distance from the median, which leaps themselves hardly move.
    """
    if not least or len(before) < ENOUGH:
        return [0.0] * len(losses)
    middle = statistics.median(before)
    spread = 1.4826 * statistics.median(abs(loss - middle) for loss in before)
    spread = max(spread, 1e-6 * abs(middle))  # of losses that hardly move
    far = [(loss - middle) / spread for loss in losses]
    return [value if value > least else 0.0 for value in far]
