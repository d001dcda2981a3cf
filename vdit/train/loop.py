"""The training loop.

    batch -> step -> backward -> (non-finite? stay) -> clip, optimise -> EMA -> hooks -> checkpoint

Where there is no next batch, because clips cannot be read, the last step is saved before the run leaves.

A checkpoint is copied during the next step, up to where it would change what is copied.

No line waits for the device: what a step found is read when a row of metrics is due, and one step late where
it would stop the run.

It knows nothing of what a step computes: codecs and flow models run through the same lines.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from vdit.parallel.engine import Engine
from vdit.train.checkpoint import Checkpoints, Stuck
from vdit.train.finite import FiniteWatch
from vdit.train.hooks.hook import Hook, due
from vdit.train.optim import Optim, learning_rate, set_learning_rate
from vdit.train.reading import Unread
from vdit.train.requests import Requests, Wanted
from vdit.train.state import Own, StepRecord, TrainState, step_draws
from vdit.train.step import Step, StepOutput
from vdit.train.stopwatch import Stopwatch
from vdit.types import ClipBatch, InputError
from vdit.weights.files import DiskError

__all__ = ["Batches", "Loop", "fit"]


@dataclass(frozen=True)
class Loop:
    """How long to train, and how often to save.

    Args:
        steps: optimiser steps of the whole run.
        batch: clips a micro-batch, over all ranks.
        accumulate: micro-batches a step.
        ema: decay of the average of the weights, a step.
        ema_every: steps from one update of the average to the next; an update reads and writes every weight,
            which a short step feels. By itself, a hundredth of the steps that the average remembers.
        save_every: steps between checkpoints; the last step is always saved.
        keep: checkpoints to keep, the newest ones.
        keep_every: of older ones, those of every so many steps stay too; 0 keeps none.
        background: whether training goes on while a checkpoint is copied to the memory of the CPU, and
            written from there.
        leap: deviations above the last steps from which a loss is told and its clips are written down; 0
            looks for none.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    ema: float = 0.999
    ema_every: int | None = None
    save_every: int = 500
    keep: int = 2
    keep_every: int = 0
    background: bool = True
    leap: float = 8.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "ema_every", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"loop.{name} is {value}, but must be at least 1")
        if self.save_every < 0:
            raise InputError(f"loop.save_every is {self.save_every}: 0 saves at the end only")
        if self.leap < 0:
            raise InputError(f"loop.leap is {self.leap}: 0 looks for no leap of the loss")
        if self.keep_every < 0:
            raise InputError(f"loop.keep_every is {self.keep_every}: 0 keeps the newest alone")
        if self.save_every and self.keep_every % self.save_every:
            raise InputError(
                f"loop.keep_every is {self.keep_every}, but must be a multiple of save_every, "
                f"{self.save_every}: a step that saves nothing leaves nothing to keep"
            )
        if self.ema_every is not None and self.ema_every > self.steps:
            raise InputError(
                f"loop.ema_every is {self.ema_every}, of {self.steps} steps: the average "
                "would keep the first weights"
            )
        if not 0 <= self.ema < 1:
            raise InputError(f"loop.ema is {self.ema}, but must lie in [0, 1); 0 follows the weights exactly")

    @property
    def averages_every(self) -> int:
        """Steps from one update of the average to the next; a run has a hundred, if it has as many steps."""
        if self.ema_every is not None:
            return self.ema_every
        return max(1, min(round(0.01 / (1 - self.ema)), self.steps // 100))

    @property
    def saves(self) -> int:
        """How many checkpoints a whole run writes."""
        return len(self._saved)

    @property
    def kept(self) -> int:
        """How many of them stand at its end."""
        older = self._saved[: -self.keep] if self.keep_every else []
        return min(self.saves, self.keep) + sum(step % self.keep_every == 0 for step in older)

    @property
    def _saved(self) -> list[int]:
        """The steps after which a whole run saves."""
        return [step for step in range(1, self.steps + 1) if due(step, self.save_every, self.steps)]


class Batches(Protocol):
    """Endless batches in an order that can be resumed."""

    def __next__(self) -> ClipBatch: ...

    def state_dict(self) -> dict[str, int]:
        """Where the order stands after the batch handed out last."""
        ...


def fit(
    state: TrainState,
    step: Step,
    batches: Batches,
    engine: Engine,
    checkpoints: Checkpoints,
    hooks: Sequence[Hook],
    loop: Loop,
    optim: Optim,
    seed: int,
) -> str | None:
    """Train from `state.step` to `loop.steps`, or until a signal or a file asks to stop.

    Returns:
        What ended training early, or None.

    Raises:
        NonFinite: with the optimiser where it was before the step, naming the clips of the batch.
        InputError, DiskError: clips cannot be read; the last step is saved.
    """
    finite, place = FiniteWatch(engine), engine.watchdog.at
    for hook in hooks:
        hook.start(state)
    try:
        with Requests(checkpoints.folder.parent, looks=engine.main) as requests, checkpoints, engine.watchdog:
            while state.step < loop.steps:
                started = time.perf_counter()
                rate = learning_rate(optim, state.step, loop.steps)
                set_learning_rate(state.stepper.optimizer.param_groups, rate)
                try:
                    record = optimise(state, step, batches, engine, checkpoints, loop, seed, finite)
                except Unread as unread:
                    place(state.step, "saving", watched=False)
                    raise saved_before(unread.error, state, finite, checkpoints) from None
                state.ema.update(state.step)
                state.step += 1
                state.position = batches.state_dict()
                seconds = time.perf_counter() - started
                state.seconds += seconds
                record = replace(record, step=state.step, rate=rate, seconds=seconds)
                for hook in hooks:
                    # The short ones read what the device has found, so a hang of it would show there.
                    doing = "measuring or drawing" if hook.lengthy else "writing what steps found"
                    place(state.step, doing, watched=not hook.lengthy)
                    hook.after_step(state, record)
                wanted = engine.agreement.highest(requests.wanted())
                if wanted or due(state.step, loop.save_every, loop.steps):
                    finite.require()
                    place(state.step, "saving", watched=False)
                    checkpoints.save(state)
                if wanted == Wanted.LEAVE:
                    return requests.reason or "a signal to another process"
    except Stuck:
        hooks = ()  # they would wait for the same disk
        raise
    finally:
        for hook in hooks:
            hook.finish(state)
    return None


def saved_before(
    error: Exception, state: TrainState, finite: FiniteWatch, checkpoints: Checkpoints
) -> Exception:
    """What the next batch failed with, once the last step is saved; all ranks together."""
    if not state.step:
        return error
    finite.require()
    try:
        checkpoints.save(state)
        checkpoints.wait()
        told = f"The run is saved after step {state.step}; the same command goes on from there"
    except Stuck:
        raise
    except (InputError, DiskError) as unsaved:
        told = str(unsaved)
    if isinstance(error, InputError | DiskError):
        return type(error)(f"{error}. {told}")
    error.add_note(told)
    return error


def optimise(
    state: TrainState,
    step: Step,
    batches: Batches,
    engine: Engine,
    checkpoints: Checkpoints,
    loop: Loop,
    seed: int,
    finite: FiniteWatch,
) -> StepRecord:
    """One optimiser step: gradients of `loop.accumulate` micro-batches, checked, clipped, applied."""
    draws, place = step_draws(seed, state.step, engine.mesh, engine.device), engine.watchdog.at
    forward, waited = Stopwatch(engine.device), 0.0
    ids: list[str] = []
    outputs: list[StepOutput] = []
    for micro in range(loop.accumulate):
        place(state.step + 1, "waiting for clips")
        since = time.perf_counter()
        batch = next(batches).to(engine.device)
        waited += time.perf_counter() - since
        ids += batch.ids
        place(state.step + 1, "computing, or waiting for another rank")
        with state.stepper.accumulating(micro < loop.accumulate - 1):
            with forward:
                output = step(state.stepper.module, batch, draws, state.step)
            state.stepper.backward(output.loss.mean() / loop.accumulate)
        outputs.append(StepOutput(output.loss.detach(), output.metrics))
    losses = torch.cat([output.loss for output in outputs])
    norm = state.stepper.gradient_norm()
    stay = finite.judge(losses, norm, ids, state.step)
    checkpoints.settle()
    state.stepper.update(norm, stay)
    names = outputs[-1].metrics
    metrics = {name: torch.stack([output.metrics[name] for output in outputs]).mean() for name in names}
    own = Own(tuple(ids), losses, forward, waited)
    return StepRecord(0, losses.mean(), norm, 0.0, 0.0, loop.batch * loop.accumulate, metrics, own)
