"""What a save costs training, in the background and waited for, beside real steps."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vdit.eval.overhead import Overhead
from vdit.parallel.engine import Engine, Parallel
from vdit.train.checkpoint import Checkpoints
from vdit.train.ema import EMA
from vdit.train.state import TrainState

__all__ = ["SaveRace", "SaveTimes"]

WIDTH = 1024
ROWS = 64
"""Of a batch: few beside the tokens of a video, so that a copy has little time to hide in."""

COPIES = 4
"""Weights, their average and two moments, all in float32."""


class SaveRace:
    """Saves of one state, each way in turns.

    Args:
        folder: where checkpoints go; it is removed at the end.
        size: bytes of a checkpoint, about.
        accelerator: where the state is, as `parallel.accelerator` names it.
    """

    def __init__(self, folder: Path, size: int, accelerator: str) -> None:
        self.folder = folder
        engine = Engine(Parallel(accelerator=accelerator))  # pyright: ignore[reportArgumentType]
        depth = max(1, size // (COPIES * 4 * WIDTH * WIDTH))
        module = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(depth)))
        optimizer = torch.optim.AdamW(module.parameters(), fused=True)
        stepper = engine.setup(module, optimizer, limit=1.0)
        self.device = engine.device
        self.stay = torch.tensor(False, device=engine.device)
        self.batch = torch.randn(ROWS, WIDTH, device=engine.device)
        self.state = TrainState(module, stepper, EMA(stepper.weights, 0.9), {})
        self._gradients()
        self._update()  # moments begin with the first
        self.size = COPIES * 4 * sum(p.numel() for p in module.parameters())

    def run(self, pairs: int, progress: Callable[[int, int], None]) -> "SaveTimes":
        """Save in turns, in the background and not, and take a step after each.

        One of each comes before, untimed: the first copy has to get its memory.
        """
        ways = [Checkpoints(self.folder / f"{b}", keep=1, background=b) for b in (True, False)]
        times: list[list[list[float]]] = [[[], []] for _ in range(3)]
        for pair in range(pairs + 1):
            for way in (0, 1) if pair % 2 else (1, 0):
                for kind, seconds in enumerate(self._save(ways[way])):
                    times[kind][way].append(seconds)
            progress(pair, pairs)
        shutil.rmtree(self.folder)
        return SaveTimes(*(Overhead(tuple(full[1:]), tuple(bare[1:])) for full, bare in times))

    def _save(self, checkpoints: Checkpoints) -> tuple[float, float, float]:
        """Seconds that training is held up, of the step after it, and until the checkpoint is whole."""
        self.state.step += 1
        started = self._now()
        checkpoints.save(self.state)
        saved = self._now()
        self._gradients()
        computed = self._now()
        checkpoints.settle()
        settled = self._now()
        self._update()
        stepped = self._now()
        checkpoints.wait()
        held = (saved - started) + (settled - computed)
        return held, (stepped - settled) + (computed - saved), self._now() - started

    def _gradients(self) -> None:
        self.state.stepper.backward(self.state.stepper.module(self.batch).square().mean())

    def _update(self) -> None:
        self.state.stepper.update(self.state.stepper.gradient_norm(), self.stay)
        self.state.ema.update(self.state.step)

    def _now(self) -> float:
        """When the device has done what it was told; copies on a stream of their own go on."""
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class SaveTimes:
    """Seconds of saves in the background (`full`) and of those that are waited for (`bare`).

    Attributes:
        held: training is held up: by the call, and before the next update until the copy is whole.
        step: the step after it takes, without that.
        whole: from the call to the end.
    """

    held: Overhead
    step: Overhead
    whole: Overhead
