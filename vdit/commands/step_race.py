"""Steps of the training loop beside the bare arithmetic of the same steps.

The loop goes on throughout; after some of its steps the bare ones are taken and timed by a hook. So neither
what a session does once nor how it starts is timed, and the average of the weights keeps its pace.

Random latents stand for clips and random tokens for a text model, so nothing needs to be trained before.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vdit.conditions.caption import Caption
from vdit.config import Run
from vdit.data.loader import BatchLoader
from vdit.data.mixture import usual_format
from vdit.data.order import ClipOrder
from vdit.data.stack import LatentClip, stack
from vdit.denoiser import Denoiser
from vdit.eval.overhead import Overhead
from vdit.parallel.engine import Engine
from vdit.text.cache import CachedText
from vdit.text.encoder import TextEncoder, pad
from vdit.train.checkpoint import Checkpoints
from vdit.train.ema import EMA
from vdit.train.flow_task import FlowTask
from vdit.train.hooks.hook import Hook
from vdit.train.loop import fit
from vdit.train.optim import build_optimizer
from vdit.train.state import StepRecord, TrainState, step_draws
from vdit.train.step import FlowStep
from vdit.types import InputError, Tokens

__all__ = ["StepRace"]

CLIPS = 256
TEXT_TOKENS = 16
STRIDES = (4, 8, 8)
"""Pixel frames, rows and columns a latent, of the codecs this project trains and imports."""

TURN = 10
"""Steps timed together on a GPU, at least: the host runs ahead of it as in training, and the wait for it at
the end weighs little. On a CPU it is one: what else the machine does then falls on both ways alike."""


class RandomText(TextEncoder):
    """Draws the tokens of a prompt instead of computing them."""

    def __init__(self, width: int) -> None:
        self._width = width

    @property
    def width(self) -> int:
        return self._width

    @property
    def fingerprint(self) -> str:
        return f"random {self._width}"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        return pad([torch.randn(TEXT_TOKENS, self._width) for _ in prompts])


class RandomClips:
    """Latents of unit variance, drawn once."""

    def __init__(self, size: tuple[int, int, int, int], fps: float) -> None:
        self._clips = [LatentClip(f"random-{i}", torch.randn(size), f"prompt {i}", fps) for i in range(CLIPS)]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> LatentClip:
        return self._clips[index]


class StepRace:
    """Both ways of doing optimiser steps, on the same module and the same optimiser state.

    Use it in a `with` block: it ends the loader's threads.

    Attributes:
        pair: steps of each way that are compared, as many as the average of the weights needs to be as often
            in all pairs.
        turn: steps of one way in a row.

    Args:
        run: a text-to-video run; of its text encoder, codec and clips nothing is used but their sizes.

    Raises:
        InputError: the run trains something else.
    """

    def __init__(self, run: Run) -> None:
        if not isinstance(run.task, FlowTask):
            raise InputError(
                f"this configuration trains a {run.task.title}: give that of a text-to-video run"
            )
        backbone, clip = run.task.denoiser.backbone, usual_format(run.data.train)
        t, h, w = STRIDES
        size = (1 + (clip.frames - 1) // t, clip.height // h, clip.width // w)
        clips = RandomClips((backbone.latent_channels, *size), clip.fps)
        self.denoiser = Denoiser(backbone, [Caption(CachedText(RandomText(backbone.text_width)))])
        self.loop = replace(run.loop, accumulate=1, save_every=0)
        self.optim, self.seed = run.optim, run.seed
        self.engine = Engine(run.parallel)
        ahead, every = self.engine.runs_ahead, run.loop.averages_every
        self.pair = every * -(-TURN // every) if ahead else every
        self.turn = self.pair if ahead else 1
        self.optimizer = build_optimizer(self.denoiser, run.optim)
        self.engine.arrange(self.denoiser)
        stepper = self.engine.setup(self.denoiser, self.optimizer, run.optim.clip_norm)
        order = ClipOrder(len(clips), run.seed, run.loop.batch)
        self.batches = BatchLoader(clips, order, workers=run.data.workers)
        self.objective = run.task.objective
        self.step = FlowStep(self.denoiser, self.objective)
        self.checkpoints = Checkpoints(Path(), keep=1, writes=False)
        average = EMA(stepper.weights, run.loop.ema, every)
        self.state = TrainState(self.denoiser, stepper, average, self.batches.state_dict())
        batch = stack([clips[i % len(clips)] for i in range(run.loop.batch)]).to(self.engine.device)
        assert batch.latents is not None  # RandomClips gives nothing else
        draws = step_draws(self.seed, 0, self.engine.mesh, self.engine.device)
        self.signals = self.denoiser.signals(batch)
        self.at = self.objective.draw(batch.latents, draws)

    def __enter__(self) -> "StepRace":
        return self

    def __exit__(self, *_: object) -> None:
        self.batches.close()

    def run(
        self,
        pairs: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Overhead:
        """Take `pair` steps each way, `pairs` times, after one turn each way that is not timed.

        Those of the loop are as `fit` takes them: data, noise, forward, backward, checks, clipping,
        optimiser, average.
        """
        self.bare(self.turn)
        turns = _Turns(self, pairs, progress, clock)
        loop = replace(self.loop, steps=self.state.step + self.turn + self.pair * pairs)
        stopped = fit(
            self.state,
            self.step,
            self.batches,
            self.engine,
            self.checkpoints,
            (turns,),
            loop,
            self.optim,
            self.seed,
        )
        if stopped:
            raise KeyboardInterrupt(stopped)
        return turns.overhead()

    def bare(self, steps: int = 1) -> None:
        """Forward, backward and optimiser on a batch that is there, without any wrapper."""
        fused: Any = self.optimizer
        fused.grad_scale = fused.found_inf = None  # left by the loop, and clipping is its own
        for _ in range(steps):
            velocity = self.denoiser(self.at.x, self.at.sigma, self.signals)
            self.objective.loss(velocity, self.at).mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.finish()

    def finish(self) -> None:
        """Wait for the device."""
        if self.engine.device.type == "cuda":
            torch.cuda.synchronize()

    def __str__(self) -> str:
        weights = sum(p.numel() for p in self.denoiser.parameters()) / 1e6
        latents = "x".join(map(str, self.at.x.shape))
        device = self.engine.device
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        return f"{weights:.2f} M weights, latents {latents}, {device}{threads}"


class _Turns(Hook):
    """Times turns of a loop that goes on, and turns of its bare steps between them.

    Which of a pair comes first alternates: loop, bare, bare, loop, and so on.
    """

    def __init__(
        self, race: StepRace, pairs: int, progress: Callable[[int, int], None], clock: Callable[[], float]
    ) -> None:
        self._race, self._progress, self._clock = race, progress, clock
        self._pairs, self._together = pairs, race.pair // race.turn  # turns of each way make one pair
        self._since: float | None = None
        self.full: list[float] = []
        self.bare: list[float] = []

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        if state.step % self._race.turn:
            return
        self._race.finish()
        ended = self._clock()
        if self._since is not None:  # the first warms up
            self.full.append(ended - self._since)
            if len(self.full) % 2:
                for _ in range(min(2, self._pairs * self._together - len(self.bare))):
                    self._take_bare()
            if len(self.full) % self._together == 0:
                self._progress(len(self.full) // self._together, self._pairs)
        self._since = self._clock()

    def overhead(self) -> Overhead:
        """What was timed, pair by pair."""
        return Overhead(self._by_pairs(self.full), self._by_pairs(self.bare))

    def _by_pairs(self, turns: Sequence[float]) -> tuple[float, ...]:
        firsts = range(0, len(turns), self._together)
        return tuple(sum(turns[first : first + self._together]) for first in firsts)

    def _take_bare(self) -> None:
        since = self._clock()
        self._race.bare(self._race.turn)
        self.bare.append(self._clock() - since)
