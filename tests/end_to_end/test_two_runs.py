"""Two commands in one folder at once."""

import time
from pathlib import Path

from vdit.commands.train import main as train
from vdit.train.checkpoint import Checkpoints


def test_a_second_command_in_the_same_folder_is_refused_and_the_first_goes_on(
    codec_config: Path, begin, finish, command, tmp_path: Path
):
    run = tmp_path / "run"
    options = ["--loop.steps", "100000", "--loop.keep", "100000"]  # a rehearsal reads what stands there
    first = begin(codec_config, run, *options)
    while Checkpoints(run / "checkpoints", keep=1).latest() is None and first.poll() is None:
        time.sleep(0.02)
    status, said = command(train, "--config", codec_config, "--out", run, *options)
    assert status == 2
    assert f"run is in use: process {first.pid} on " in said
    status, said = command(train, "--config", codec_config, "--out", run, *options, "--dry-run")
    assert status == 0, said
    (run / "stop").touch()
    finish(first, status=3)
    for checkpoint in Checkpoints(run / "checkpoints", keep=9).all():
        checkpoint.verify()
    assert not (run / "lock").exists()
