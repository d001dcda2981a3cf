"""Files that pass the scan and cannot be decoded, met while training; files that move, change and go."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from test_resume import final_weights, last_step

from vdit.commands.train import main as train
from vdit.data.folder import FolderSource
from vdit.eval.curves import read_rows
from vdit.sample.video_file import write_video
from vdit.types import Clip

VIDEOS, BAD = 12, "07.mp4"


def damage(file: Path) -> None:
    """Overwrite the middle third of the pictures: header, index and first frame stay."""
    content = bytearray(file.read_bytes())
    start = content.find(b"mdat") + 4
    third = (int.from_bytes(content[start - 8 : start - 4], "big") - 8) // 3
    content[start + third : start + 2 * third] = bytes(third)
    file.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise, which compresses into pictures of a size worth damaging."""
    folder, noise = tmp_path_factory.mktemp("whole"), torch.Generator().manual_seed(0)
    for number in range(VIDEOS):
        write_video(folder / f"{number:02d}.mp4", torch.rand(3, 10, 32, 32, generator=noise) * 2 - 1, 8)
        (folder / f"{number:02d}.txt").write_text(f"noise {number}")
    return folder


@pytest.fixture
def videos(whole: Path, tmp_path: Path) -> Path:
    """The same with a file that is damaged in the middle."""
    shutil.copytree(whole, tmp_path / "videos")
    damage(tmp_path / "videos" / BAD)
    return tmp_path / "videos"


@pytest.fixture
def config(folder_config: Callable[[Path], Path], videos: Path) -> Path:
    """Trains on 10 frames, 3 clips a step, and saves at the end alone."""
    file = folder_config(videos)
    values = yaml.safe_load(file.read_text())
    values["data"]["train"]["init_args"]["cut"]["frames"] = 9
    values["loop"] |= {"steps": 10, "batch": 3, "save_every": 0}
    file.write_text(yaml.safe_dump(values))
    return file


def train_losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == "train"]


def left_out(run: Path) -> dict[str, str]:
    return {one["name"]: one["reason"] for one in json.loads((run / "unreadable.json").read_text())}


@pytest.fixture
def undisturbed(config: Path, command, tmp_path: Path) -> Path:
    """The run that met the damaged file and went on."""
    run = tmp_path / "undisturbed"
    status, said = command(train, "--config", config, "--out", run)
    assert status == 0, said
    assert f"left out from here on: {BAD}@0: " in said
    assert "1 of 12 clips are left out, and others stand in their place; data.max_unreadable allows 1" in said
    assert left_out(run).keys() == {f"{BAD}@0"}
    return run


def test_a_run_that_may_do_without_no_clip_saves_and_goes_on_once_it_may(
    undisturbed: Path, config: Path, command, tmp_path: Path
):
    run = tmp_path / "run"
    strict = ["--data.max_unreadable", "0"]
    status, said = command(train, "--config", config, "--out", run, *strict)
    assert status == 2
    assert f"1 of 12 clips cannot be read ({BAD}@0: " in said
    assert "data.max_unreadable lets a run do without 0. Mend the files, or give a higher" in said
    step = last_step(run)
    assert 0 < step < 10
    assert f"saved after step {step}; the same command goes on from there" in said
    rows = read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, step + 1))
    status, said = command(train, "--config", config, "--out", run, *strict)
    assert status == 2
    assert last_step(run) == step
    status, said = command(train, "--config", config, "--out", run)
    assert status == 0, said
    assert final_weights(run) == final_weights(undisturbed)


@pytest.mark.parametrize("then", ["removed", "verified", "mended"])
def test_a_run_goes_on_as_it_was_whatever_becomes_of_a_file_that_it_does_without(
    undisturbed: Path, config: Path, videos: Path, whole: Path, command, tmp_path: Path, then: str
):
    run, options = tmp_path / "run", ["--loop.save_every", "1", "--loop.keep", "9"]
    status, said = command(train, "--config", config, "--out", run, *options)
    assert status == 0, said
    for step in (8, 9, 10):
        shutil.rmtree(run / f"checkpoints/step_{step:08d}")
    if then == "removed":
        (videos / BAD).unlink()
    elif then == "mended":
        shutil.copyfile(whole / BAD, videos / BAD)
    else:
        options += ["--data.train.init_args.verify", "true"]
    status, said = command(train, "--config", config, "--out", run, *options)
    assert status == 0, said
    assert "after step 7" in said
    ended, alone = final_weights(run), final_weights(undisturbed)
    assert ended["ema.safetensors"] == alone["ema.safetensors"]
    assert ended["losses"] == alone["losses"]


