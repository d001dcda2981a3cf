"""`python -m vdit plan`: what it prints, and what it refuses."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from vdit.commands.command import run_command
from vdit.commands.plan import main

ROOT = Path(__file__).parents[2]
TRAIN = sorted((ROOT / "configs/train").glob("*.yaml"))
FLAT = "configs/train/flat_dit.yaml"
SMALL_WAN = ("--clip", "17x480x832", "--task.init_args.backbone.init_args.depth", "4")
WAN = ("--config", "configs/train/wan_finetune.yaml", "--codec", "configs/codec/wan_2_1.yaml", *SMALL_WAN)


@pytest.fixture(autouse=True)
def in_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configurations, and no runs, videos or releases."""
    place = tmp_path / "clone"
    place.mkdir()
    (place / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(place)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    capsys.readouterr()
    assert run_command(main, arguments) == status
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The sentence with which it leaves."""
    capsys.readouterr()
    assert run_command(main, arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    return told


def test_the_plan_of_the_demo_says_what_it_needs(capsys: pytest.CaptureFixture[str]):
    out = printed(capsys, "--config", FLAT, "--gpus", "2")
    for said in (
        "1.11 M weights",
        "2 GPUs",
        "9x32x32",
        "3x4x4",
        "3,072",
        "optimiser states",
        "peak",
        "checkpoint:",
    ):
        assert said in out
    assert "35% MFU of 989 TFLOP/s; that MFU is an assumption" in out
    out = printed(capsys, "--config", FLAT, "--gpus", "1", "--mfu", "0.5", "--peak", "100")
    assert "50% MFU of 100 TFLOP/s. Validation" in out


def test_what_fits_and_what_would_is_said(capsys: pytest.CaptureFixture[str]):
    assert "it fits into 7 GiB" in printed(capsys, *WAN, "--gpus", "1", "--memory", "7")
    out = printed(capsys, *WAN, "--gpus", "1", "--memory", "6", status=1)
    assert "does not fit into 6 GiB; with --parallel.recompute selective it needs" in out
    again = printed(capsys, *WAN, "--gpus", "1", "--memory", "6", "--parallel.recompute", "selective")
    assert "it fits into 6 GiB" in again
    some = (*WAN, "--gpus", "1", "--memory", "5.2", "--parallel.recompute", "selective")
    assert "with --parallel.recompute full it needs" in printed(capsys, *some, status=1)
    assert "no strategy" in printed(capsys, *WAN, "--gpus", "1", "--memory", "1", status=1)


@pytest.mark.slow
def test_fewer_clips_at_once_and_shared_weights_are_remedies(capsys: pytest.CaptureFixture[str]):
    wide = (*WAN, "--loop.batch", "16", "--loop.accumulate", "1", "--parallel.recompute", "full")
    told = printed(capsys, *wide, "--gpus", "2", "--memory", "6.5", status=1)
    assert "with --loop.batch 2 --loop.accumulate 8 it needs" in told
    told = printed(capsys, *WAN, "--loop.batch", "8", "--gpus", "8", "--memory", "3.6", status=1)
    assert "with --parallel.recompute full --parallel.strategy zero3 it needs" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", FLAT], "--gpus is missing: say how many GPUs"),
        (["--config", FLAT, "--gpus", "0"], "--gpus is 0, but must be at least 1"),
        (["--gpus", "1"], "loop.steps"),
        (
            ["--config", FLAT, "--gpus", "3", "--parallel.sequence", "2"],
            "sequence 2 does not divide the run's 3",
        ),
        (["--config", FLAT, "--gpus", "3"], "loop.batch is 64 clips, which 3 GPUs cannot share evenly"),
        (
            ["--config", FLAT, "--gpus", "6", "--parallel.sequence", "2"],
            "which 3 groups of 2 GPUs cannot share evenly: use a multiple of 3",
        ),
        (["--config", FLAT, "--gpus", "16", "--parallel.sequence", "16"], "does not divide 8 heads"),
        (["--config", FLAT, "--gpus", "2", "--parallel.strategy", "zero2"], "needs whole matrices"),
        (["--config", FLAT, "--gpus", "1", "--clip", "9x32"], "--clip 9x32 is no shape of clips"),
        (["--config", FLAT, "--gpus", "1", "--clip", "8x32x32"], "8 frames do not fit this codec"),
        (["--config", FLAT, "--gpus", "1", "--mfu", "35"], "--mfu is 35, but must lie in (0, 1]"),
        (["--config", FLAT, "--gpus", "1", "--memory", "0"], "--memory is 0, but must be above 0"),
        (["--config", FLAT, "--gpus", "1", "--loop.stepz", "3"], "stepz"),
        (["--config", FLAT, "--gpus", "1", "--codec", "configs/codec/wan_2_1.yaml"], "make them equal"),
        (
            ["--config", "configs/train/flat_codec.yaml", "--gpus", "1", "--parallel.recompute", "full"],
            "this task has none",
        ),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(capsys, arguments: list[str], says: str):
    assert says in refused(capsys, arguments)


def stand_ins(file: Path) -> list[str]:
    """Options in place of what a configuration names that is not there."""
    task = yaml.safe_load(file.read_text())["task"]["init_args"]
    options = []
    if str(task["codec"]).startswith(("runs/", "models/")):
        channels = {"wan": "wan_2_1", "room": "native_4x8x8"}.get(file.stem.split("_")[0], "native_4x8x8_16")
        options += ["--codec", f"configs/codec/{channels}.yaml"]
    if file.stem.startswith(("wan", "videos", "clips")):
        options += ["--clip", "33x480x832" if file.stem.startswith("wan") else "9x64x64"]
    return options


@pytest.mark.parametrize("file", TRAIN, ids=lambda file: file.stem)
def test_every_shipped_run_can_be_planned(capsys, file: Path):
    options = stand_ins(file)
    if options:
        said = refused(capsys, ["--config", f"configs/train/{file.name}", "--gpus", "1"])
        assert "holds no codec" in said or "there is no folder" in said
    out = printed(capsys, "--config", f"configs/train/{file.name}", "--gpus", "1", *options)
    assert "peak" in out
    if file.stem == "videos_codec":  # clips are cut to three lengths
        for shape, clips in (("1x64x64", 72), ("5x64x64", 8), ("9x64x64", 8)):
            [row] = [line.split() for line in out.splitlines() if line.split()[:1] == [shape] and "-" in line]
            assert row[4] == str(clips)
