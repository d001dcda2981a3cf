"""Files of calls: none replaces another's, and each clip is there as soon as it is done."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vdit.data.decode import open_video
from vdit.sample.outputs import Outputs
from vdit.sample.video_file import read_metadata

SETTINGS = {
    "command": "sample.py --run=r",
    "sampling": {"steps": 2},
    "files": {"a.png": "1f"},
    "notes": ["n"],
}


def written(folder: Path, seeds: list[int], grey: float = 0.0) -> list[str]:
    with Outputs(folder, seeds, SETTINGS) as outputs:
        for i, seed in enumerate(seeds):
            outputs.add(i, torch.full((3, 3, 16, 16), grey), 8, {"prompt": "a", "seed": seed})
    return [clip["file"] for clip in outputs.clips]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_later_call_leaves_all_files_of_earlier_ones_as_they_are(tmp_path: Path):
    out = tmp_path / "made" / "clips"
    assert written(out, [0, 1]) == ["000000.mp4", "000001.mp4"]
    first = contents(out)
    assert first.keys() == {"000000.mp4", "000001.mp4", "sheet.png", "settings.json"}
    assert written(out, [1, 2], grey=0.5) == ["000001_2.mp4", "000002_2.mp4"]
    assert written(out, [7]) == ["000007_3.mp4"]
    later = contents(out)
    assert first.items() <= later.items()
    assert later.keys() - first.keys() == {
        *("000001_2.mp4", "000002_2.mp4", "sheet_2.png", "settings_2.json"),
        *("000007_3.mp4", "sheet_3.png", "settings_3.json"),
    }
    assert [clip["file"] for clip in json.loads(later["settings_2.json"])["clips"]] == [
        "000001_2.mp4",
        "000002_2.mp4",
    ]


@pytest.mark.parametrize("there", ["000005.mp4", "sheet.png", "settings.json"])
def test_files_of_others_are_not_replaced(tmp_path: Path, there: str):
    (tmp_path / there).write_bytes(b"mine")
    assert written(tmp_path, [5]) == ["000005_2.mp4"]
    assert (tmp_path / there).read_bytes() == b"mine"


def test_two_calls_at_the_same_time_have_names_of_their_own(tmp_path: Path):
    with Outputs(tmp_path, [3], SETTINGS) as one, Outputs(tmp_path, [3], SETTINGS) as two:
        for outputs, grey in ((one, -1.0), (two, 1.0)):
            outputs.add(0, torch.full((3, 2, 16, 16), grey), 8, {"prompt": "a", "seed": 3})
    for name, grey in (("000003", 0), ("000003_2", 255)):
        assert abs(open_video(tmp_path / f"{name}.mp4").read(0, 2).float().mean() - grey) < 2


def test_clips_of_one_seed_have_names_of_their_own(tmp_path: Path):
    assert written(tmp_path, [4, 4, 5, 4]) == ["000004.mp4", "000004-2.mp4", "000005.mp4", "000004-3.mp4"]
    assert written(tmp_path, [4, 4]) == ["000004_2.mp4", "000004-2_2.mp4"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_done_is_there_and_told_when_a_call_ends_early(tmp_path: Path, error: Any):
    with pytest.raises(error), Outputs(tmp_path, [0, 1], SETTINGS) as outputs:  # noqa: PT012
        outputs.add(0, torch.ones(3, 9, 16, 16), 8, {"prompt": "a", "seed": 0})
        told = json.loads((tmp_path / "settings.json").read_text())  # which a kill would leave
        assert told["clips"] == [{"file": "000000.mp4", "prompt": "a", "seed": 0}]
        raise error
    assert contents(tmp_path).keys() == {"000000.mp4", "sheet.png", "settings.json"}
    assert (np.asarray(Image.open(tmp_path / "sheet.png")) == 255).all(-1).sum() > 8 * 128 * 128


def test_nothing_is_left_where_no_clip_was_made(tmp_path: Path):
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there", tmp_path / "new" / "clips"):
        with pytest.raises(RuntimeError), Outputs(out, [0], SETTINGS):
            raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_file_says_all_that_the_settings_say(tmp_path: Path):
    with Outputs(tmp_path, [0], SETTINGS) as outputs:
        outputs.add(0, torch.ones(3, 2, 16, 16), 8, {"prompt": "a 'red' ü", "seed": 0, "notes": ["m"]})
    told = read_metadata(tmp_path / "000000.mp4")
    assert told["steps"] == "2"
    assert json.loads(told["files"]) == SETTINGS["files"]
    assert json.loads(told["notes"]) == ["n", "m"]
    assert told["command"] == """sample.py --run=r '--prompt=a '"'"'red'"'"' ü' --seed=0"""
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["clips"] == [{"file": "000000.mp4", "prompt": "a 'red' ü", "seed": 0, "notes": ["m"]}]
