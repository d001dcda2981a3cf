"""A source in pieces: every clip once, whoever encodes it, and nothing lost of what is whole."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch

from vdit.data.decode import UnreadableVideo
from vdit.data.latents import LatentCache
from vdit.data.pieces import PIECE_VALUES, JoinedLatents, compute_apart, pieces_of
from vdit.data.subset import Subset
from vdit.data.unreadable import UnreadableClip
from vdit.types import Clip, ClipBatch

CLIPS, VALUES = 11, 3 * 2 * 4 * 4


class Noise:
    """Random clips; `read` are the numbers of those that were asked for, `bad` cannot be read."""

    fingerprint = "noise"

    def __init__(self, count: int = CLIPS, bad: Sequence[int] = ()) -> None:
        self.count, self.bad, self.read = count, bad, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        self.read.append(index)
        if index in self.bad:
            raise UnreadableVideo(f"{index}.mp4", "damaged")
        pixels = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(index))
        return Clip(f"clip {index}", pixels, 8.0, self.caption(index))

    def caption(self, index: int) -> str:
        return f"number {index}"


def halved(batch: ClipBatch) -> torch.Tensor:
    assert batch.pixels is not None
    return batch.pixels[..., ::2]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clips a piece."""
    monkeypatch.setattr("vdit.data.pieces.pieces_of", lambda source: pieces_of(source, 3 * VALUES))


def apart(folder: Path, source: Noise, rank: int = 0, world: int = 1, meet=lambda: None) -> JoinedLatents:
    wanted = {"latents": ("v1", halved)}
    return compute_apart(LatentCache(folder), source, wanted, 2, lambda *_: None, rank, world, meet)[
        "latents"
    ]


def whole(found: JoinedLatents) -> None:
    """All clips, in their order."""
    assert len(found) == CLIPS
    for i in range(CLIPS):
        clip = Noise()[i]
        assert (found[i].id, found[i].caption) == (clip.id, clip.caption)
        assert torch.equal(found[i].latents, clip.pixels[..., ::2])
    with pytest.raises(IndexError):
        found[CLIPS]


def test_pieces_are_the_source_cut():
    source = Noise()
    pieces = pieces_of(source, 3 * VALUES)
    assert [len(piece) for piece in pieces] == [3, 3, 3, 2]
    assert [clip.id for piece in pieces for clip in (piece[i] for i in range(len(piece)))] == [
        f"clip {i}" for i in range(CLIPS)
    ]
    assert pieces[1].caption(1) == "number 4"
    assert len({piece.fingerprint for piece in pieces} | {source.fingerprint}) == 5
    with pytest.raises(IndexError):
        pieces[3][2]
    assert [len(piece) for piece in pieces_of(source, 1)] == [1] * CLIPS
    assert pieces_of(source) == [source]  # as caches of small sources have always been
    assert CLIPS * VALUES < PIECE_VALUES
    assert pieces_of(Noise(0)) != []


def test_one_process_makes_all(tmp_path: Path):
    whole(apart(tmp_path, Noise()))
    again = Noise()
    whole(apart(tmp_path, again))
    assert again.read == [0]  # for its size


@pytest.mark.parametrize("world", [2, 5])
def test_processes_make_each_clip_once(tmp_path: Path, world: int):
    sources, found, meeting = [Noise() for _ in range(world)], {}, Barrier(world)

    def work(rank: int) -> None:
        found[rank] = apart(tmp_path, sources[rank], rank, world, meeting.wait)

    threads = [Thread(target=work, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(world):
        whole(found[rank])
    assert sorted(n for source in sources for n in source.read[1:]) == list(range(CLIPS))


def test_without_a_shared_folder_each_makes_all(tmp_path: Path):
    for rank in range(2):
        source = Noise()
        whole(apart(tmp_path / str(rank), source, rank, 2))
        assert sorted(source.read[1:]) == list(range(CLIPS))


def test_what_is_whole_outlives_what_is_not(tmp_path: Path):
    class Broken(Noise):
        def __getitem__(self, index: int) -> Clip:
            if index == 7:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        apart(tmp_path, Broken())
    source = Noise()
    whole(apart(tmp_path, source))
    assert source.read[1:] == list(range(6, CLIPS))


def test_a_piece_of_another_source_is_another():
    class Other(Noise):
        fingerprint = "other"

    assert Subset(Noise(), range(3)).fingerprint != Subset(Other(), range(3)).fingerprint


def test_a_piece_is_kept_under_the_name_that_caches_have():
    name = hashlib.sha256(b"noise 3 6").hexdigest()
    assert pieces_of(Noise(), 3 * VALUES)[1].fingerprint == name


@pytest.mark.parametrize("bad", [[4], [0, 5], [3, 4, 5, 10]])
def test_clips_that_cannot_be_read_are_missing_and_the_others_are_where_they_were(
    tmp_path: Path, bad: list[int]
):
    latents = apart(tmp_path, Noise(bad=bad))
    assert len(latents) == CLIPS
    assert latents.missing.keys() == set(bad)
    whole = Noise()
    for number in range(CLIPS):
        if number in bad:
            with pytest.raises(UnreadableClip, match="not encoded: No such file or directory"):
                latents[number]
        else:
            assert torch.equal(latents[number].latents, whole[number].pixels[..., ::2])


def test_a_clip_that_is_mended_is_encoded_with_its_piece_alone(tmp_path: Path):
    apart(tmp_path, Noise(bad=[4, 7]))
    again = Noise(bad=[4, 7])
    assert apart(tmp_path, again).missing.keys() == {4, 7}
    assert set(again.read) == {0, 4, 7}  # the first tells the shape, the others are tried
    mended = Noise(bad=[7])
    latents = apart(tmp_path, mended)
    assert latents.missing.keys() == {7}
    assert torch.equal(latents[4].latents, Noise()[4].pixels[..., ::2])
    assert set(mended.read) == {0, 3, 4, 5, 7}
