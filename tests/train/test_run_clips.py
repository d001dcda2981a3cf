"""The clips of a run are known again by what they show and say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.inventory import KnownClip, compare
from vdit.data.listing import ListSource
from vdit.data.mixture import Mixture, Part
from vdit.data.order import Position
from vdit.data.unreadable import Unreadable
from vdit.sample.video_file import write_video
from vdit.train.clip_record import Record
from vdit.train.run_clips import Recognised, recognised
from vdit.train.task import Data
from vdit.types import ClipSource, InputError
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

CUT = ClipCut(5, 16, 16)


def world(seed: int) -> WorldSource:
    return WorldSource(Flat(), 4, 5, 16, 16, seed=seed)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, noise = tmp_path_factory.mktemp("original"), torch.Generator().manual_seed(0)
    for name in "abcd":
        write_video(folder / f"{name}.mp4", torch.rand(3, 6, 16, 16, generator=noise) * 2 - 1, 8)
        (folder / f"{name}.txt").write_text(f"clip {name}")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "videos"))


@pytest.fixture
def again(folder: Path, tmp_path: Path) -> Callable[..., Recognised]:
    """`again(source=None, unreadable=(), accept=False, held_out=None)`: a run of the folder goes on.

    It does without what it did without before, and `unreadable`.
    """
    record = Record(tmp_path / "clips.jsonl")
    first = recognised(record, Data(FolderSource(folder, CUT), world(0)), (), accept=False)
    assert first.record is not None
    assert not first.clips.known
    record.write(first.record)

    without: list[Unreadable] = []

    def go_on(
        source: ClipSource | None = None, unreadable=(), accept: bool = False, held_out=None
    ) -> Recognised:
        data = Data(source or FolderSource(folder, CUT), held_out or world(0))
        found = recognised(record, data, [*without, *unreadable], accept)
        without[:] = found.clips.unreadable
        if found.record is not None:
            record.write(found.record)
        return found

    return go_on


def test_what_has_not_changed_is_what_it_was(again, folder: Path):
    found = again()
    assert found.clips.known
    assert (found.clips.places, found.record, found.changed) == (None, None, ())
    assert again(FolderSource(folder, CUT, verify=True, require_captions=True)).clips.places is None


def test_a_folder_that_was_moved_is_the_same(again, folder: Path, tmp_path: Path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert again(FolderSource(moved, CUT)).changed == ()
    listing = Path(moved) / "list.csv"
    listing.write_text("video,caption\n" + "".join(f"{moved}/{n}.mp4,clip {n}\n" for n in "dcba"))
    found = again(ListSource(listing, CUT))
    assert found.changed == ()
    assert found.clips.places == (3, 2, 1, 0)
    assert again(ListSource(listing, CUT)).clips.places == (3, 2, 1, 0)


def test_files_with_other_names_keep_their_numbers(again, folder: Path):
    for ending in ("mp4", "txt"):
        (folder / f"b.{ending}").rename(folder / f"z.{ending}")
    found = again()
    assert found.changed == ()
    assert found.clips.places == (0, 3, 1, 2)
    items = found.clips.placed(FolderSource(folder, CUT))
    assert [items[number].caption for number in range(4)] == ["clip a", "clip b", "clip c", "clip d"]
    assert found.clips.name(FolderSource(folder, CUT), 1) == "z.mp4@0"
    assert found.clips.numbers({3, 0}) == {3: 1, 0: 0}


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "caption": (
        lambda folder: (folder / "b.txt").write_text("other"),
        r"1 training clip has another caption \(b.mp4@0\)",
    ),
    "no caption": (
        lambda folder: (folder / "b.txt").unlink(),
        r"1 training clip has another caption \(b.mp4@0\)",
    ),
    "video": (
        lambda folder: write_video(folder / "c.mp4", torch.zeros(3, 6, 16, 16), 8),
        r"1 training clip shows something else \(c.mp4@0\)",
    ),
    "gone": (lambda folder: (folder / "d.mp4").unlink(), r"1 training clip is gone \(d.mp4@0\)"),
    "new": (
        lambda folder: write_video(folder / "aa.mp4", torch.zeros(3, 6, 16, 16), 8),
        r"1 training clip is new \(aa.mp4@0\)",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_is_named_and_refused_until_it_is_accepted(again, folder: Path, what: str):
    change, says = CHANGES[what]
    change(folder)
    for _ in range(2):
        with pytest.raises(InputError, match=f"{says}.*--accept-changed-data"):
            again()
    found = again(accept=True)
    assert len(found.changed) == 1
    assert found.clips.counts == (5 if what == "new" else 4,)
    after = again()
    assert after.changed == ()
    assert after.clips.counts == found.clips.counts


def test_clips_that_are_gone_keep_their_numbers_and_do_not_count_once_accepted(again, folder: Path):
    (folder / "b.mp4").unlink()
    found = again(accept=True)
    assert found.clips.places == (0, None, 1, 2)
    assert found.clips.unreadable == (
        Unreadable(1, "b.mp4@0", "its file is gone", Position(), accepted=True),
    )
    stored = {"epoch": 3, "batch_in_epoch": 1, "clips": 4, "seed": 0, "batch": 2}
    assert found.clips.position(stored) == stored
    after = again()
    assert after.clips == found.clips


def test_new_clips_are_counted_from_the_next_epoch_on(again, folder: Path):
    known = Unreadable(2, "c.mp4@0", "damaged", Position(1, 1))
    write_video(folder / "aa.mp4", torch.zeros(3, 6, 16, 16), 8)
    found = again(unreadable=[known], accept=True)
    assert found.clips.places is None
    assert [(one.clip, one.name) for one in found.clips.unreadable] == [(3, "c.mp4@0")]
    stored = {"epoch": 3, "batch_in_epoch": 1, "clips": 4, "seed": 0, "batch": 2}
    assert found.clips.position(stored) == {**stored, "epoch": 4, "batch_in_epoch": 0, "clips": 5}


def test_nobody_asks_back_a_clip_that_the_run_does_without(again, folder: Path):
    known = Unreadable(1, "b.mp4@0", "damaged", Position(2, 1))
    (folder / "b.mp4").unlink()
    found = again(unreadable=[known])
    assert found.changed == ()
    assert found.clips.places == (0, None, 1, 2)
    assert found.clips.unreadable == (known,)


def test_a_file_that_the_scan_skips_counts_as_unreadable(again, folder: Path):
    whole = (folder / "b.mp4").read_bytes()
    (folder / "b.mp4").write_bytes(whole[: len(whole) // 2])
    found = again()
    assert found.changed == ()
    [one] = found.clips.unreadable
    assert (one.clip, one.name, one.accepted) == (1, "b.mp4@0", False)
    assert "its file is gone" not in one.reason


def test_held_out_clips_and_drawn_ones_are_compared_too(again, folder: Path):
    with pytest.raises(InputError, match="the source of held out clips draws others"):
        again(held_out=world(7))
    again(held_out=world(7), accept=True)
    assert again(held_out=world(7)).changed == ()
    with pytest.raises(InputError, match="there are more sources, or fewer"):
        again(Mixture([Part(FolderSource(folder, CUT), 1), Part(world(1), 1)]), held_out=world(7))


def test_parts_of_a_mixture_are_counted_one_behind_the_other(folder: Path, original: Path, tmp_path: Path):
    def data() -> Data:
        parts = [FolderSource(original, CUT), FolderSource(folder, CUT), world(1)]
        return Data(Mixture([Part(part, 1) for part in parts]), world(0))

    record = Record(tmp_path / "clips.jsonl")
    first = recognised(record, data(), (), accept=False)
    assert first.record is not None
    record.write(first.record)
    (folder / "b.mp4").unlink()
    found = recognised(record, data(), (), accept=True)
    assert found.clips.counts == (4, 4, 4)
    assert found.clips.places == (0, 1, 2, 3, 4, None, 5, 6, 7, 8, 9, 10)
    assert [one.clip for one in found.clips.unreadable] == [5]


def test_a_damaged_record_is_a_sentence(again, tmp_path: Path):
    (tmp_path / "clips.jsonl").write_text('[{"of": "trai')
    with pytest.raises(InputError, match=r"clips.jsonl is damaged .* Delete it"):
        again()


def test_what_lies_between_the_ends_of_files_tells_clips_apart_where_it_is_known():
    now = [KnownClip("a", "1", "x", "p"), KnownClip("b", "1", "x", "q"), KnownClip("c", "2", "x", "r")]
    earlier = [clip._replace(inside="") for clip in now]
    assert compare(earlier, now) == compare(now, now)
    assert compare(now, now).places == (0, 1, 2)
    swapped = [now[0]._replace(inside="q"), now[1]._replace(inside="p"), now[2]]
    assert compare(now, swapped).places == (1, 0, 2)
    assert compare(now, swapped).other == ()
    edited = [*now[:2], now[2]._replace(inside="s")]
    assert compare(now, edited).other == ("c",)
    assert compare(now, edited).recaptioned == ()


def test_a_record_without_what_lies_between_ends_is_taken_for_the_same_and_then_has_it(
    again, folder: Path, tmp_path: Path
):
    for name in "abcd":
        with (folder / f"{name}.mp4").open("ab") as file:
            file.write((3 << 20).to_bytes(4, "big") + b"free" + bytes((3 << 20) - 8))
    again(accept=True)
    record = tmp_path / "clips.jsonl"
    heads, *rows = record.read_text().splitlines()
    first = json.loads(heads)
    first[0]["fingerprint"] = "of an earlier version"
    rows = [json.dumps(json.loads(row)[:4]) for row in rows]
    record.write_text("\n".join([json.dumps(first), *rows]) + "\n")
    assert again().changed == ()
    assert again().record is None
    with (folder / "b.mp4").open("r+b") as file:
        file.seek(3 << 19)
        file.write(bytes([1]) * (1 << 20))
    with pytest.raises(InputError, match=r"1 training clip shows something else \(b.mp4@0\)"):
        again()


def test_clips_that_change_places_are_told_by_what_each_says_now():
    was = [KnownClip("a", "1", "x"), KnownClip("b", "2", "y"), KnownClip("c", "3", "z")]
    now = [KnownClip("a", "2", "x"), KnownClip("b", "1", "y"), KnownClip("d", "3", "z")]
    found = compare(was, now)
    assert found.places == (1, 0, 2)
    assert found.recaptioned == ("b", "a")
    assert (found.gone, found.added, found.other) == ((), (), ())
