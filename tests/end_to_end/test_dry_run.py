"""A rehearsal does everything but the steps, and leaves no trace but what is cached."""

import shutil
from pathlib import Path

import pytest

from vdit.commands import train


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_new_run_is_rehearsed_without_its_folder(flow_config: Path, command, tmp_path: Path):
    status, said = command(train.main, "--config", flow_config, "--out", tmp_path / "run", "--dry-run")
    assert status == 0
    assert "dry run: the first batch of this process is 4 clips of latents 4x3x4x4" in said
    assert "all is ready for step 1" in said
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_is_rehearsed_from_its_checkpoint(
    flow_config: Path, flow_run: Path, command, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(flow_run, run)
    shutil.rmtree(run / "checkpoints/step_00000040")
    before = files(run)
    status, said = command(train.main, "--config", flow_config, "--out", run, "--dry-run")
    assert status == 0, said
    assert "after step 38" in said
    assert "all is ready for step 39" in said
    assert files(run) == before


def test_what_is_wrong_is_told(flow_config: Path, flow_run: Path, command, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(flow_run, run)
    shutil.rmtree(run / "checkpoints/step_00000040")
    with (run / "checkpoints/step_00000038/optimizer.safetensors").open("ab") as file:
        file.write(b"more")
    status, said = command(train.main, "--config", flow_config, "--out", run, "--dry-run")
    assert status == 2
    assert "optimizer.safetensors is damaged" in said


def test_a_folder_that_the_run_would_refuse_is_refused(
    flow_config: Path, flow_run: Path, command, tmp_path: Path
):
    before = files(flow_run)
    options = ("--out", flow_run, "--optim.lr", "0.5", "--dry-run")
    status, said = command(train.main, "--config", flow_config, *options)
    assert (status, "is the folder of another configuration" in said) == (2, True), said
    assert files(flow_run) == before
    status, said = command(train.main, "--config", flow_config, "--out", flow_run.parent, "--dry-run")
    assert (status, "holds no run" in said) == (2, True), said
    status, said = command(train.main, "--config", flow_config, "--out", flow_config / "run", "--dry-run")
    assert (status, "run could not be written to" in said) == (2, True), said


@pytest.mark.slow
def test_several_processes_meet(flow_config: Path, begin, finish, tmp_path: Path):
    said = finish(begin(flow_config, tmp_path / "run", "--parallel.devices", "2", "--dry-run"))
    assert "the first batch of this process is 2 clips" in said
    assert not (tmp_path / "run").exists()