def test_a_clip_that_cannot_be_encoded_is_left_out_of_a_flow_run(
    flow_config: Path, config: Path, videos: Path, command, tmp_path: Path
):
    values, clips = yaml.safe_load(flow_config.read_text()), yaml.safe_load(config.read_text())
    values["data"] = {**clips["data"], "held_out": clips["data"]["train"]}
    values["task"]["init_args"]["cache"] = str(tmp_path / "cache")
    values["task"]["init_args"]["sampling"]["frames"] = 9
    values["loop"] |= {"steps": 8, "save_every": 0}
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(values))
    words = ["--config", tmp_path / "flow.yaml", "--out", tmp_path / "run"]
    status, said = command(train, *words, "--data.max_unreadable", "0")
    assert status == 2
    assert f"1 of 12 clips cannot be read ({BAD}@0: " in said
    status, said = command(train, *words)
    assert status == 0, said
    assert "encoding clips: 1 of 12 clips cannot be read and are left out" in said
    assert "encoding held-out clips: 1 of 12 clips cannot be read and are left out" in said
    assert left_out(tmp_path / "run").keys() == {f"{BAD}@0"}


def test_a_run_does_without_all_clips_of_one_damaged_file(config: Path, command, tmp_path: Path):
    values = yaml.safe_load(config.read_text())
    values["data"]["train"]["init_args"]["cut"] |= {"frames": 5, "windows": "slide"}
    values["loop"]["steps"] = 20
    config.write_text(yaml.safe_dump(values))
    status, said = command(train, "--config", config, "--out", tmp_path / "run")
    assert status == 0, said
    assert left_out(tmp_path / "run").keys() == {f"{BAD}@0", f"{BAD}@5"}


def test_more_damaged_files_than_may_be_end_a_run_that_is_saved(
    config: Path, videos: Path, command, tmp_path: Path
):
    damage(videos / "02.mp4")
    (videos / "03.mp4").unlink()
    run = tmp_path / "run"
    status, said = command(train, "--config", config, "--out", run)
    assert status == 2
    assert "of 11 clips cannot be read" in said
    assert f"saved after step {last_step(run)}" in said
    status, said = command(train, "--config", config, "--out", run, "--data.max_unreadable", "0.2")
    assert status == 0, said
    assert left_out(run).keys() == {"02.mp4@0", f"{BAD}@0"}


@pytest.mark.slow
def test_two_processes_leave_together_and_go_on_as_one_would(
    config: Path, begin, finish, command, tmp_path: Path
):
    """One of them meets the damaged file; none waits for it in vain, and all save."""
    several = ["--loop.batch", "4", "--parallel.timeout", "60"]
    status, said = command(train, "--config", config, "--out", tmp_path / "whole", *several)
    assert status == 0, said
    run, two = tmp_path / "run", [*several, "--parallel.devices", "2"]
    said = finish(begin(config, run, *two, "--data.max_unreadable", "0"), status=2)
    assert f"1 of 12 clips cannot be read ({BAD}@0: " in said
    assert 0 < last_step(run) < 10
    said = finish(begin(config, run, *two))
    assert f"continuing {run} after step" in " ".join(said.split())
    assert left_out(run).keys() == {f"{BAD}@0"}
    assert train_losses(run) == pytest.approx(train_losses(tmp_path / "whole"), rel=1e-4)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails when it is read")
def test_a_disk_that_fails_ends_a_run_that_is_saved_and_counts_no_clip(
    config: Path, videos: Path, whole: Path, command, monkeypatch, tmp_path: Path
):
    monkeypatch.setattr("vdit.data.unreadable.PAUSES", (0.01,))
    shutil.copyfile(whole / BAD, videos / BAD)
    run, get = tmp_path / "run", FolderSource.__getitem__
    asked: list[int] = []

    def fails_late(source: FolderSource, index: int) -> Clip:
        asked.append(index)
        if len(asked) == 30:  # all were read to begin with
            for file in videos.glob("*.mp4"):
                file.rename(videos / f"{file.name}.kept")
                file.symlink_to("/proc/self/mem")
        return get(source, index)

    monkeypatch.setattr(FolderSource, "__getitem__", fails_late)
    status, said = command(train, "--config", config, "--out", run)
    assert status == 5
    assert "the disk does not give" in said
    assert f"saved after step {last_step(run)}; the same command goes on" in said
    assert not (run / "unreadable.json").exists()
    for file in videos.glob("*.kept"):
        file.replace(file.with_suffix(""))
    status, said = command(train, "--config", config, "--out", run)
    assert status == 0, said


