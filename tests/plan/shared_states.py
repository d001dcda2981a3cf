"""What ranks that share states or tokens hold in tests, beside what a plan says they will."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from small_runs import live_bytes, traced
from torch import Tensor, nn

from vdit.models.wan.dit import WanDiT
from vdit.parallel.engine import Parallel
from vdit.parallel.sequence import SequenceGroup, spread_tokens
from vdit.parallel.zero import REDUCE_BUCKET, ZeroStepper
from vdit.plan.rehearsal import rehearse
from vdit.plan.states import states_of
from vdit.train.ema import EMA
from vdit.train.optim import Optim, build_optimizer
from vdit.train.step import StepOutput
from vdit.types import DenoiserInput, Tokens

STATES, KEPT = 0.03, 0.01


def model() -> nn.Module:
    """Some of its matrices are above the size that stage 3 keeps whole."""
    sizes = {"width": 384, "hidden": 1024, "heads": 4, "depth": 2, "sigma_channels": 16}
    return WanDiT(latent_channels=4, text_width=16, text_length=9, **sizes)


def loss_of(module: nn.Module, given: Any) -> StepOutput:
    x, sigma, words, mask = given
    out = module(DenoiserInput(x, sigma, text=Tokens(words, mask)))
    return StepOutput((out.float() - x).square().flatten(1).mean(1))


def inputs(rows: int, device: str = "cpu") -> tuple[Tensor, ...]:
    x = torch.ones(1, 4, 3, rows, rows, device=device)
    words = torch.ones(1, 8, 16, device=device)
    return x, x.new_full((1, 1, 1, 1), 0.5), words, torch.ones(1, 8, dtype=torch.bool, device=device)


def held(stage: int, offload: bool, half: bool, accumulate: int) -> tuple[int, int]:
    """Bytes at the end of a backward at most, and apart from them those of buckets of gradients."""
    before = live_bytes()
    torch.manual_seed(0)
    module = model()
    stepper = ZeroStepper(module, build_optimizer(module, Optim()), stage, 1.0, offload, half)
    average, found, buckets = EMA(stepper.weights, 0.9), 0, 0
    for step in range(2):
        for micro in range(accumulate):
            with stepper.accumulating(micro < accumulate - 1):
                stepper.backward(loss_of(stepper.module, inputs(8)).loss.mean() / accumulate)
            if step == 0:  # before there are states
                continue
            every = live_bytes() - before
            buckets = every // REDUCE_BUCKET * REDUCE_BUCKET
            found = max(found, every - buckets)
        stepper.update(stepper.gradient_norm(), torch.tensor(False))
        average.update(step)
    return found, buckets


CASES = [
    (1, False, False, 1),
    (1, False, False, 2),
    (2, False, True, 1),
    (2, True, False, 1),
    (3, False, False, 1),
    (3, False, True, 1),
    (3, True, False, 1),
]
"""Stage, offload, half precision, micro-batches."""


def states(rank: int, world: int) -> None:
    """Every stage, with states apart, in half precision, over several micro-batches."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    defaults = DeepSpeedZeroConfig()
    assert defaults.param_persistence_threshold == 100_000
    assert defaults.max_reuse_distance // 2 + defaults.prefetch_bucket_size == 550_000_000
    for stage, offload, half, accumulate in CASES:
        found, buckets = held(stage, offload, half, accumulate)
        with torch.device("meta"):
            module = model()
        parallel = Parallel(
            "cpu",
            world,
            strategy=f"zero{stage}",  # pyright: ignore
            offload=offload,
            precision="bf16-mixed" if half else "32-true",
        )
        plan = states_of(module, parallel, accumulate, 0)
        forecast = plan.lasting + plan.gradients + plan.host
        permanent = (4 + 2 * half) * REDUCE_BUCKET * (stage == 3)
        assert buckets == permanent, f"buckets of {buckets}"
        forecast -= permanent
        said = f"zero{stage}, offload {offload}, half {half}, accumulate {accumulate}: {forecast / found:.4f}"
        if rank == 0:
            print(said, flush=True)
        assert abs(forecast - found) <= STATES * found, said


def copies(rank: int, world: int) -> None:
    """With a copy of the weights on every rank there are buckets as large as the gradients."""
    module = model()
    with torch.device("meta"):
        plan = states_of(model(), Parallel("cpu", world), 1, 0)
    # Weights are alike already: sending them would leave memory that a thread frees some time later.
    wrapped, found = traced(lambda: nn.parallel.DistributedDataParallel(module, init_sync=False))
    given = inputs(8)
    for _ in range(2):
        module.zero_grad()
        _, more = traced(lambda: loss_of(wrapped, given).loss.mean().backward())
    said = f"buckets {plan.buffers / found.now:.4f}, gradients {plan.gradients / more.now:.4f}"
    if rank == 0:
        print(said, flush=True)
    assert abs(plan.buffers - found.now) <= STATES * found.now, said
    assert abs(plan.gradients - more.now) <= STATES * more.now, said


def saved(work: Callable[[], StepOutput], lasting: Iterable[Tensor]) -> int:
    """Bytes that a forward pass leaves for the backward, without what lasts.

    The allocator's own record would not do here: what ranks exchange is let go of by a thread of gloo, now
    and then, and what threads of that kind free is not in it.
    """
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = work()  # whose graph keeps all that was noted alive, so that no address is taken twice
    note(out.loss)
    without = {tensor.untyped_storage().data_ptr() for tensor in lasting}
    return sum(size for address, size in storages.items() if address not in without)


def kept(rank: int, world: int) -> None:
    """What a rank keeps that has a part of the tokens."""
    torch.manual_seed(0)
    module = model()
    spread_tokens(module, SequenceGroup(dist.group.WORLD, rank, world))
    given = inputs(32)
    loss_of(module, given)  # what is made once
    found = saved(lambda: loss_of(module, given), [*module.parameters(), *module.buffers(), *given])
    with torch.device("meta"):
        module = model()
    spread_tokens(module, SequenceGroup(None, rank, world))
    planned = rehearse(
        module, inputs(32, "meta"), loss_of, lambda m: build_optimizer(m, Optim()), False, False
    )
    said = f"tokens shared by {world}: {planned.kept / found:.4f}"
    if rank == 0:
        print(said, flush=True)
    assert abs(planned.kept - found) <= KEPT * found, said
