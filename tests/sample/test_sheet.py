"""Contact sheets: what stands where, and what is written above it."""

import numpy as np
import pytest
import torch
from PIL import Image

from vdit.sample.sheet import _fitted, contact_sheet
from vdit.types import InputError


def test_a_contact_sheet_shows_every_clip(tmp_path):
    red, blue = torch.full((2, 3, 5, 16, 16), -1.0)
    red[0], blue[2] = 1, 1
    contact_sheet(
        [(red, "a red clip"), (blue[:, :2], "蓝 " * 99)], tmp_path / "sheets" / "s.png", columns=3, scale=4
    )
    sheet = np.asarray(Image.open(tmp_path / "sheets" / "s.png"))
    assert (sheet == [255, 0, 0]).all(-1).sum() == 3 * 64 * 64
    assert (sheet == [0, 0, 255]).all(-1).sum() == 2 * 64 * 64
    assert (sheet[:26].min(axis=-1) < 100).any()  # a label stands above the first row
    assert sheet.shape == (6 + 2 * (20 + 64 + 6), 3 * 66 + 12, 3)


def test_small_clips_are_enlarged(tmp_path):
    contact_sheet([(torch.zeros(3, 4, 32, 32), "")], tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size == (4 * 130 + 12, 6 + 20 + 128 + 6)


def test_a_label_of_any_length_is_cut_to_what_fits(tmp_path):
    calls = []

    def length(text: str) -> float:
        calls.append(text)
        return 2.0 * len(text)

    assert _fitted("a red cube", 20, length) == "a red cube"
    assert _fitted("a red cube", 19, length) == "a red cu…"
    assert _fitted("a red cube", 2, length) == "…"
    assert _fitted("a red cube", 1, length) == ""
    calls.clear()
    assert len(_fitted("cube " * 10_000, 200, length)) == 100
    assert len(calls) < 20


def test_an_empty_sheet_is_refused(tmp_path):
    with pytest.raises(InputError, match="got 0 clips, 8 columns"):
        contact_sheet([], tmp_path / "s.png")
