from math import factorial
from pathlib import Path

import pytest
import torch
from torch import nn

from vdit.parallel.weights import WholeWeights
from vdit.train.ema import EMA
from vdit.types import InputError
from vdit.weights.files import save_tensors
from vdit.weights.source import open_weights


def module() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_a_jump_of_the_weights_is_forgotten_at_the_rate_of_the_closed_form():
    linear = module()
    ema, start = EMA(WholeWeights(linear), decay=0.999), linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.add_(1.0)
    for step in range(20):
        ema.update(step)
        n = step + 1  # prod_k (1 + k) / (10 + k)
        left = factorial(n) * factorial(9) / factorial(n + 9)
        torch.testing.assert_close(ema.average["weight"], start + 1 - left)


def test_once_warm_the_average_decays_geometrically():
    linear = module()
    ema, start = EMA(WholeWeights(linear), decay=0.5), linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.add_(1.0)
    for step in range(8, 18):  # (1 + 8) / (10 + 8) = 0.5: warm from here
        ema.update(step)
    torch.testing.assert_close(ema.average["weight"], start + 1 - 0.5**10)


def test_moving_weights_are_weighed_by_the_decay():
    linear, weights = module(), [torch.randn(2, 3) for _ in range(6)]
    ema = EMA(WholeWeights(linear), decay=0.4)
    expected = linear.weight.detach().clone()
    for step, weight in enumerate(weights):
        with torch.no_grad():
            linear.weight.copy_(weight)
        ema.update(step)
        decay = min(0.4, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(ema.average["weight"], expected)


def test_updates_in_intervals_weigh_as_much_as_the_steps_between():
    linear, weight = module(), torch.ones(2, 3)
    ema, start = EMA(WholeWeights(linear), decay=0.5, every=4), linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.copy_(weight)
    for step in range(8, 11):
        ema.update(step)
        assert torch.equal(ema.average["weight"], start)
    ema.update(11)
    torch.testing.assert_close(ema.average["weight"], weight + 0.5**4 * (start - weight))


def test_decay_zero_follows_exactly():
    linear = module()
    ema = EMA(WholeWeights(linear), decay=0.0)
    with torch.no_grad():
        linear.weight.normal_()
    ema.update(0)
    assert torch.equal(ema.average["weight"], linear.weight)


def test_applied_swaps_and_brings_back_bit_for_bit_even_after_an_error():
    linear = module()
    ema, live = EMA(WholeWeights(linear), decay=0.9), linear.weight.detach().clone() * 3
    average = ema.average["weight"].clone()
    with torch.no_grad():
        linear.weight.copy_(live)

    def use_and_fail() -> None:
        with ema.applied():
            assert torch.equal(linear.weight, average)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        use_and_fail()
    assert torch.equal(linear.weight, live)
    assert torch.equal(ema.average["weight"], average)


def test_half_precision_weights_are_averaged_in_float32():
    linear = module().bfloat16()
    ema = EMA(WholeWeights(linear), decay=0.999)
    start = linear.weight.float().clone()
    with torch.no_grad():
        linear.weight.mul_(1.5)
    for step in range(10_000, 10_010):  # warm: each step moves by a thousandth, less than bfloat16 can hold
        ema.update(step)
    moved = (ema.average["weight"] - start) / (linear.weight.float() - start)
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - 0.999**10), atol=1e-4, rtol=1e-2)


def test_frozen_weights_are_left_out():
    linear = module()
    linear.bias.requires_grad_(False)
    assert EMA(WholeWeights(linear), decay=0.9).average.keys() == {"weight"}


def test_load_puts_an_average_back(tmp_path: Path):
    ema = EMA(WholeWeights(module()), decay=0.9)
    saved = {name: torch.randn_like(value) for name, value in ema.average.items()}
    save_tensors(saved, tmp_path / "all.safetensors")
    ema.load(open_weights(tmp_path / "all.safetensors"))
    assert all(torch.equal(ema.average[name], saved[name]) for name in saved)
    save_tensors({"weight": saved["weight"]}, tmp_path / "some.safetensors")
    with pytest.raises(KeyError):
        ema.load(open_weights(tmp_path / "some.safetensors"))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_outside_their_range_are_refused(decay: float):
    with pytest.raises(InputError, match=rf"ema decay {decay} must lie in \[0, 1\)"):
        EMA(WholeWeights(module()), decay)
