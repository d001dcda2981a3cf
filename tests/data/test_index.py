import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moving_waves import moving_waves

from vdit.data import index
from vdit.data.cut import ClipCut
from vdit.data.folder import FolderSource
from vdit.data.index import index_file, indexed, read_index, write_index
from vdit.data.listing import ListSource
from vdit.data.scanned import SETTLED_NS, Scanned, scan_file
from vdit.data.select import select
from vdit.sample.video_file import write_video
from vdit.types import InputError

MEDIA = Path(__file__).parents[3] / "shared/media"
CUT = ClipCut(frames=3, height=16, width=16)
EARLIER_NS = 10 * SETTLED_NS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos, written some time ago."""
    made = tmp_path / "videos"
    made.mkdir()
    for number in range(3):
        write_video(made / f"{number}.mp4", moving_waves(6 + number, 16, 16), 8)
        settle(made / f"{number}.mp4")
    return made


def settle(file: Path, earlier_ns: int = EARLIER_NS) -> None:
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns - earlier_ns))


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are looked into."""
    names: list[str] = []

    def watched(path: Path, *args: Any) -> Scanned:
        names.append(path.name)
        return scan_file(path, *args)

    monkeypatch.setattr(index, "scan_file", watched)
    return names


def test_what_was_found_comes_back(tmp_path: Path):
    files = [file for file in sorted(MEDIA.iterdir()) if file.suffix != ".md"]
    assert len(files) > 10
    found = indexed(files, tmp_path / "index.parquet", "pyav", verify=False, threads=2)
    back = read_index(tmp_path / "index.parquet")
    for file in files:
        ours, theirs = back[file.absolute()], found[file]
        for name in ("path", "size", "modified_ns", "scanned_ns", "content", "unusable"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert (ours.table is None) == (theirs.table is None) == bool(theirs.unusable)
        if ours.table is not None and theirs.table is not None:
            assert ours.table.info == theirs.table.info
            assert (ours.table.sought, ours.table.videos) == (theirs.table.sought, theirs.table.videos)
            np.testing.assert_array_equal(ours.table.pts, theirs.table.pts)
            np.testing.assert_array_equal(ours.table.times, theirs.table.times)
            assert ours.table.pts.dtype == np.int64


def test_a_second_start_looks_into_no_file(folder: Path, scanned: list[str]):
    first = FolderSource(folder, CUT)
    assert sorted(scanned) == ["0.mp4", "1.mp4", "2.mp4"]
    second = FolderSource(folder, CUT)
    assert len(scanned) == 3
    assert second.fingerprint == first.fingerprint
    assert second[4].pixels.equal(first[4].pixels) if len(first) > 4 else second[2].id == first[2].id
    FolderSource(folder, ClipCut(frames=5, height=32, width=16))  # what is cut does not matter
    assert len(scanned) == 3


def test_only_what_is_new_is_looked_into(folder: Path, scanned: list[str]):
    FolderSource(folder, CUT)
    scanned.clear()
    (folder / "0.mp4").rename(folder / "renamed.mp4")
    settle(folder / "1.mp4", EARLIER_NS)  # touched
    write_video(folder / "2.mp4", moving_waves(9, 16, 16), 8)
    write_video(folder / "3.mp4", moving_waves(4, 16, 16), 8)
    source = FolderSource(folder, CUT)
    assert sorted(scanned) == ["2.mp4", "3.mp4"]
    assert {source.id(i).split("@")[0] for i in range(len(source))} == {
        *("1.mp4", "2.mp4", "3.mp4", "renamed.mp4")
    }
    (folder / "3.mp4").unlink()
    FolderSource(folder, CUT)
    assert {file.name for file in read_index(index_file(folder, "pyav", False))} == {
        *("1.mp4", "2.mp4", "renamed.mp4")
    }


def test_a_file_that_was_just_written_is_looked_at_again(folder: Path, scanned: list[str]):
    """Within one tick of its file system's clock a file may change twice."""
    write_video(folder / "1.mp4", moving_waves(9, 16, 16), 8)
    stat = (folder / "1.mp4").stat()
    FolderSource(folder, CUT)
    scanned.clear()
    (folder / "1.mp4").write_bytes(bytes(stat.st_size))
    os.utime(folder / "1.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "1.mp4" in [name for name, _ in FolderSource(folder, CUT).report.skipped]


def test_every_frame_is_decoded_once_where_that_is_asked(folder: Path, scanned: list[str]):
    shutil.copyfile(folder / "2.mp4", folder / "copy.mp4")
    settle(folder / "copy.mp4")
    for _ in range(2):
        FolderSource(folder, CUT, verify=True)
        assert sorted(scanned) == ["0.mp4", "1.mp4", "2.mp4", "copy.mp4"]
    FolderSource(folder, CUT)  # which is another index: of this one nothing was decoded
    assert len(scanned) == 8


def test_what_cannot_be_used_is_told_again_and_what_may_pass_is_looked_at_again(
    folder: Path, scanned: list[str], monkeypatch: pytest.MonkeyPatch
):
    (folder / "1.mp4").write_bytes(b"no video")
    settle(folder / "1.mp4")
    why = FolderSource(folder, CUT).report.skipped
    assert [name for name, _ in why] == ["1.mp4"]
    assert FolderSource(folder, CUT).report.skipped == why
    assert len(scanned) == 3

    def failing(path: Path, *_: Any) -> Scanned:
        return Scanned(path, unusable="it cannot be read (Input/output error)")

    write_video(folder / "3.mp4", moving_waves(4, 16, 16), 8)
    settle(folder / "3.mp4")
    with monkeypatch.context() as disk:
        disk.setattr(index, "scan_file", failing)
        assert len(FolderSource(folder, CUT).report.skipped) == 2
    assert len(FolderSource(folder, CUT).report.skipped) == 1


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1 and something else PAR1"])
def test_a_damaged_index_costs_another_scan(damage: bytes, folder: Path, scanned: list[str]):
    FolderSource(folder, CUT)
    index_file(folder, "pyav", False).write_bytes(damage)
    assert len(FolderSource(folder, CUT).report.skipped) == 0
    assert len(scanned) == 6
    FolderSource(folder, CUT)
    assert len(scanned) == 6


def test_where_nothing_can_be_kept_the_files_are_looked_into(folder: Path, cache: Path, scanned: list[str]):
    cache.write_text("a file where the folder should be")
    for count in (3, 6):
        assert len(FolderSource(folder, CUT)) == 3
        assert len(scanned) == count


def test_who_asks_at_the_same_time_waits(folder: Path, scanned: list[str]):
    threads = [threading.Thread(target=FolderSource, args=(folder, CUT)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scanned) == ["0.mp4", "1.mp4", "2.mp4"]


def test_a_writer_that_is_killed_leaves_the_index_whole(folder: Path, monkeypatch: pytest.MonkeyPatch):
    FolderSource(folder, CUT)
    file = index_file(folder, "pyav", False)
    before = file.read_bytes()
    monkeypatch.setattr(index, "sync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_index(file, [])
    assert file.read_bytes() == before
    assert [path.suffix for path in sorted(file.parent.iterdir())] == [".lock", ".parquet"]


def test_videos_are_chosen_by_what_is_in_them(folder: Path):
    chosen = FolderSource(folder, CUT, where="frames >= 7 and name <> '2.mp4'")
    assert [chosen.id(i) for i in range(len(chosen))] == ["1.mp4@0"]
    report = chosen.report
    assert report.seen == report.used + len(report.skipped) + len(report.not_understood) == 3
    assert {why for _, why in report.skipped} == {"left out by where: frames >= 7 and name <> '2.mp4'"}
    assert chosen.fingerprint != FolderSource(folder, CUT).fingerprint
    with pytest.raises(InputError, match=r"none of the 3 videos .* left out by where: fps > 100"):
        FolderSource(folder, CUT, where="fps > 100")


def test_videos_are_chosen_by_the_columns_of_their_list(folder: Path):
    listing = folder / "list.csv"
    listing.write_text("video,caption,motion,Text Area\n0.mp4,a,3,0.01\n1.mp4,b,nan,0\n2.mp4,c,2.5,0.5\n")
    chosen = ListSource(listing, CUT, where='motion > 2 and "Text Area" < 0.02')
    assert [chosen.caption(i) for i in range(len(chosen))] == ["a"]
    with pytest.raises(InputError, match=r"'moton' cannot|moton.* columns are .*motion"):
        ListSource(listing, CUT, where="moton > 2")


ROWS = [{"a": 1, "b": "x", "n": "3"}, {"a": 2.5, "n": "nan"}, {"b": "1e3", "n": "", "c": True}]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a > 1", [False, True, False]),
        ("a IS NULL", [False, False, True]),
        ("n > 2", [True, False, False]),  # what is no number is not above all numbers
        ("b like 'x%' or c", [True, False, True]),
        ("A >= 1 AND lower(B) = 'x'", [True, False, False]),
    ],
)
def test_a_condition_holds_where_all_it_asks_for_is_there(where: str, expected: list[bool]):
    assert select(ROWS, where) == expected


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("a >", "cannot be understood"),
        ("d > 1", r"d.*the columns are a, b, n, c"),
        ("a", "is no condition"),
        ("unnest([true, true])", "not one each"),
        ("sum(a) > 1", "cannot be understood"),
        ("true; drop table clips", "cannot be understood"),
        ("(select count(*) from read_csv('/etc/passwd')) > 0", "disabled by configuration"),
        ("", "is no condition"),
    ],
)
def test_what_is_no_condition_is_refused(where: str, why: str):
    with pytest.raises(InputError, match=why):
        select(ROWS, where)
