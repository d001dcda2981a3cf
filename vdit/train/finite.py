"""Losses and gradients that are no numbers stop a run before the optimiser moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vdit.parallel.engine import Engine

__all__ = ["FiniteWatch", "NonFinite"]


class NonFinite(RuntimeError):
    """The loss or the gradient is not a number; the optimiser has not been touched."""


@dataclass(frozen=True)
class Judged:
    """A step whose verdict is on its way to this process.

    Attributes:
        verdict: whether the step is no number, on the CPU once the device has come to it.
        arrived: what the device signals then; None on a CPU.
        step: steps done before it.
        losses: of this rank's clips.
        norm: of the gradient.
        ids: of this rank's clips.
    """

    verdict: Tensor
    arrived: "torch.cuda.Event | None"
    step: int
    losses: Tensor
    norm: Tensor
    ids: tuple[str, ...]


class FiniteWatch:
    """Judges steps without waiting for the device.

    A verdict is for the optimiser, which leaves everything as it is after a step that is no number, and after
    all that follow it. This process hears of it one step later on a device, at once on a CPU, and stops.

    Args:
        engine: whose ranks judge together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._verdict: Tensor | None = None
        self._last: Judged | None = None

    def judge(self, losses: Tensor, norm: Tensor, ids: Sequence[str], step: int) -> Tensor:
        """Whether the optimiser must stay where it is: a flag on the device, the same on all ranks.

        Raises:
            NonFinite: an earlier step was no number; on a CPU, this one too.
        """
        bad = self._engine.any(((losses.sum() + norm) * 0).isnan())
        self._verdict = bad if self._verdict is None else self._verdict | bad
        self.require()
        copied = self._verdict.to("cpu", non_blocking=self._verdict.is_cuda)
        arrived = None
        if self._verdict.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._last = Judged(copied, arrived, step, losses, norm, tuple(ids))
        if not self._engine.runs_ahead:
            self.require()
        return self._verdict

    def require(self) -> None:
        """Wait for the last verdict, if it is still on its way. Raises NonFinite."""
        last, self._last = self._last, None
        if last is None:
            return
        if last.arrived is not None:
            last.arrived.synchronize()
        if not last.verdict.numpy():  # which lies on the CPU by now
            return
        found = zip(last.ids, last.losses.tolist(), strict=True)
        bad = self._engine.said_of_clips([name for name, loss in found if not math.isfinite(loss)])
        blame = (
            f"clips with a non-finite loss: {', '.join(bad)}"
            if bad
            else "every loss is finite, the gradient is not"
        )
        batch = ", ".join(self._engine.said_of_clips(last.ids))
        raise NonFinite(
            f"non-finite loss or gradient at step {last.step + 1} (gradient norm {float(last.norm)}); "
            f"{blame}; clips of the batch: {batch}. The weights are those of step {last.step}; "
            "lower the learning rate, or look at these clips, and start again from the last checkpoint."
        )
