"""The plan of a run: every step it can have, rehearsed, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vdit.codecs.codec import VideoCodec
from vdit.config import Parsed, build_part
from vdit.parallel.blocks import recompute_blocks, transformers_of
from vdit.parallel.engine import Parallel
from vdit.parallel.sequence import SequenceGroup, spread_tokens
from vdit.parallel.zero import require_parts
from vdit.plan.clips import ClipShape, shapes_of
from vdit.plan.rehearsal import Rehearsal, rehearse
from vdit.plan.scenes import Scene, scene_of, shapes_in_steps
from vdit.plan.states import States, states_of
from vdit.train.loop import Loop
from vdit.train.optim import Optim, build_optimizer
from vdit.train.task import Task
from vdit.types import InputError

__all__ = ["Asked", "Bucket", "Disk", "Memory", "Plan", "plan_run"]


@dataclass(frozen=True)
class Asked:
    """What is told of a run besides its configuration.

    Attributes:
        clips: shapes of clips in place of those of the data, which then need not be there.
        text: tokens of a caption; None takes the most that the text encoder gives.
        codec: on `meta`, in place of the one that the configuration names.
    """

    clips: Sequence[ClipShape] = ()
    text: int | None = None
    codec: VideoCodec | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes of one process where they are most.

    Attributes:
        states: what is held from step to step.
        activations: what is kept between forward and backward, without `cast`.
        cast: copies of weights in bfloat16 that are kept as long.
        most: all of it at the moment at which it is most.
    """

    states: States
    activations: int
    cast: int
    most: int

    @property
    def rest(self) -> int:
        """Inputs and passing results at that moment; below 0 where other parts are not all there by then."""
        held = self.states.lasting + self.states.gradients + self.states.passing
        return self.most - held - self.activations - self.cast


@dataclass(frozen=True)
class Bucket:
    """Steps of one shape of clips.

    Attributes:
        shape: of the clips.
        grid: their latent frames, rows and columns.
        tokens: of a clip; 0 where there is no transformer.
        text: tokens of its caption.
        clips: of a micro-batch of one process; processes that share a clip have it together.
        step_clips: of a step, over all processes.
        forward: operations of a step, over all processes.
        backward: likewise, without those that are computed again.
        again: likewise, those that are.
        model: operations that count for the model: three times the forward, or twice for an adapter.
        memory: of a process.
    """

    shape: ClipShape
    grid: tuple[int, int, int]
    tokens: int
    text: int
    clips: int
    step_clips: int
    forward: int
    backward: int
    again: int
    model: int
    memory: Memory

    def seconds(self, peak: float, mfu: float, gpus: int) -> float:
        """Of a step, at a share `mfu` of `peak` operations a second of each GPU."""
        return self.model / (peak * mfu * gpus)


