"""The same train.py under every launcher, on one machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vdit.train.checkpoint import Checkpoints
from vdit.weights.files import read_tensors

ROOT = Path(__file__).parents[2]
PYTHON = [sys.executable]
TORCHRUN = [*PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DEEPSPEED = [*PYTHON, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
SRUN = {
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "MASTER_ADDR": "127.0.0.1",
}


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("", 0))
        return str(server.getsockname()[1])


def start(command: list[str], config: Path, run: Path, *options: str, **variables: str):
    words = [*command, "train.py", "--config", str(config), "--out", str(run), *options]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu", **variables}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def assert_same(run: Path, other: Path) -> None:
    ours, theirs = (
        read_tensors(next(each.glob("checkpoints/*40/model.safetensors"))) for each in (run, other)
    )
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_torchrun(flow_run: Path, flow_config: Path, finish, tmp_path: Path):
    """Tokens are shared by as many processes as torchrun starts: the configuration counts none."""
    said = finish(start(TORCHRUN, flow_config, tmp_path / "run", "--parallel.sequence", "2"))
    assert "2 processes on one node, started by torchrun; 2 share each clip" in said
    assert_same(tmp_path / "run", flow_run)


@pytest.mark.slow
def test_other_counts_than_torchrun_started(flow_config: Path, finish, tmp_path: Path):
    said = finish(start(TORCHRUN, flow_config, tmp_path / "run", "--parallel.devices", "4"), status=1)
    assert "error: parallel.devices is 4, but torchrun started 2 processes on each of 1 nodes" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_launcher_of_deepspeed(flow_run: Path, flow_config: Path, finish, tmp_path: Path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    said = finish(start([*DEEPSPEED, "--master_port", free_port()], flow_config, tmp_path / "run"))
    assert "2 processes on one node, started by the deepspeed launcher" in said
    assert_same(tmp_path / "run", flow_run)


@pytest.mark.slow
def test_tasks_with_the_variables_of_srun(flow_run: Path, flow_config: Path, finish, tmp_path: Path):
    port = free_port()
    first, second = (
        start(
            PYTHON, flow_config, tmp_path / "run", **SRUN, MASTER_PORT=port, SLURM_PROCID=n, SLURM_LOCALID=n
        )
        for n in ("0", "1")
    )
    assert "2 processes on one node, started by srun" in finish(first)
    finish(second)
    assert_same(tmp_path / "run", flow_run)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_saves_and_leaves_with_3(
    flow_run: Path, flow_config: Path, finish, tmp_path: Path
):
    """The others leave with 0: a status of theirs would have Fabric kill the first one while it saves."""
    run = tmp_path / "run"
    process = start(PYTHON, flow_config, run, "--parallel.devices", "2")
    while Checkpoints(run / "checkpoints", keep=1).latest() is None and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    said = finish(process, status=3)
    kept = Checkpoints(run / "checkpoints", keep=1).latest()
    assert kept is not None
    assert kept.step < 40
    assert f"stopped by SIGTERM after step {kept.step}" in said
    finish(start(PYTHON, flow_config, run, "--parallel.devices", "2"))
    assert_same(run, flow_run)


def test_a_job_of_slurm_that_is_stopped_by_hand_is_not_queued_again(
    codec_config: Path, finish, tmp_path: Path
):
    """Its script knows by what the run says; srun is one task here."""
    (tmp_path / "vdit/.venv/bin").mkdir(parents=True)
    (tmp_path / "vdit/train.py").symlink_to(ROOT / "train.py")
    python = f'exec "{sys.executable}" "$@"'
    tools = {"srun": 'exec "${@:4}"', "scontrol": 'echo "scontrol $1 node0"', "vdit/.venv/bin/python": python}
    for name, script in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    run = tmp_path / "run"
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node0", "HOME": str(tmp_path)}
    script = ["bash", str(ROOT / "configs/launch/slurm.sbatch")]
    process = subprocess.Popen(
        [*script, "--config", str(codec_config), "--out", str(run), "--loop.steps", "100000"],
        env={**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while Checkpoints(run / "checkpoints", keep=1).latest() is None and process.poll() is None:
        time.sleep(0.05)
    (run / "stop").touch()
    said = finish(process, status=3)
    assert "stopped by hand and saved: not queued again" in said
    assert "scontrol requeue" not in said
