"""A text-to-video model that learns from images and videos of several shapes in one run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from vdit.commands.sample import main as sample
from vdit.commands.train import main as train
from vdit.data.decode import probe
from vdit.eval.curves import read_rows

SHAPES = {(1, 16, 16): 1, (5, 16, 16): 2, (5, 16, 32): 1, (9, 32, 16): 1}
"""Frames, height and width, and how often batches are of them."""

STEPS = 10


def mixture(clips: int, seed: int) -> dict[str, object]:
    parts = [
        {
            "share": share,
            "source": {
                "class_path": "vdit.world.source.WorldSource",
                "init_args": {
                    "level": {"class_path": "vdit.world.flat.Flat"},
                    "clips": clips,
                    "seed": seed + number,
                    "frames": frames,
                    "height": height,
                    "width": width,
                },
            },
        }
        for number, ((frames, height, width), share) in enumerate(SHAPES.items())
    ]
    return {"class_path": "vdit.data.mixture.Mixture", "init_args": {"parts": parts}}


@pytest.fixture
def config(flow_config: Path, tmp_path: Path) -> Path:
    values = yaml.safe_load(flow_config.read_text())
    values["data"] = {"train": mixture(7, 10), "held_out": mixture(3, 50)}
    del values["optim"]["muon"]  # which ZeRO refuses
    values["loop"] |= {"steps": STEPS, "save_every": 1, "keep": STEPS}
    values["pace"] |= {"validation": 5, "samples": STEPS}
    values["task"]["init_args"]["cache"] = str(tmp_path / "cache")
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "mixed.yaml"


def losses(run: Path, kind: str = "train") -> list[float]:
    return [row["loss"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == kind]


def test_shapes_take_turns_and_a_run_goes_on_as_if_it_had_not_stopped(
    config: Path, command: Callable[..., tuple[int, str]], tmp_path: Path
):
    status, said = command(train, "--config", config, "--out", tmp_path / "whole")
    assert status == 0, said
    assert len(losses(tmp_path / "whole")) == STEPS
    assert len(losses(tmp_path / "whole", "validation")) == 2
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for step in range(5, STEPS + 1):
        shutil.rmtree(tmp_path / f"again/checkpoints/step_{step:08d}")
    status, said = command(train, "--config", config, "--out", tmp_path / "again")
    assert status == 0, said
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")
    for frames, height, width in SHAPES:
        out = tmp_path / f"{frames}x{height}x{width}"
        line = ["--run", tmp_path / "whole", "--prompt", "a red circle", "--frames", frames, "--out", out]
        status, said = command(sample, *line, "--size", f"{height}x{width}", "--device", "cpu")
        assert status == 0, said
        info = probe(out / "000000.mp4")
        assert (info.frames, info.height, info.width) == (frames, height, width)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--parallel.sequence", "2"), ("--parallel.strategy", "zero2")])
def test_two_processes_see_what_one_does(
    options: tuple[str, ...], config: Path, begin, finish, tmp_path: Path
):
    finish(begin(config, tmp_path / "one"))
    finish(begin(config, tmp_path / "two", "--parallel.devices", "2", *options))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    theirs, ours = (losses(tmp_path / name, "validation") for name in ("one", "two"))
    assert ours == pytest.approx(theirs, rel=1e-4)
