from pathlib import Path

import pytest
from ranks import run_ranks

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")

import zero_work


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_stages_do_what_one_process_does(world: int, tmp_path: Path):
    run_ranks(zero_work.agree, world, tmp_path)


def test_one_stage_goes_on_from_another(tmp_path: Path):
    run_ranks(zero_work.go_on, 2, tmp_path)


@pytest.mark.slow
def test_states_on_the_cpu_and_half_precision(tmp_path: Path):
    run_ranks(zero_work.apart, 2, tmp_path)


def test_averages_take_the_place_of_weights_and_leave_it(tmp_path: Path):
    run_ranks(zero_work.swap, 2, tmp_path)


def test_gradients_that_are_not_exchanged_are_noticed(tmp_path: Path):
    run_ranks(zero_work.unsynchronised, 2, tmp_path)
