"""The memory that a plan forecasts is the memory that training takes."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import Measured, asked, measured, small_run
from torch import Tensor, nn

from vdit.plan.plan import Memory, plan_run

STATES, KEPT, MOST = 0.02, 0.05, 0.05
"""How far a forecast may be off."""


def near(forecast: float, true: float, share: float) -> bool:
    return abs(forecast - true) <= share * true


def told(name: str, memory: Memory, found: Measured) -> str:
    """Forecasts over what was measured."""
    states, kept = memory.states.lasting + memory.states.gradients, memory.activations + memory.cast
    return (
        f"{name}: states {states / found.states:.4f}, kept {kept / found.kept:.4f}, "
        f"most {(memory.most - memory.states.lasting) / found.most:.4f}"
    )


def compare(name: str, memory: Memory, found: Measured) -> None:
    said = told(name, memory, found)
    print(said)
    assert near(memory.states.lasting + memory.states.gradients, found.states, STATES), said
    assert near(memory.activations + memory.cast, found.kept, KEPT), said
    assert near(memory.most - memory.states.lasting, found.most, MOST), said


QUICK = {("native", "none", "32-true"), ("wan", "selective", "bf16-mixed")}
CASES = list(product(("native", "wan"), ("none", "selective", "full"), ("32-true", "bf16-mixed")))


@pytest.mark.parametrize(
    ("family", "recompute", "precision"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in CASES],
)
def test_forecasts_are_near_what_a_step_takes(tmp_path: Path, family: str, recompute: str, precision: str):
    options = ("--parallel.recompute", recompute, "--parallel.precision", precision)
    parsed = small_run(tmp_path, family, *options)
    [bucket] = plan_run(parsed, asked()).buckets
    compare(f"{family}, recompute {recompute}, {precision}", bucket.memory, measured(parsed))


@pytest.mark.parametrize("family", ["native", "wan"])
def test_a_plan_for_a_gpu_computes_norms_again_as_they_were(tmp_path: Path, family: str):
    """Autocast has them in float32 there, also in a backward pass."""
    options = ("--parallel.accelerator", "cuda", "--parallel.precision", "bf16-mixed")
    all_kept, some, none = (
        plan_run(small_run(tmp_path, family, *options, "--parallel.recompute", what), asked()).largest.memory
        for what in ("none", "selective", "full")
    )
    assert none.activations < some.activations < all_kept.activations / 2


@pytest.mark.slow
def test_forecasts_for_an_adapter_are_near(tmp_path: Path):
    pytest.importorskip("peft", reason="peft is not installed")
    parsed = small_run(tmp_path, "wan", "--parallel.precision", "bf16-mixed", adapter={"rank": 4})
    plan = plan_run(parsed, asked())
    assert plan.trained < 0.1 * plan.weights
    compare("an adapter of wan", plan.largest.memory, measured(parsed))


def test_forecasts_for_muon_are_near(tmp_path: Path):
    muon = '{"names": ["*.blocks.*.mlp.*", "*.blocks.*attention.to_*"]}'
    parsed = small_run(tmp_path, "native", "--optim.muon", muon, "--parallel.recompute", "full")
    compare("muon", plan_run(parsed, asked()).largest.memory, measured(parsed))


class _Keeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x * 1)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def keep_more(module: nn.Module) -> None:
    """A fault: every block keeps one more tensor of the size of its tokens."""
    for block in module.get_submodule("backbone.blocks").children():
        block.register_forward_pre_hook(lambda _, args: (_Keeps.apply(args[0]), *args[1:]))


def test_a_model_that_keeps_more_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parsed = small_run(tmp_path, "wan", "--parallel.recompute", "selective")
    honest = plan_run(parsed, asked()).largest.memory
    found = measured(parsed, keep_more)
    assert not near(honest.activations, found.kept, 0.10), told("the fault", honest, found)

    import vdit.plan.plan as planning

    arranged = planning._arranged

    def faulty(module: nn.Module, parallel: Any) -> Any:
        seen = arranged(module, parallel)
        keep_more(module)
        return seen

    monkeypatch.setattr(planning, "_arranged", faulty)
    compare("the fault, planned", plan_run(parsed, asked()).largest.memory, found)


def test_accumulating_holds_all_gradients_beside_the_activations(tmp_path: Path):
    once = plan_run(small_run(tmp_path, "wan"), asked()).largest.memory
    twice = plan_run(small_run(tmp_path, "wan", "--loop.accumulate", "2"), asked()).largest.memory
    assert once.most < twice.most <= once.most + once.states.gradients