def test_a_folder_that_was_moved_goes_on_with_its_codec_and_cache_elsewhere(
    flow_config: Path, codec_run: Path, config: Path, whole: Path, videos: Path, command, tmp_path: Path
):
    shutil.copyfile(whole / BAD, videos / BAD)
    codec = shutil.copytree(codec_run / "codec", tmp_path / "codec")
    values, clips = yaml.safe_load(flow_config.read_text()), yaml.safe_load(config.read_text())
    values["data"] = {**clips["data"], "held_out": clips["data"]["train"]}
    values["task"]["init_args"] |= {"codec": str(codec), "cache": str(tmp_path / "cache")}
    values["task"]["init_args"]["sampling"]["frames"] = 9
    values["loop"] |= {"steps": 8, "save_every": 2}
    file, run = tmp_path / "flow.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(values))
    status, said = command(train, "--config", file, "--out", run)
    assert status == 0, said
    ended = final_weights(run)
    for name in ("videos", "codec", "cache"):
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    moved = file.read_text()
    for name in ("videos", "codec", "cache"):
        moved = moved.replace(str(tmp_path / name), str(tmp_path / f"moved_{name}"))
    file.write_text(moved)
    shutil.rmtree(run / "checkpoints/step_00000008")
    (tmp_path / "moved_videos/03.txt").write_text("a red circle moving left")
    status, said = command(train, "--config", file, "--out", run)
    assert status == 2
    assert "1 training clip has another caption (03.mp4@0); 1 held out clip has another caption" in said
    (tmp_path / "moved_videos/03.txt").write_text("noise 3")
    status, said = command(train, "--config", file, "--out", run)
    assert status == 0, said
    assert "after step 6" in said
    assert final_weights(run) == ended
    shutil.rmtree(run / "checkpoints/step_00000008")
    for caption in (tmp_path / "moved_videos").glob("*.txt"):
        caption.write_text("a red circle moving left")
    status, said = command(train, "--config", file, "--out", run, "--accept-changed-data")
    assert status == 0, said
    assert "changed: 12 training clips have another caption (00.mp4@0, 01.mp4@0," in said
    assert "04.mp4@0 and 7 more)" in said
    assert final_weights(run) != ended


def test_a_run_of_before_there_was_a_record_is_known_by_its_settings(
    config: Path, videos: Path, command, tmp_path: Path
):
    run = tmp_path / "run"
    status, said = command(train, "--config", config, "--out", run)
    assert status == 0, said
    (run / "clips.jsonl").unlink()
    moved = shutil.copytree(videos, tmp_path / "moved")
    there = ["--data.train.init_args.path", moved]
    status, said = command(train, "--config", config, "--out", run, *there)
    assert status == 2
    assert "is the folder of another configuration" in said
    for options, earlier in (([], True), (there, False)):  # the first of them writes the record
        status, said = command(train, "--config", config, "--out", run, *options)
        assert (status, "is complete: 10 steps done" in said) == (0, True)
        assert ("which read videos 1 to 2 levels darker" in said) == earlier


def test_files_that_are_never_read_to_their_end_are_named_and_the_run_is_saved(
    config: Path, videos: Path, whole: Path, begin, finish, tmp_path: Path
):
    """Pipes that nobody writes into: a decoder waits for them for ever, as it would for a dead server."""
    run = tmp_path / "run"
    options = ["--loop.steps", "100000", "--loop.save_every", "5", "--parallel.timeout", "5"]
    process = begin(config, run, *options)
    while last_step(run) < 5 and process.poll() is None:
        time.sleep(0.02)
    for file in videos.glob("*.mp4"):
        os.mkfifo(tmp_path / file.name)
        (tmp_path / file.name).replace(file)
    said = " ".join(finish(process, status=5).split())
    assert ".mp4@0 could not be read within 4 s" in said
    assert f"The run is saved after step {last_step(run)}; the same command goes on from there" in said
