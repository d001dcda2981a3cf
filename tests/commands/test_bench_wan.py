"""The Wan transformer beside that of diffusers: equal, and with less kept; and what taking one in costs."""

import dataclasses
import re

import pytest
import torch

from vdit.commands.bench import main as bench
from vdit.commands.wan_race import SIZES, WanRace
from vdit.commands.wan_speed import SHAPES
from vdit.types import InputError


@pytest.fixture(scope="module")
def race() -> WanRace:
    pytest.importorskip("diffusers")
    return WanRace(dataclasses.replace(SIZES["tiny"], depth=2))


def test_all_ways_compute_the_same(race: WanRace):
    expected = race.forward_theirs(race.theirs)()
    torch.testing.assert_close(race.forward_theirs(race.tuned)(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(race.forward_ours(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(race.training_ours(), race.training_theirs(), atol=1e-6, rtol=1e-3)
    clip = race.sampling_theirs(race.theirs, False)()
    torch.testing.assert_close(race.sampling_theirs(race.tuned, True)(), clip, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(race.sampling_ours(), clip, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", sorted(SIZES))
def test_the_backward_pass_needs_1_7_times_less_memory(size: str):
    """A count, not a time: the allocator's own account of what a forward leaves."""
    pytest.importorskip("diffusers")
    theirs, ours = WanRace(SIZES[size]).saved_bytes()
    assert theirs >= 1.7 * ours


def test_what_differs_is_not_timed(race: WanRace):
    spoilt = race.ours.patch_out.bias
    with torch.no_grad():
        spoilt.add_(0.1)
    try:
        with pytest.raises(RuntimeError, match=r"forward differs by .*: no use in timing it"):
            race.run(2, lambda done, total: None)
    finally:
        with torch.no_grad():
            spoilt.sub_(0.1)


def test_arithmetic_is_counted_as_it_is_published():
    assert SHAPES["1.3b"].tokens == 32_760
    assert SHAPES["14b-stack"].tokens == 37_440
    assert SHAPES["1.3b"].flops == pytest.approx(849e12, rel=0.01)  # three times 283 TFLOP, 512 text tokens


def test_speed_is_measured_on_any_device(capsys: pytest.CaptureFixture[str]):
    assert bench(["speed", "--shape", "tiny", "--steps", "2", "--device", "cpu"]) == 0
    assert re.search(r"[\d.]+ s a step .*, [\d.]+ TFLOP/s, [\d.]+% of 989", capsys.readouterr().out)
    with pytest.raises(InputError, match="--steps is 0"):
        bench(["speed", "--shape", "tiny", "--steps", "0"])


@pytest.mark.slow
def test_memory_of_taking_in_is_measured(capsys: pytest.CaptureFixture[str]):
    assert bench(["import", "--gib", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"taking in: [\d.]+ GiB resident at most, [\d.]+ of the model", printed)
    assert re.search(r"opening: [\d.]+ GiB", printed)
    with pytest.raises(InputError, match="--gib is 0"):
        bench(["import", "--gib", "0"])
