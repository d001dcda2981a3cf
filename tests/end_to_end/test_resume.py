"""A run that is killed again and again ends with the very weights of one that was left alone."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from vdit.codecs.folder import load_codec, save_codec
from vdit.commands.train import main as train
from vdit.eval.curves import read_rows
from vdit.train.checkpoint import Checkpoints
from vdit.train.run_folder import RunFolder


def last_step(run: Path) -> int:
    latest = Checkpoints(run / "checkpoints", keep=1).latest()
    return 0 if latest is None else latest.step


def final_weights(run: Path) -> dict[str, bytes]:
    """The files that a finished run is for, and its losses; no file of a run is left half written."""
    assert not list(run.rglob(".writing*"))
    latest = Checkpoints(run / "checkpoints", keep=1).latest()
    assert latest is not None
    latest.verify()
    files = {file.name: file.read_bytes() for file in (latest.weights, latest.average)}
    rows = [row for row in read_rows(RunFolder(run).metrics) if row["kind"] == "train"]
    files["losses"] = json.dumps([(row["step"], row["loss"], row["gradient_norm"]) for row in rows]).encode()
    if (run / "codec").is_dir():
        files |= {
            f"codec {file.name}": file.read_bytes()
            for file in (run / "codec").iterdir()
            if file.suffix != ".jsonl"
        }
    return files


def disturb(begin, config: Path, run: Path, kills: int, seed: int) -> int:
    """Kill a run at random moments after its first steps, `kills` times; how many kills met it alive."""
    rng, met = random.Random(seed), 0
    for _ in range(kills):
        process = begin(config, run)
        wanted = last_step(run) + rng.choice((1, 2, 5))
        while process.poll() is None and last_step(run) < wanted:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))
        process.kill()
        process.communicate()
        met += process.returncode == -signal.SIGKILL
    return met


def test_a_codec_run_that_is_killed_ends_as_if_it_had_not_been(codec_run, codec_config, begin, finish):
    run = codec_run.with_name("codec_killed")
    assert disturb(begin, codec_config, run, kills=1, seed=0) == 1
    assert 0 < last_step(run) < 24
    said = finish(begin(codec_config, run))
    assert "continuing" in said
    assert final_weights(run) == final_weights(codec_run)


def test_a_run_that_is_killed_in_the_middle_of_a_save_ends_as_if_it_had_not_been(
    codec_run, codec_config, begin, finish
):
    """A save goes on beside the steps; a kill leaves it half written, and the next session sweeps it up."""
    run, met = codec_run.with_name("codec_killed_saving"), 0
    for _ in range(6):
        process = begin(codec_config, run)
        reached = last_step(run)
        while process.poll() is None and (last_step(run) <= reached or not saving(run)):
            time.sleep(0.0005)
        process.kill()
        process.communicate()
        met += bool(saving(run))
        if met or last_step(run) > 16:
            break
    assert met
    assert 0 < last_step(run) < 24
    finish(begin(codec_config, run))
    assert final_weights(run) == final_weights(codec_run)


@pytest.mark.slow
def test_two_processes_that_share_weights_and_are_killed_in_a_save_end_as_if_they_had_not_been(
    flow_config, begin, finish, tmp_path: Path
):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    options = ["--optim.muon", "null", "--parallel.devices", "2", "--parallel.strategy", "zero3"]
    finish(begin(flow_config, tmp_path / "whole", *options))
    run = tmp_path / "killed"
    process = begin(flow_config, run, *options)
    while process.poll() is None and (last_step(run) < 2 or not saving(run)):
        time.sleep(0.0005)
    others = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for other in others:
        os.kill(int(other), signal.SIGKILL)
    process.communicate()
    assert 0 < last_step(run) < 40
    finish(begin(flow_config, run, *options))
    assert final_weights(run) == final_weights(tmp_path / "whole")


def saving(run: Path) -> list[Path]:
    """Checkpoints of a run that are not whole yet."""
    folders = (run / "checkpoints").glob(".writing_step_*")
    return [folder for folder in folders if not folder.name.endswith("forgotten")]


@pytest.mark.slow
def test_an_adversarial_run_that_is_killed_and_loses_its_start_ends_as_if_it_had_not(
    adversarial_config, codec_run, begin, finish, tmp_path: Path
):
    start, config = tmp_path / "start", tmp_path / "adversarial.yaml"
    shutil.copytree(codec_run / "codec", start)
    config.write_text(adversarial_config.read_text().replace(str(codec_run / "codec"), str(start)))
    finish(begin(config, tmp_path / "whole"))
    assert disturb(begin, config, tmp_path / "killed", kills=1, seed=0) == 1
    assert 0 < last_step(tmp_path / "killed") < 12
    shutil.rmtree(start)
    finish(begin(config, tmp_path / "killed"))
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")


def test_a_flow_run_that_is_killed_and_stopped_ends_as_if_it_had_not_been(
    flow_run, flow_config, begin, finish
):
    run = flow_run.with_name("flow_killed")
    assert disturb(begin, flow_config, run, kills=1, seed=1) == 1
    process = begin(flow_config, run)
    reached = last_step(run)
    while process.poll() is None and last_step(run) <= reached:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    said = finish(process, status=3)
    assert f"stopped by SIGTERM after step {last_step(run)}; the same command goes on from there" in said
    assert reached < last_step(run) < 40
    assert f"continuing {run} after step {last_step(run)}" in " ".join(
        finish(begin(flow_config, run)).split()
    )
    assert final_weights(run) == final_weights(flow_run)


def test_what_is_complete_says_so(flow_run, flow_config, command):
    before = {file: file.stat().st_mtime_ns for file in flow_run.rglob("*") if file.is_file()}
    status, said = command(train, "--config", flow_config, "--out", flow_run)
    assert status == 0
    assert "is complete: 40 steps done" in said
    assert {file: file.stat().st_mtime_ns for file in flow_run.rglob("*") if file.is_file()} == before


def test_another_configuration_is_refused_with_the_difference(flow_run, flow_config, command):
    before = {file: file.stat().st_mtime_ns for file in flow_run.rglob("*") if file.is_file()}
    status, said = command(train, "--config", flow_config, "--out", flow_run, "--optim.lr", "0.004")
    assert status == 2
    assert "is the folder of another configuration" in said
    assert "- lr: 0.003 + lr: 0.004 Give another --out" in said
    assert {file: file.stat().st_mtime_ns for file in flow_run.rglob("*") if file.is_file()} == before


def test_a_damaged_checkpoint_is_named_and_nothing_is_trained(flow_run, command):
    run = flow_run.with_name("flow_damaged")
    shutil.copytree(flow_run, run)
    shutil.rmtree(run / "checkpoints/step_00000040")
    file = run / "checkpoints/step_00000038/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(flow_run), str(run)))
    rows = (run / "metrics.jsonl").read_bytes()
    status, said = command(train, "--config", config)
    assert status == 2
    assert "step_00000038/optimizer.safetensors is damaged or missing: delete" in said
    assert last_step(run) == 38
    assert (run / "metrics.jsonl").read_bytes() == rows


def test_a_run_goes_on_with_its_own_codec_alone(flow_run, codec_run, command):
    """The codec it began with was trained again since: latents of one mean nothing to the other."""
    run, codec = flow_run.with_name("flow_other_codec"), codec_run.with_name("codec_again")
    shutil.copytree(flow_run, run)
    shutil.rmtree(run / "checkpoints/step_00000040")
    load = load_codec(codec_run / "codec")
    load.latent_mean.add_(0.5)
    save_codec(load, codec, {})
    config = run / "config.yaml"
    config.write_text(
        config.read_text().replace(str(flow_run), str(run)).replace(str(codec_run / "codec"), str(codec))
    )
    told = config.read_bytes()
    status, said = command(train, "--config", config, "--loop.steps", 44)
    assert status == 2
    assert "holds another codec" in said
    assert config.read_bytes() == told
    assert last_step(run) == 38


def test_a_run_outlives_the_codec_it_came_from_and_settings_that_came_later(flow_run, codec_run, command):
    run = flow_run.with_name("flow_alone")
    shutil.copytree(flow_run, run)
    shutil.rmtree(run / "checkpoints/step_00000040")
    config = run / "config.yaml"
    moved = config.read_text().replace(str(flow_run), str(run)).replace(str(codec_run / "codec"), "gone")
    assert "shift: 1.0" in moved
    config.write_text("".join(line for line in moved.splitlines(True) if "shift: 1.0" not in line))
    status, said = command(train, "--config", config)
    assert status == 0, said
    assert last_step(run) == 40
    assert final_weights(run) == final_weights(flow_run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_ten_kills_from_the_first_second_on(flow_run, flow_config, begin, finish, tmp_path: Path, seed: int):
    """Also while modules load, clips are encoded and captions are read."""
    config = tmp_path / "flow.yaml"
    shared, own = str(flow_run.parent / "cache"), str(tmp_path / "cache")
    config.write_text(flow_config.read_text().replace(shared, own))
    rng, run, met = random.Random(seed), tmp_path / "run", 0
    for _ in range(10):
        process = begin(config, run)
        time.sleep(rng.uniform(0.5, 8))
        process.kill()
        process.communicate()
        met += process.returncode == -signal.SIGKILL
    assert met > 2
    finish(begin(config, run))
    assert final_weights(run) == final_weights(flow_run)
