"""The templates for clusters are well formed and agree with themselves."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "configs/launch"
SBATCH = LAUNCH / "slurm.sbatch"


def settings() -> dict[str, str]:
    """What `#SBATCH` lines ask for."""
    asked = [line.split()[1] for line in SBATCH.read_text().splitlines() if line.startswith("#SBATCH ")]
    return {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in asked)}


def test_every_task_of_slurm_has_a_gpu_and_hears_the_signal():
    asked = settings()
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert asked["signal"].startswith("TERM@")  # without B: it goes to the tasks
    assert "requeue" in asked
    first = SBATCH.read_text().splitlines()
    last_asked = max(number for number, line in enumerate(first) if line.startswith("#SBATCH "))
    assert all(
        line.startswith("#") for line in first[: last_asked + 1]
    )  # Slurm reads no further than commands


def tool(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


SRUN = f"""#!{sys.executable}
import os, sys
from argparse import REMAINDER, ArgumentParser

parser = ArgumentParser(allow_abbrev=False)
parser.add_argument("--kill-on-bad-exit", type=int, default=0)
parser.add_argument("--wait", type=float, default=0)
parser.add_argument("--cpus-per-task")
parser.add_argument("command", nargs=REMAINDER)
options = parser.parse_args()
print("srun", *options.command, os.environ["SAID"], sep="\\n", flush=True)
tasks = [[float(number) for number in task.split(":")] for task in os.environ["TASKS"].split()]
if options.kill_on_bad_exit:
    killed, by = min((end for end, status in tasks if status), default=float("inf")), 15
else:
    killed, by = min(end for end, _ in tasks) + (options.wait or float("inf")), 9
sys.exit(int(max(128 + by if end > killed else status for end, status in tasks)))
"""
"""srun as its manual has it, of tasks that end after some seconds with a status (`TASKS`, "end:status" each).

A bad status ends the other tasks at once, or the first end does after a wait. Its own status is the highest.
"""


@pytest.fixture
def queue(tmp_path: Path) -> Callable[..., tuple[int, bool]]:
    """Runs the script of a job under stand-ins for Slurm's tools: its status, and whether it begins again."""
    (tmp_path / "vdit").mkdir()
    tool(tmp_path, "srun", SRUN)
    tool(
        tmp_path,
        "scontrol",
        '#!/bin/bash\nif [ "$1" = show ]; then echo node7; echo node8; else echo "scontrol $*"; fi\n',
    )

    def start(*tasks: str, said: str = "", restarts: int = 0, complains: bool = False):
        job = {
            "SLURM_JOB_ID": "123456",
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        stand_ins = {
            "HOME": str(tmp_path),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", str(SBATCH), "--config", "c.yaml"],
            env={**os.environ, **job, **stand_ins, "TASKS": " ".join(tasks), "SAID": said},
            capture_output=True,
            text=True,
        )
        assert bool(done.stderr) == complains
        assert done.stdout.startswith("srun\n.venv/bin/python\ntrain.py\n--config\nc.yaml\n")
        assert not list(tmp_path.glob("tmp.*"))
        return done.returncode, "scontrol requeue 123456" in done.stdout

    return start


@pytest.mark.parametrize(
    ("tasks", "status", "again"),
    [
        (("0:0", "5:0"), 0, False),
        (("0:2", "2:2"), 2, False),
        (("0:3", "2:3"), 3, True),
        (("0:4", "2:4"), 4, False),
        (("0:5", "9:5"), 5, True),
        (("0:1", "9:5"), 5, True),
        (("0:1", "inf:0"), 137, True),
    ],
)
def test_the_job_is_queued_again_where_the_same_command_goes_on(queue, tasks, status, again):
    """Tasks leave one after the other, and their status is that of the job, unless one crashed alone."""
    assert queue(*tasks) == (status, again)


def test_a_run_that_is_stopped_by_hand_is_not_queued_again(queue):
    assert queue("0:3", "1:3", said="stopped by the file stop after step 12; the same command goes on") == (
        3,
        False,
    )
    assert queue("0:3", "1:3", said="stopped by SIGTERM after step 12; the same command goes on") == (3, True)


def test_crashes_are_counted_in_a_row_and_starts_are_not(queue):
    """Time limits between them, after which Slurm's count of starts goes on."""
    statuses = [1, 137, 3, 3, 3, 3, 3, 1, 5, 1, 1]
    again = [queue(f"0:{status}", restarts=n) for n, status in enumerate(statuses)]
    assert again == [*((status, True) for status in statuses[:-1]), (1, False)]


def test_a_crash_that_cannot_be_counted_is_the_last(queue, tmp_path: Path):
    (tmp_path / "vdit/vdit-123456.crashes").mkdir()
    assert queue("0:1", complains=True) == (1, False)


def test_the_script_of_slurm_is_a_script():
    assert subprocess.run(["bash", "-n", str(SBATCH)], capture_output=True, text=True).stderr == ""


def test_the_manifest_of_kubernetes_agrees_with_itself():
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    name, nodes = job["metadata"]["name"], job["spec"]["completions"]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (service["kind"], job["kind"], job["spec"]["completionMode"]) == ("Service", "Job", "Indexed")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["parallelism"] == nodes
    assert job["spec"]["podReplacementPolicy"] == "Failed"  # never two pods of one number
    assert pod["restartPolicy"] == "OnFailure"  # the container of an index starts again, and goes on
    assert job["spec"]["backoffLimit"] >= 10 * nodes  # a failure restarts all containers, and each counts
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert int(values["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    shared = f"{mounts['shared']}/"
    assert container["workingDir"].startswith(shared)  # what is written by relative paths outlives the pod
    assert values["HF_HOME"].startswith(shared)


def test_the_command_of_kubernetes_is_one_that_torchrun_reads():
    """`$(NODE)` is replaced as Kubernetes does it, which knows the variables of `env` alone."""
    from torch.distributed.run import config_from_args, parse_args

    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert [entry["name"] for entry in container["env"] if "valueFrom" in entry] == ["NODE"]
    torchrun, *words = [word.replace("$(NODE)", "1") for word in container["command"]]
    config, _, script = config_from_args(parse_args(words))
    assert torchrun == "torchrun"
    assert (config.min_nodes, config.max_nodes) == (job["spec"]["completions"],) * 2
    assert config.nproc_per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert (config.rdzv_backend, config.rdzv_configs["rank"]) == ("static", 1)
    assert config.rdzv_endpoint == f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
    assert "train.py" in script


def test_the_hostfile_is_one_that_deepspeed_reads():
    runner = pytest.importorskip("deepspeed.launcher.runner", reason="DeepSpeed is not installed")
    assert dict(runner.fetch_hostfile(str(LAUNCH / "hostfile"))) == {"node0": 8, "node1": 8}
