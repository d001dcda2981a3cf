"""How many clips a run does without, and what it says where they are too many."""

from pathlib import Path

import pytest

from vdit.data.order import Position
from vdit.data.unreadable import Unreadable
from vdit.train.reading import UnreadableClips, read_unreadable
from vdit.types import InputError


def unread(clip: int, accepted: bool = False) -> Unreadable:
    return Unreadable(clip, f"{clip}.mp4@0", "it is damaged", Position(), accepted)


def test_clips_of_a_video_are_counted_where_one_cannot_be_read_and_not_before(tmp_path: Path):
    asked: list[int] = []

    def most() -> int:
        asked.append(1)
        return 3

    found = UnreadableClips(tmp_path / "unreadable.json", [unread(7, accepted=True)], 200, 0.01, most)
    found.require_few()
    assert not asked
    assert [one.clip for one in found.add([unread(2), unread(1), unread(1), unread(7)])] == [1, 2]
    found.require_few()
    found.add([unread(3)])
    found.require_few()  # 1% are 2 clips, but a whole video may be lost
    assert len(asked) == 1
    found.add(map(unread, range(20, 24)))
    told = r"\(23.mp4@0: it is damaged; .* 3.mp4@0: it is damaged; and 2 more\)"
    with pytest.raises(InputError, match=rf"7 of 200 clips cannot be read {told}.* without 3\."):
        found.require_few()
    assert [one.clip for one in read_unreadable(found.file)] == [7, 1, 2, 3, 20, 21, 22, 23]


def test_a_share_of_nothing_lets_no_clip_go(tmp_path: Path):
    found = UnreadableClips(tmp_path / "unreadable.json", [], 200, 0, lambda: 3)
    found.require_few()
    found.add([unread(1)])
    with pytest.raises(InputError, match=r"1 of 200 clips cannot be read .* without 0\."):
        found.require_few()
