"""What is between the processes of a job, by real processes and planted faults."""

import os
import time
from pathlib import Path

import job_work
import pytest
import torch
from machine import run_job

from configs import videos, write_config
from vdit.doctor.hosts import Card, Roll, check_hosts
from vdit.parallel.peers import Unreachable, started_peers
from vdit.parallel.ring import _turns
from vdit.sample.video_file import write_video
from vdit.types import InputError


def test_a_job_that_is_well(tmp_path: Path):
    run_job(job_work.well, 2, tmp_path)


def test_other_software_another_time_and_another_folder_are_noticed(tmp_path: Path):
    run_job(job_work.apart, 2, tmp_path)


def test_a_link_that_alters_what_it_carries_is_named():
    run_job(job_work.altered, 2)


def test_a_link_that_loses_what_it_carries_is_named():
    run_job(job_work.dropped, 2)


def test_a_process_that_falls_silent_is_named_in_time():
    run_job(job_work.silent, 2)


def test_a_call_that_never_comes_back_is_given_up():
    run_job(job_work.hung, 2)


def test_a_process_that_never_comes_is_named():
    run_job(job_work.absent, 2)


def test_every_machine_is_checked_and_what_is_wrong_there_is_told(tmp_path: Path):
    for rank in range(2):
        own = tmp_path / str(rank)
        own.mkdir()
        rows = ["video,caption"]
        for i in range(3):
            rows.append(f"{i}.mp4,a")
            if (rank, i) != (1, 1):
                write_video(own / f"{i}.mp4", torch.rand(3, 6, 32, 32) * 2 - 1, fps=8)
        (own / "list.csv").write_text("\n".join(rows))
        write_config(own, videos(own / "list.csv"), out=str(tmp_path / "run"))
    lock = tmp_path / "1" / "extensions" / "fused_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 95 * 60,) * 2)
    run_job(job_work.examined, 2, tmp_path)


def test_processes_without_a_gpu_of_their_own_are_noticed():
    cards = (Card("a", 0, "nccl", ("x 1",)), Card("b", 0, "gloo", ("x 1",)))
    [found] = check_hosts(Roll(cards), 1)
    assert (found.state, Roll(cards).backend) == ("wrong", "gloo")
    assert found.sentence == "some processes have no GPU of their own: nccl on a; gloo on b"
    assert Roll(cards[:1]).backend == "nccl"


@pytest.mark.parametrize("world", range(2, 12))
def test_every_link_has_its_turn_and_no_process_two_at_once(world: int):
    turns = _turns(world)
    assert sorted(link for turn in turns for link in turn) == list(range(world))
    for turn in turns:
        ends = [end for link in turn for end in (link, (link + 1) % world)]
        assert len(ends) == len(set(ends))


def test_who_is_not_started_by_torchrun_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert started_peers(1) is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"WORLD_SIZE is 2, but .*: start with torchrun"):
        started_peers(1)


def test_a_meeting_point_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unreachable, match=r"rank 1 cannot reach the meeting point of the job at 127.0.0.1:1"):
        started_peers(1)
