"""The templates for clusters are well formed and agree with themselves."""

import os
import stat
import subprocess
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
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(0, 0, False), (2, 0, False), (3, 9, True), (4, 0, False), (5, 0, True), (137, 2, True), (1, 3, False)],
)
def test_the_job_is_queued_again_where_the_same_command_goes_on(tmp_path: Path, status, restarts, again):
    """Under tools that stand in for Slurm's: the script's own words are run."""
    (tmp_path / "vdit").mkdir()
    tool(tmp_path, "srun", f'echo "srun $*"; exit {status}')
    tool(tmp_path, "scontrol", 'if [ "$1" = show ]; then echo node7; echo node8; else echo "scontrol $*"; fi')
    job = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_RESTART_COUNT": str(restarts)}
    environment = {**os.environ, **job, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(SBATCH), "--config", "c.yaml"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == status
    assert not done.stderr
    assert ".venv/bin/python train.py --config c.yaml" in done.stdout
    assert ("scontrol requeue 123456" in done.stdout) == again


def test_the_script_of_slurm_is_a_script():
    assert subprocess.run(["bash", "-n", str(SBATCH)], capture_output=True, text=True).stderr == ""


def test_the_manifest_of_kubernetes_agrees_with_itself():
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    name, nodes = job["metadata"]["name"], job["spec"]["completions"]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    words = [word.removeprefix("--").partition("=") for word in container["command"]]
    options = {key: value for key, _, value in words}
    assert (service["kind"], job["kind"], job["spec"]["completionMode"]) == ("Service", "Job", "Indexed")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["parallelism"] == nodes == int(options["nnodes"])
    assert options["rdzv-endpoint"].partition(":")[0] == f"{name}-0.{service['metadata']['name']}"
    assert int(options["nproc-per-node"]) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert pod["restartPolicy"] == "OnFailure"  # the container of an index starts again, and goes on
    assert job["spec"]["backoffLimit"] > 0
    [patience] = [v["value"] for v in container["env"] if v["name"] == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    assert int(patience) < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert options["out"].startswith(mounts["shared"])


def test_the_hostfile_is_one_that_deepspeed_reads():
    runner = pytest.importorskip("deepspeed.launcher.runner", reason="DeepSpeed is not installed")
    assert dict(runner.fetch_hostfile(str(LAUNCH / "hostfile"))) == {"node0": 8, "node1": 8}
