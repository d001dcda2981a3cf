"""Edit lists of several entries: the frames that a player shows, or a refusal by name."""

import struct
from pathlib import Path

import pytest
from numbered import numbers_of, write

from vdit.data.decode import UnreadableVideo, open_video, probe

RATE = 30


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames, some of them shown in another order than they are stored in."""
    return write(tmp_path_factory.mktemp("plain") / "a.mp4", 60, RATE, options={"bf": "3", "crf": "12"})


def box(data: bytes | bytearray, *kinds: bytes) -> int:
    """Where the box begins that is reached by going down through boxes of these kinds."""
    at, end = 0, len(data)
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] != kinds[0]:
            at += size
        elif len(kinds) == 1:
            return at
        else:
            at, end, kinds = at + 8, at + size, kinds[1:]
    raise AssertionError(kinds)


def edited(plain: Path, path: Path, *edits: tuple[int, int | None, float], version: int = 0) -> Path:
    """The same with an edit list of (frames to play, the first of them or nothing, speed)."""
    data = bytearray(plain.read_bytes())  # whose index stands at the end, so that no place in it changes
    (movie,) = struct.unpack_from(">I", data, box(data, b"moov", b"mvhd") + 20)
    (media,) = struct.unpack_from(">I", data, box(data, b"moov", b"trak", b"mdia", b"mdhd") + 20)
    old = box(data, b"moov", b"trak", b"edts")
    (begin,) = struct.unpack_from(">i", data, old + 8 + 20)  # the stamp of the first frame
    entries = b"".join(
        struct.pack(
            ">Qqi" if version else ">Iii",
            count * movie // RATE,
            -1 if first is None else begin + first * media // RATE,
            round(speed * 65536),
        )
        for count, first, speed in edits
    )
    elst = struct.pack(">I4sB3xI", 16 + len(entries), b"elst", version, len(edits)) + entries
    new = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    (size,) = struct.unpack_from(">I", data, old)
    for outer in ((b"moov",), (b"moov", b"trak")):
        at = box(data, *outer)
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(new) - size)
    data[old : old + size] = new
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("edits", "numbers"),
    [
        ([(15, 0, 1), (15, 30, 1)], [*range(15), *range(30, 45)]),
        ([(15, 30, 1), (15, 0, 1)], [*range(30, 45), *range(15)]),
        ([(15, 15, 1), (15, 15, 1)], [*range(15, 30), *range(15, 30)]),
        ([(30, None, 1), (30, 15, 1)], [*range(15, 45)]),
        ([(150, 30, 1)], [*range(30, 60)]),
    ],
    ids=["two parts", "in another order", "one part twice", "begins later", "ends behind the end"],
)
def test_parts_are_played_one_after_the_other(plain, tmp_path, edits, numbers, version):
    video = open_video(edited(plain, tmp_path / "a.mp4", *edits, version=version))
    assert numbers_of(video.read(0, video.table.info.frames)) == numbers
    assert float(video.table.info.fps) == RATE
    place = len(numbers) - 3
    assert numbers_of(video.read(place, 3)) == numbers[place:]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([(15, 0, 1), (30, None, 1), (15, 15, 1)], "gap without pictures"),
        ([(30, 15, 0)], "0 times its speed"),
        ([(15, 0, 1), (30, 15, 0.5)], r"0\.5 times its speed"),
    ],
    ids=["a gap", "one frame held", "slow motion"],
)
def test_parts_that_would_be_played_otherwise_are_refused_by_name(plain, tmp_path, edits, reason, version):
    path = edited(plain, tmp_path / "a.mp4", *edits, version=version)
    with pytest.raises(UnreadableVideo, match=reason):
        probe(path)


def test_a_file_that_ends_within_its_boxes_is_refused_by_name(plain, tmp_path):
    data = edited(plain, tmp_path / "a.mp4", (15, 0, 1), (15, 30, 1)).read_bytes()
    short = tmp_path / "short.mp4"
    for end in range(box(data, b"moov"), box(data, b"moov", b"udta"), 97):
        short.write_bytes(data[:end])
        with pytest.raises(UnreadableVideo):
            probe(short)
