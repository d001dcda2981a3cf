"""Runs of several processes, any of which dies at any moment, end as if none had."""

import os
import random
import signal
import time
from pathlib import Path
from subprocess import Popen
from threading import Timer

import pytest
from likeness import losses
from test_resume import final_weights, last_step

from vdit.train.checkpoint import Checkpoints

ALONE = ("--optim.muon", "null")
LEAVES = 60.0
"""Seconds after which a process whose peer was killed has ended by itself."""


def processes(started: Popen[str]) -> list[int]:
    """A process of train.py and those it started, rank by rank."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    return [started.pid, *map(int, children.read_text().split())]


def kill_one(begin, config: Path, run: Path, options: tuple[str, ...], rng: random.Random) -> bool:
    """Begin or go on, kill one process at a random moment, and see that all leave; whether it met a run."""
    started = begin(config, run, *options)
    wanted, in_a_save = last_step(run) + rng.choice((1, 2, 5)), rng.random() < 0.5
    while started.poll() is None and last_step(run) < wanted:
        time.sleep(0.005)
    if in_a_save:
        while started.poll() is None and not list(run.glob("checkpoints/.writing*")):
            time.sleep(0.0005)
    else:
        time.sleep(rng.uniform(0, 0.06))
    there = processes(started) if started.poll() is None else []
    if there:
        os.kill(rng.choice(there), signal.SIGKILL)
    started.communicate(timeout=LEAVES)
    until = time.monotonic() + LEAVES
    while any(Path(f"/proc/{pid}").exists() for pid in there) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in there), "a process outlives its peers"
    for checkpoint in Checkpoints(run / "checkpoints", keep=9).all():
        checkpoint.verify()
    return bool(there)


WAYS = {
    "ddp": ("--parallel.devices", "2"),
    "zero2": ("--parallel.devices", "2", "--parallel.strategy", "zero2", *ALONE),
    "zero3, shared clips": (
        *("--parallel.devices", "2", "--parallel.strategy", "zero3", "--parallel.sequence", "2"),
        *ALONE,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_whose_processes_are_killed_ends_with_the_weights_of_one_left_alone(
    flow_config, begin, finish, tmp_path: Path, way: str
):
    if "zero" in way:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    options, rng, met = WAYS[way], random.Random(way), 0
    finish(begin(flow_config, tmp_path / "whole", *options))
    run = tmp_path / "killed"
    for _ in range(10):
        met += kill_one(begin, flow_config, run, options, rng)
    finish(begin(flow_config, run, *options))
    assert met >= 5
    assert final_weights(run) == final_weights(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "zero3, shared clips"])
def test_no_process_outlives_one_killed_before_they_have_met(flow_config, begin, tmp_path: Path, way: str):
    if "zero" in way:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    for waits in (False, True):
        started = begin(flow_config, tmp_path / "run", *WAYS[way])
        while len(processes(started)) < 2:
            time.sleep(0.05)
        if waits:  # the other process, where they meet, for the first one, which does not come
            os.kill(started.pid, signal.SIGSTOP)
            too_long = Timer(LEAVES, started.kill)
            too_long.start()
            assert any("GLOBAL_RANK: 1" in line for line in started.stdout)
            too_long.cancel()
        os.kill(started.pid, signal.SIGKILL)
        said = started.communicate(timeout=LEAVES)[0]  # until the other process has closed it too
        assert "ended before all had met" in said


@pytest.mark.slow
def test_a_run_goes_on_with_more_and_with_fewer_processes(
    flow_config, flow_run, begin, finish, tmp_path: Path
):
    """On 2, on 4, then on 1: the same clips, noise and rates, so the same losses."""
    run = tmp_path / "run"
    for devices, until in ((2, 12), (4, 26)):
        process = begin(flow_config, run, "--parallel.devices", str(devices))
        while process.poll() is None and last_step(run) < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        finish(process, status=3)
        assert until <= last_step(run) < 40
    said = finish(begin(flow_config, run))
    assert "continuing" in said
    assert losses(run) == pytest.approx(losses(flow_run), rel=1e-4)