@dataclass(frozen=True)
class Disk:
    """What a run writes.

    Attributes:
        checkpoint: bytes of one.
        written: how many in the run.
        kept: how many stay.
    """

    checkpoint: int
    written: int
    kept: int


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        title: what is trained, in a word.
        weights: how many numbers.
        trained: of these, those that training changes.
        parallel: devices and precision.
        loop: how long.
        buckets: one for each shape of clips.
        disk: checkpoints.
    """

    title: str
    weights: int
    trained: int
    parallel: Parallel
    loop: Loop
    buckets: tuple[Bucket, ...]
    disk: Disk

    @property
    def gpus(self) -> int:
        """Processes of the run, one a device."""
        return self.parallel.devices * self.parallel.nodes

    @property
    def largest(self) -> Bucket:
        """The bucket that needs most memory."""
        return max(self.buckets, key=lambda bucket: bucket.memory.most)

    def seconds(self, peak: float, mfu: float) -> float:
        """Of a step on average, over buckets by their shares."""
        shares = sum(bucket.shape.share for bucket in self.buckets)
        each = (b.shape.share * b.seconds(peak, mfu, self.gpus) for b in self.buckets)
        return sum(each) / shares


def plan_run(parsed: Parsed, asked: Asked) -> Plan:
    """Plan a run. Its models are built in shapes alone, and nothing is computed.

    Raises:
        InputError: what a run of this configuration would be refused for, or files that a plan needs.
    """
    parallel, loop = build_part(parsed, "parallel"), build_part(parsed, "loop")
    groups = parallel.require_groups()
    if loop.batch % groups:
        raise InputError(
            f"loop.batch is {loop.batch} clips, which {groups} {_who(parallel)} cannot share evenly: "
            f"use a multiple of {groups}"
        )
    task = _task(parsed)
    shapes = list(asked.clips) or shapes_of(build_part(parsed, "data"))
    buckets = [
        _bucket(parsed, asked, parallel, loop, shape, loop.batch // groups, cuts)
        for shape, cuts in shapes_in_steps(task, shapes)
    ]
    module = scene_of(task, asked.codec, shapes_in_steps(task, shapes)[0][0], 1, asked.text).module
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    own = [value for name, value in module.state_dict().items() if name not in task.borrowed]
    checkpoint = sum(v.numel() * v.element_size() for v in own) + 4 * trained + buckets[0][1].states
    return Plan(
        task.title,
        sum(p.numel() for p in module.parameters()),
        trained,
        parallel,
        loop,
        tuple(bucket for bucket, _ in buckets),
        Disk(checkpoint, loop.saves, loop.kept),
    )


def _who(parallel: Parallel) -> str:
    return "GPUs" if parallel.sequence == 1 else f"groups of {parallel.sequence} GPUs"


def _task(parsed: Parsed) -> Task:
    with torch.device("meta"):
        return build_part(parsed, "task")


def _bucket(
    parsed: Parsed, asked: Asked, parallel: Parallel, loop: Loop, shape: ClipShape, clips: int, cuts: int
) -> tuple[Bucket, Rehearsal]:
    optim: Optim = build_part(parsed, "optim")
    task = _task(parsed)
    scene = scene_of(task, asked.codec, shape, clips * cuts, asked.text)
    module, seen = scene.module, _arranged(scene.module, parallel)
    optimizer = build_optimizer(module, optim)
    if parallel.strategy.startswith("zero"):
        transformers_of(module, f"parallel.strategy {parallel.strategy}")
        require_parts(optimizer)
    found = _rehearsed(scene, optim, parallel)
    states = states_of(module, parallel, loop.accumulate, found.states)
    many = parallel.devices * parallel.nodes * loop.accumulate
    bucket = Bucket(
        shape,
        scene.grid,
        seen[0] if seen else 0,
        scene.text,
        clips * cuts,
        loop.batch * cuts * loop.accumulate,
        many * found.forward,
        many * found.backward,
        many * found.again,
        many * found.forward * (2 if task.borrowed else 3),  # weights that are frozen have no gradients
        Memory(states, found.kept - found.cast, found.cast, _most(states, found, parallel, loop.accumulate)),
    )
    return bucket, found


def _arranged(module: nn.Module, parallel: Parallel) -> list[int]:
    """As `Engine.arrange` does it, with ranks that are not there; where tokens of a forward will be noted."""
    if parallel.sequence > 1:
        spread_tokens(module, SequenceGroup(None, 0, parallel.sequence))
    if parallel.recompute != "none":
        recompute_blocks(module, parallel.recompute)
    seen: list[int] = []

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].shape[1])

    try:
        first = transformers_of(module, "tokens")[0].blocks[0]
    except InputError:  # a codec has none
        return seen
    first.register_forward_pre_hook(note, prepend=True)
    return seen


def _rehearsed(scene: Scene, optim: Optim, parallel: Parallel) -> Rehearsal:
    half, elsewhere = parallel.precision == "bf16-mixed", parallel.accelerator != "cpu"
    return rehearse(
        scene.module,
        scene.inputs,
        scene.work,
        lambda module: build_optimizer(module, optim),
        half,
        norms_in_full=elsewhere,
        answer=scene.answer,
    )


def _most(states: States, found: Rehearsal, parallel: Parallel, accumulate: int) -> int:
    """Bytes at most, forward and backward or while the optimiser steps."""
    if parallel.strategy.startswith("zero"):
        during = found.most + states.gradients + states.passing
    elif accumulate > 1:  # gradients of the first micro-batch are there from the start of the second
        during = found.most + states.gradients
    else:
        during = found.most_with_gradients
    after = found.inputs + states.gradients + max(found.optimiser_most, states.updating)
    return states.lasting + max(during, after)
