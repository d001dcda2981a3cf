"""Small runs to plan and to measure: a native and a Wan-shaped model on random latents."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from run_files import world, write_run
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from vdit.config import Parsed, build_codec, build_part, parse_run
from vdit.draws import Draws
from vdit.parallel.engine import Engine
from vdit.plan.clips import ClipShape
from vdit.plan.plan import Asked
from vdit.train.ema import EMA
from vdit.train.optim import Optim, build_optimizer
from vdit.train.step import FlowStep
from vdit.types import ClipBatch

CODEC = Path(__file__).parents[2] / "configs/codec/native_4x8x8.yaml"
WORDS = 20
SHAPE, GRID = ClipShape(9, 160, 160), (3, 20, 20)
NATIVE = ("native.dit.NativeDiT", {"width": 192, "depth": 3, "heads": 4, "patch": [1, 2, 2]})
WAN = ("wan.dit.WanDiT", {"width": 256, "hidden": 768, "depth": 3, "heads": 4, "text_length": 32})
FAMILIES = {"native": NATIVE, "wan": WAN}


def asked(shape: ClipShape = SHAPE) -> Asked:
    with torch.device("meta"):
        return Asked([shape], WORDS, build_codec(CODEC))


def small_run(folder: Path, family: str, *options: str, **task: Any) -> Parsed:
    """A run of a few megabytes, whose clips and codec need not be there."""
    name, sizes = FAMILIES[family]
    backbone = {
        "class_path": f"vdit.models.{name}",
        "init_args": {"latent_channels": 32, "text_width": 8, **sizes},
    }
    source = world(8, 9, 160, 160)
    arguments = {
        "backbone": backbone,
        "codec": str(folder / "absent"),
        "text": {"class_path": "letter_text.LetterText"},
        "cache": str(folder / "cache"),
        **task,
    }
    file = write_run(
        folder / "run.yaml",
        {"class_path": "vdit.train.flow_task.FlowTask", "init_args": arguments},
        {"train": source, "held_out": source},
        folder / "out",
        loop={"steps": 10, "batch": 2},
    )
    return parse_run(["--config", str(file), *options], "")


@dataclass(frozen=True)
class Measured:
    """Bytes that were really held.

    Attributes:
        kept: between forward and backward.
        most: at most in a whole step, what lasts left out.
        states: weights, gradients, states of the optimiser and the average, at the end of a backward.
    """

    kept: int
    most: int
    states: int


class _Traced(NamedTuple):
    now: int
    most: int


CONVOLUTIONS = ("aten::convolution", "aten::convolution_backward")


def traced(work: Callable[[], Any]) -> tuple[Any, _Traced]:
    """What work gives, and what it allocated, by the allocator itself.

    What a convolution takes for itself while it computes is left out of the most: it differs between CPUs.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = work()
    kineto = profiler.profiler
    assert kineto is not None
    found = sorted(kineto.kineto_results.events(), key=lambda event: event.start_ns())
    inside = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in found if e.name() in CONVOLUTIONS]
    now = most = 0
    for event in found:
        if event.name() == "[memory]":
            before, now = now, now + event.nbytes()
            if not any(start <= event.start_ns() <= end for start, end in inside):
                most = max(most, before, now)
    return out, _Traced(now, max(most, now))


def live_bytes() -> int:
    """Bytes of all storages that Python can reach."""
    gc.collect()
    found: dict[int, int] = {}
    for thing in gc.get_objects():
        # By type: some lazy modules warn when they are asked for their class.
        if issubclass(type(thing), Tensor) and thing.device.type == "cpu":
            for value in (thing, thing.grad if thing.is_leaf else None):
                if value is not None:
                    found[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()
    return sum(found.values())


class Trial:
    """Real training steps of a run, by the parts that training has.

    Args:
        parsed: the run.
        change: done to the module before it is set up.
        grid: latent frames, rows and columns of the two clips of a step.
    """

    def __init__(
        self,
        parsed: Parsed,
        change: Callable[[nn.Module], None] | None = None,
        grid: tuple[int, int, int] = GRID,
    ) -> None:
        parallel, optim = build_part(parsed, "parallel"), Optim(**vars(parsed.values.optim))
        torch.manual_seed(0)
        task, engine = build_part(parsed, "task"), Engine(parallel)
        engine.arrange(task.module)
        if change is not None:
            change(task.module)
        self.device, self.grid = engine.device, grid
        self.stepper = engine.setup(task.module, build_optimizer(task.module, optim), optim.clip_norm)
        self.average = EMA(self.stepper.weights, 0.9)
        self.step = FlowStep(task.denoiser, task.objective)
        task.text.prepare(["x" * (WORDS - 1), ""])

    def forward(self) -> Tensor:
        """The loss of two clips."""
        captions = ("x" * (WORDS - 1),) * 2
        given = ClipBatch(("a", "b"), captions, torch.full((2,), 8.0), latents=torch.randn(2, 32, *self.grid))
        return self.step(self.stepper.module, given.to(self.device), Draws(0), 0).loss.mean()

    def backward(self) -> None:
        """A forward pass and its backward pass."""
        self.stepper.backward(self.forward())

    def update(self) -> None:
        """What follows the backward pass."""
        self.stepper.update(self.stepper.gradient_norm(), torch.tensor(False, device=self.device))
        self.average.update(0)


def measured(parsed: Parsed, change: Callable[[nn.Module], None] | None = None) -> Measured:
    """The third step of a run on a CPU."""
    before = live_bytes()
    trial = Trial(parsed, change)
    states = 0
    for _ in range(2):
        trial.backward()
        states = live_bytes() - before
        trial.update()
    loss, kept = traced(trial.forward)
    del loss

    def whole() -> None:
        trial.backward()
        trial.update()

    _, step_bytes = traced(whole)
    return Measured(kept.now, step_bytes.most, states)
