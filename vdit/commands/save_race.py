"""What a save costs training: of a state of some size, waited for and in the background."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from vdit.eval.overhead import Overhead
from vdit.parallel.engine import Engine, Parallel
from vdit.train.checkpoint import Checkpoints
from vdit.train.ema import EMA
from vdit.train.state import TrainState

__all__ = ["SaveRace"]

WIDTH = 1024
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
        stepper.module(torch.ones(1, WIDTH, device=engine.device)).sum().backward()
        optimizer.step()
        self.device = engine.device
        self.state = TrainState(module, stepper, EMA(stepper.weights, 0.9), {})
        self.size = COPIES * 4 * sum(p.numel() for p in module.parameters())

    def run(self, pairs: int, progress: Callable[[int, int], None]) -> tuple[Overhead, Overhead]:
        """Seconds that training waits, and seconds until a checkpoint is whole: in the background, and not.

        One of each comes before, untimed: the first copy has to get its memory.
        """
        ways = [Checkpoints(self.folder / f"{b}", keep=1, background=b) for b in (True, False)]
        waited: list[list[float]] = [[], []]
        whole: list[list[float]] = [[], []]
        for pair in range(pairs + 1):
            for way in (0, 1) if pair % 2 else (1, 0):
                blocked, total = self._save(ways[way])
                if pair:
                    waited[way].append(blocked)
                    whole[way].append(total)
            progress(pair, pairs)
        shutil.rmtree(self.folder)
        return Overhead(tuple(waited[0]), tuple(waited[1])), Overhead(tuple(whole[0]), tuple(whole[1]))

    def _save(self, checkpoints: Checkpoints) -> tuple[float, float]:
        self.state.step += 1
        self._finish()
        started = time.perf_counter()
        checkpoints.save(self.state)
        self._finish()  # on a device, what is told it next comes after the copies
        blocked = time.perf_counter() - started
        checkpoints.wait()
        return blocked, time.perf_counter() - started

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
