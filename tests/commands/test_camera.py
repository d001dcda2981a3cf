"""A camera's path can be seen before anything is sampled."""

from pathlib import Path

import pytest
from PIL import Image

from vdit.commands.camera import main as camera
from vdit.types import InputError

ROW = "0 0.6 1.05 0.5 0.48 0 0 1 0 0 {} 0 1 0 0 0 0 1 0"


def test_a_path_is_drawn_from_words_and_from_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    (tmp_path / "poses.txt").write_text("\n".join(ROW.format(-i / 8) for i in range(9)))
    pictures = []
    for asked in (
        ["truck right 1"],
        ["truck left 1"],
        ["--file", str(tmp_path / "poses.txt")],
        ["pan left 20deg, then dolly in 0.5"],
        ["hold", "--frames", "1"],
    ):
        out = tmp_path / f"{len(pictures)}.png"
        assert camera([*asked, "--out", str(out), *([] if "--frames" in asked else ["--frames", "9"])]) == 0
        pictures.append(Image.open(out).convert("RGB").tobytes())
        assert f"cameras in {out}" in capsys.readouterr().out
    assert pictures[0] == pictures[2]  # the same path
    assert len(set(pictures)) == 4


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], "give a path in words, or poses with --file"),
        (["hold", "--file", "poses.txt"], "give a path in words, or poses with --file"),
        (["hold", "--frames", "0"], "--frames 0 and --fps 16 must be numbers above 0"),
        (["hold", "--fps", "nan"], "--fps nan must be numbers above 0"),
        (["hold", "--size", "0x64"], "--size 0x64 is not HEIGHTxWIDTH"),
        (["hold", "--out", "path.nothing"], "no preview can be written to path.nothing"),
        (["hold", "--size", "big"], "--size big is not HEIGHTxWIDTH"),
        (["spin"], "no camera move 'spin'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(asked: list[str], told: str):
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match=told):
        camera(asked)
