"""What ranks that share optimiser states, gradients and weights do in tests: the same as one rank alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from sequence_work import drawn, native
from torch import Tensor, nn

from vdit.parallel.optimizer_state import joined, parted
from vdit.parallel.weights import WholeWeights
from vdit.parallel.zero import ZeroStepper
from vdit.train.ema import EMA
from vdit.train.optim import Optim, build_optimizer, set_learning_rate
from vdit.types import DenoiserInput, Tokens
from vdit.weights.files import save_tensors
from vdit.weights.slices import Slice
from vdit.weights.source import Entry, WeightSource, open_weights

CLIPS, LIMIT = 8, 0.5
OPTIM = Optim(lr=3e-3, clip_norm=LIMIT)


class Done(NamedTuple):
    """What some steps left: losses, norms, weights, their average, the state of the optimiser."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    state: dict[str, Any]


def model() -> nn.Module:
    torch.manual_seed(0)
    backbone = native(patch=(1, 2, 2))
    for value in backbone.parameters():
        nn.init.normal_(value, std=0.2)
    return backbone


def error(module: nn.Module, step: int, rows: Sequence[int]) -> Tensor:
    """The mean error over some clips of a step."""
    x = drawn(CLIPS, 4, 3, 4, 6, seed=2 * step).float()
    text = drawn(CLIPS, 5, 6, seed=2 * step + 1).float()
    sigma = torch.linspace(0.1, 0.9, CLIPS).view(CLIPS, 1, 1, 1)
    some = list(rows)
    told = Tokens(text[some], torch.ones(len(some), 5, dtype=torch.bool))
    out = module(DenoiserInput(x[some], sigma[some], text=told))
    return (out - x[some].roll(1, 1)).square().mean()


def require_full_inputs(module: nn.Module, arguments: tuple[DenoiserInput]) -> None:
    """Whatever the precision of products, the model is given float32."""
    given = arguments[0]
    assert given.sigma.dtype == given.latents.dtype == torch.float32


def alone(steps: Sequence[int]) -> Done:
    """AdamW in one process, in plain lines."""
    module = model()
    optimizer = build_optimizer(module, OPTIM)
    ema, losses, norms = EMA(WholeWeights(module), 0.9), [], []
    for step in steps:
        set_learning_rate(optimizer.param_groups, OPTIM.lr / (1 + step))
        loss = error(module, step, range(CLIPS))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(module.parameters(), LIMIT).item())
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
        losses.append(loss.item())
    weights = {name: p.detach().clone() for name, p in module.named_parameters()}
    return Done(losses, norms, weights, dict(ema.average), optimizer.state_dict())


def together(
    steps: Sequence[int],
    stage: int,
    accumulate: int,
    begin: Done | None = None,
    offload: bool = False,
    half: bool = False,
) -> Done:
    """The same steps by all ranks, from the start or from what others left."""
    module = model()
    if begin is not None:
        module.load_state_dict(begin.weights)
    module.register_forward_pre_hook(require_full_inputs)
    stepper = ZeroStepper(module, build_optimizer(module, OPTIM), stage, LIMIT, offload, half)
    ema, losses, norms = EMA(stepper.weights, 0.9), [], []
    if begin is not None:
        tensors, settings = parted(begin.state)
        with on_disk(begin.average) as source:
            ema.load(source)
        with on_disk(tensors) as source:
            stepper.load_optimizer_state(settings, source)
    own = CLIPS // dist.get_world_size()
    rows = range(dist.get_rank() * own, (dist.get_rank() + 1) * own)
    for step in steps:
        set_learning_rate(stepper.optimizer.param_groups, OPTIM.lr / (1 + step))
        total = torch.zeros(())
        for micro in range(accumulate):
            with stepper.accumulating(micro < accumulate - 1):
                loss = error(stepper.module, step, rows[micro::accumulate])
                stepper.backward(loss / accumulate)
            total += loss.detach() / accumulate
        norm = stepper.gradient_norm()
        stepper.update(norm, torch.tensor(False))
        ema.update(step)
        dist.all_reduce(total)
        losses.append(total.item() / dist.get_world_size())
        norms.append(norm.item())
    own, saved = stepper.weights, stepper.optimizer_state()
    weights = whole(own.entries(), own.slices(own.pieces()))
    state = joined(whole(saved.entries, saved.slices).items(), json.loads(json.dumps(saved.settings)))
    return Done(losses, norms, weights, whole(ema.entries(), ema.slices()), state)


@contextmanager
def on_disk(tensors: Mapping[str, Tensor]) -> Iterator[WeightSource]:
    """Whole tensors where a process may read of them what it holds."""
    with TemporaryDirectory() as folder:
        save_tensors(tensors, file := Path(folder) / "whole.safetensors")
        yield open_weights(file)


