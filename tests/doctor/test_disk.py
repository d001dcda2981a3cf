"""Room on the disk, against what a run really writes."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from configs import codec_task, write_config
from vdit.commands.train import main as train
from vdit.config import load_run
from vdit.doctor.disk import check_disk, nearest_folder
from vdit.doctor.launch import check_task, planned

Usage = namedtuple("Usage", "total used free")


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**50, 2**50 - count, count))


def test_a_checkpoint_is_as_large_as_foretold(tmp_path: Path):
    config = write_config(tmp_path, task=codec_task(64))
    launch = planned(load_run(config))
    said = check_task(launch).checkpoint_bytes
    assert said is not None
    assert train(["--config", str(config)]) == 0
    [checkpoint] = (launch.out / "checkpoints").glob("step_*")
    wrote = sum(file.stat().st_size for file in checkpoint.iterdir())
    assert wrote > 3e6  # so that headers do not matter
    assert said == pytest.approx(wrote, rel=0.02)
    [again] = check_disk(launch.out, launch.checkpoints, said)
    assert "beside the" in again.sentence


@pytest.mark.parametrize(
    ("loop", "most"),
    [
        ({"steps": 100, "save_every": 10, "keep": 3}, 4),  # one is written before the oldest goes
        ({"steps": 100, "save_every": 0, "keep": 3}, 1),
        ({"steps": 100, "save_every": 60, "keep": 3}, 2),
        ({"steps": 100, "save_every": 10, "keep": 1, "keep_every": 50}, 3),
        ({"steps": 100, "save_every": 10, "keep": 2, "keep_every": 20}, 7),
    ],
)
def test_checkpoints_are_counted_as_they_are_kept(tmp_path: Path, loop: dict[str, int], most: int):
    config = write_config(tmp_path, loop={"batch": 2, **loop})
    assert planned(load_run(config)).checkpoints == most


def test_a_disk_that_is_too_small_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 5 * 10**9)
    [found] = check_disk(tmp_path / "runs" / "mine", 3, 2 * 10**9)
    assert found.state == "wrong"
    assert "5 GB are free" in found.sentence
    assert "3 checkpoints of 2 GB need 6 GB" in found.sentence
    assert found.remedy.startswith("free 1 GB, ")
    assert [it.state for it in check_disk(tmp_path, 2, 2 * 10**9)] == ["ok"]


def test_a_disk_that_is_full_is_noticed_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert [it.state for it in check_disk(tmp_path)] == ["ok"]
    free(monkeypatch, 10**6)
    assert [it.state for it in check_disk(tmp_path)] == ["warning"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    [found] = check_disk(closed / "run")
    assert (found.state, found.sentence) == ("wrong", f"{closed} cannot be written")


def test_a_place_that_no_folder_can_be_made_in_is_wrong(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    file, proc = tmp_path / "file", Path("/proc")
    for out, at, why in (
        (file, file, "Not a directory"),
        (file / "run", file, "Not a directory"),
        (proc / "run", proc, "No such file or directory"),
    ):
        [found] = check_disk(out)
        assert (found.state, found.sentence) == ("wrong", f"{at} cannot be written")
        assert why in found.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the system says: No space left on device; free some, or give another --out"),
        (errno.EACCES, "the system says: Permission denied; change its owner, or give another --out"),
        (errno.EIO, "the system says: Input/output error; look at the disk, or give another --out"),
    ],
)
def test_what_helps_is_what_the_reason_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    [found] = check_disk(tmp_path / "run", 1, 10)
    assert (found.state, found.sentence) == ("wrong", f"{tmp_path} cannot be written")
    assert found.remedy == remedy
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_the_system_does_not_tell_of_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def closed(*_: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    [found] = check_disk(tmp_path / "run")
    assert (found.state, found.sentence) == ("wrong", f"{tmp_path / 'run'} cannot be written")


def test_the_nearest_folder_is_one_that_exists(tmp_path: Path):
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(Path("not/there")) == Path()


@pytest.mark.filterwarnings("error")
def test_a_codec_to_go_on_from_is_counted_without_noise(tmp_path: Path):
    there = Path(__file__).parents[2] / "configs" / "codec" / "flat_24"
    task = {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": str(there)}}
    found = check_task(planned(load_run(write_config(tmp_path, task=task))))
    assert [it.state for it in found.findings] == ["ok"]
    assert (found.checkpoint_bytes or 0) > 10**7


def test_a_task_that_cannot_be_built_is_wrong(tmp_path: Path):
    task = {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": str(tmp_path / "none")}}
    found = check_task(planned(load_run(write_config(tmp_path, task=task))))
    assert found.checkpoint_bytes is None
    assert [it.state for it in found.findings] == ["wrong"]
    assert "none" in found.findings[0].sentence
