"""Models that begin with a first frame alone, asked for clips longer than their own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import vdit.commands.sample as command
from vdit.commands.command import run_command
from vdit.commands.sample import main as sample
from vdit.data.decode import probe

SIZE = ["--frames", "5", "--size", "32x64", "--fps", "8", "--steps", "2"]


@pytest.mark.parametrize("variant", ["wan_2_1_i2v", "wan_2_2_ti2v_5b"])
def test_all_parts_are_checked_before_weights_are_read(
    variant: str,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    model = tiny(variant)
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((64, 32)).save("first.png")
    line = ["--model", str(model), "--prompt", "a red star", *SIZE, "--first", "first.png", "--out", "clips"]
    with monkeypatch.context() as patch:
        patch.setattr(command, "_opened", lambda _: pytest.fail("weights are read"))
        assert run_command(sample, [*line, "--length", "9", "--overlap", "2"]) == 2
    said = capsys.readouterr().err
    assert "a clip of 9 frames is sampled in parts of 5, and that from frame 3 on begins with" in said
    assert "and got frames [0, 1]; ask for 5 frames at most, or cut, or for an --overlap of 1" in said
    assert not Path("clips").exists()
    assert run_command(sample, [*line, "--length", "9", "--overlap", "1"]) == 0  # as the remedy says
    assert probe("clips/000000.mp4").frames == 9
    assert json.loads(Path("clips/settings.json").read_text())["timeline"]["length"] == 9
