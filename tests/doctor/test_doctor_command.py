"""The command, as a user of a cluster starts it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machine import pretend

from configs import videos, write_config
from vdit.commands.command import run_command
from vdit.commands.doctor import main as doctor

ROOT = Path(__file__).parents[2]


def started(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([environment.pop("FIRST", ""), str(ROOT)]).strip(os.pathsep)
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "COLUMNS": "400"}
    extensions = {"TORCH_EXTENSIONS_DIR": str(cwd / "extensions")}
    whole = {**os.environ, **own, **extensions, **environment}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=whole, capture_output=True, text=True, timeout=120
    )


def states(text: str, name: str) -> set[str]:
    """What the lines of a check begin with."""
    return {line.split()[0] for line in text.splitlines() if line[9:].startswith(f"{name} ")}


def test_one_machine_and_a_run(tmp_path: Path):
    done = started("-m", "vdit", "doctor", "--config", str(write_config(tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("python", "torch", "lightning", "build locks", "disk", "task", "clips", "held-out clips"):
        assert states(done.stdout, name) == {"ok"}, name
    assert states(done.stdout, "processes") == {"skipped"}
    assert "-> torchrun --nproc-per-node 2 -m vdit doctor" in done.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml"]  # nothing was written


def test_two_processes_that_torchrun_started(tmp_path: Path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = (*torchrun, "-m", "vdit", "doctor", "--config", str(write_config(tmp_path)), "--timeout", "30")
    done = started(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("disk", "clips", "processes", "ring", "bandwidth", "clock", "shared folder"):
        assert states(done.stdout, name) == {"ok"}, name
    assert done.stdout.count("shared folder") == 1  # one process speaks
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml"]


def test_faults_end_in_status_1_and_malware_is_never_run(tmp_path: Path):
    site, ran = tmp_path / "site", tmp_path / "stolen"
    pretend(site, "lightning", "2.6.3")
    (site / "lightning").mkdir()
    (site / "lightning" / "__init__.py").write_text(f"open({str(ran)!r}, 'w')\n")
    lock = tmp_path / "extensions" / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 7200,) * 2)
    listing = tmp_path / "list.csv"
    listing.write_text("video,caption\nnowhere.mp4,a\n")
    config = write_config(tmp_path, videos(listing))
    done = started("-m", "vdit", "doctor", "--config", str(config), cwd=tmp_path, FIRST=str(site))
    assert done.returncode == 1, done.stderr
    assert "lightning 2.6.3 is malware" in done.stdout
    assert f"-> rm {lock}" in done.stdout
    assert states(done.stdout, "clips") == {"wrong"}
    assert "nowhere.mp4: there is no such file" in done.stdout
    assert not ran.exists()


def test_help_lists_it_and_loads_nothing(tmp_path: Path):
    listed = started("-X", "importtime", "-m", "vdit", "--help", cwd=tmp_path)
    assert "doctor" in listed.stdout
    told = started("-X", "importtime", "-m", "vdit", "doctor", "--help", cwd=tmp_path)
    assert "--timeout" in told.stdout
    assert "rich" not in listed.stderr
    assert " torch\n" not in listed.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--timeout", "0"], "--timeout 0 must be above 0 seconds"),
        (["--loop.steps", "3"], "--loop.steps 3 changes a configuration: give one with --config"),
        (["--config", "none.yaml"], "configuration none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(options: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(doctor, options) == 2
    assert says in capsys.readouterr().err


def test_the_command_line_wins_over_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    config = write_config(tmp_path)
    assert doctor(["--config", str(config), "--data.train.init_args.clips", "7"]) == 0
    assert "7 clips of 5 frames of 32x32" in capsys.readouterr().out