def whole(entries: Mapping[str, Entry], slices: Sequence[Slice]) -> dict[str, Tensor]:
    """Tensors as all would read them from what all ranks write: every value once."""
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, list(slices))
    found = {name: torch.zeros(entry.shape, dtype=entry.dtype) for name, entry in entries.items()}
    times = {name: torch.zeros(entry.shape).reshape(-1) for name, entry in entries.items()}
    for name, start, values in (part for parts in every for part in parts):
        found[name].reshape(-1)[start : start + values.numel()] = values
        times[name][start : start + values.numel()] += 1
    for name, count in times.items():
        assert bool((count == 1).all()), name
    return found


def compare(found: Done, expected: Done, said: str) -> None:
    assert len(found.losses) == len(expected.losses)
    for name in ("losses", "norms"):
        torch.testing.assert_close(
            torch.tensor(getattr(found, name)), torch.tensor(getattr(expected, name)), rtol=1e-5, atol=0,
            msg=lambda m, n=name: f"{said}, {n}: {m}",
        )  # fmt: skip
    for kind in ("weights", "average"):
        for name, value in getattr(expected, kind).items():
            other = getattr(found, kind)[name]
            torch.testing.assert_close(
                other, value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{said}, {n}: {m}"
            )
    assert found.state["param_groups"] == expected.state["param_groups"], said
    for number, moments in expected.state["state"].items():
        assert found.state["state"][number].keys() == moments.keys()
        for key, value in moments.items():
            torch.testing.assert_close(found.state["state"][number][key], value, rtol=1e-3, atol=1e-6)


def agree(rank: int, world: int) -> None:
    whole = alone(range(20))
    for stage in (1, 2, 3):
        for accumulate in (1, 2):
            compare(
                together(range(20), stage, accumulate),
                whole,
                f"zero{stage} x {world}, accumulate {accumulate}",
            )


def apart(rank: int, world: int) -> None:
    """States in the memory of the CPU are the same states; half precision is near."""
    whole = alone(range(20))
    for stage in (2, 3):
        begin = together(range(10), stage, 1, offload=True)
        rest = together(range(10, 20), stage, 1, begin, offload=True)
        both = rest._replace(losses=begin.losses + rest.losses, norms=begin.norms + rest.norms)
        compare(both, whole, f"zero{stage}, offload")
        lower = together(range(20), stage, 1, half=True)
        near = torch.tensor(lower.losses) - torch.tensor(whole.losses)
        assert 0 < near.abs().max() < 0.02 * whole.losses[0]
        assert {value.dtype for value in lower.weights.values()} == {torch.float32}


def go_on(rank: int, world: int) -> None:
    """Any stage, and one process, goes on from what another left."""
    whole, half = alone(range(20)), alone(range(10))
    for first, second in ((None, 1), (1, 2), (2, 3), (3, 1)):
        begin = half if first is None else together(range(10), first, 1)
        rest = together(range(10, 20), second, 1, begin)
        compare(
            rest, whole._replace(losses=whole.losses[10:], norms=whole.norms[10:]), f"{first} then {second}"
        )


def swap(rank: int, world: int) -> None:
    """Inside `applied` the module computes with the average; after it, with what training left."""
    for stage in (1, 2, 3):
        module = model()
        stepper = ZeroStepper(module, build_optimizer(module, OPTIM), stage, LIMIT, offload=False, half=False)
        ema = EMA(stepper.weights, 0.9)
        for step in range(3):
            stepper.backward(error(stepper.module, step, range(CLIPS)))
            stepper.update(stepper.gradient_norm(), torch.tensor(False))
            ema.update(step)
        by_hand = model()
        with torch.no_grad():
            before = error(stepper.module, 9, range(CLIPS))
            by_hand.load_state_dict(whole(ema.entries(), ema.slices()))
            with ema.applied():
                torch.testing.assert_close(
                    error(stepper.module, 9, range(CLIPS)), error(by_hand, 9, range(CLIPS))
                )
            assert torch.equal(error(stepper.module, 9, range(CLIPS)), before)


def unsynchronised(rank: int, world: int) -> None:
    """A planted fault: the reduction of gradients forgets the other ranks. The comparison must see it."""
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    expected = alone(range(3))
    compare(together(range(3), 2, 1), expected, "whole")
    DeepSpeedZeroOptimizer.average_tensor = lambda *args, **kwargs: None
    with pytest.raises(AssertionError, match="broken"):
        compare(together(range(3), 2, 1), expected, "broken")
