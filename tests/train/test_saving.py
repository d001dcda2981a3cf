"""Several processes write one checkpoint; here each is a thread with a part of its own."""

import errno
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, get_ident

import pytest
import torch

from vdit.train.checkpoint import Checkpoint
from vdit.train.manifest import Piece, read_manifest
from vdit.train.saving import Part, Saved, Saving, Writers
from vdit.types import InputError
from vdit.weights.files import DiskError, read_tensors
from vdit.weights.slices import Slice
from vdit.weights.source import Entry

WORLD, LENGTH = 3, 10
WHOLE = torch.arange(LENGTH * WORLD).float()


def part_of(rank: int, step: int = 4) -> Saved:
    mine = Slice("a", rank * LENGTH, WHOLE[rank * LENGTH : (rank + 1) * LENGTH])
    file = Part({"a": Entry((WORLD, LENGTH), torch.float32)}, [mine])
    return Saved({"model.safetensors": file}, {"progress.json": {"step": step}}, step)


def begun(folder: Path, attempt: int = 1, session: str = "s", patience: float = 20.0) -> list[Saving]:
    return [
        Saving(folder / "step_00000004", attempt, Writers(rank, WORLD, session, patience=patience))
        for rank in range(WORLD)
    ]


def ended(pool: ThreadPoolExecutor, savings: list[Saving]) -> list[BaseException | None]:
    """What every rank raised."""
    running = [pool.submit(saving.run, part_of(rank)) for rank, saving in enumerate(savings)]
    return [each.exception(timeout=30) for each in running]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(WORLD) as threads:
        yield threads


def check(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["step_00000004"]
    checkpoint = Checkpoint(folder / "step_00000004", 4)
    checkpoint.verify()
    assert sorted(path.name for path in checkpoint.path.iterdir()) == [
        "manifest.json", "model.safetensors", "progress.json"
    ]  # fmt: skip
    assert torch.equal(read_tensors(checkpoint.weights)["a"].reshape(-1), WHOLE)
    assert json.loads((checkpoint.path / "progress.json").read_text()) == {"step": 4}


def test_all_parts_are_there_before_it_is_a_checkpoint(pool, tmp_path: Path):
    savings, late = begun(tmp_path), Event()
    savings[2].ready = lambda: late.wait(20)
    running = [pool.submit(saving.run, part_of(rank)) for rank, saving in enumerate(savings)]
    with pytest.raises(TimeoutError):
        running[0].result(timeout=0.3)
    assert not (tmp_path / "step_00000004").exists()
    late.set()
    assert [each.exception(timeout=30) for each in running] == [None] * WORLD
    check(tmp_path)


def test_every_piece_is_digested_by_one(pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.train.manifest.LENGTH", 16)
    digested: list[tuple[int, Piece]] = []
    digest = Piece.digest

    def noted(piece: Piece, folder: Path) -> str:
        digested.append((get_ident(), piece))
        return digest(piece, folder)

    with monkeypatch.context() as patched:
        patched.setattr(Piece, "digest", noted)
        assert ended(pool, begun(tmp_path)) == [None] * WORLD
    check(tmp_path)
    stated = [stated.piece for stated in read_manifest(tmp_path / "step_00000004")]
    assert len(stated) > 10
    assert sorted(piece for _, piece in digested) == sorted(stated)
    shares = Counter(thread for thread, _ in digested)
    assert len(shares) == WORLD
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("failing", [0, 2])
def test_one_that_cannot_read_its_share_ends_the_save_for_all(
    pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
):
    savings = begun(tmp_path)

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(savings[failing], "_digested", unreadable)
    errors = ended(pool, savings)
    assert "could not be written to" in str(errors[failing])
    assert all(isinstance(error, DiskError) for error in errors)  # which may pass, so the run may start again
    for rank in {0, 1, 2} - {failing}:
        assert f"rank {failing} could not save its part" in str(errors[rank])
    assert not (tmp_path / "step_00000004").exists()


@pytest.mark.parametrize("failing", [0, 2])
def test_one_that_fails_ends_the_save_for_all_with_its_words(pool, tmp_path: Path, failing: int):
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    savings = begun(tmp_path)
    savings[failing].ready = full
    errors = ended(pool, savings)
    for rank, error in enumerate(errors):
        assert isinstance(error, InputError)
        assert str(error).startswith("the disk is full") is (rank == failing)
        assert f"rank {failing} could not save its part: the disk is full" in str(error) or rank == failing
        assert "No checkpoint was harmed" in str(error)
    assert not (tmp_path / "step_00000004").exists()
    assert ended(pool, begun(tmp_path, attempt=2)) == [None] * WORLD  # and sweeps up
    check(tmp_path)


def test_a_fault_of_ours_ends_it_for_all_too(pool, tmp_path: Path):
    savings = begun(tmp_path)
    savings[1].ready = lambda: 1 / 0
    errors = ended(pool, savings)
    assert isinstance(errors[1], ZeroDivisionError)
    for rank in (0, 2):
        assert "rank 1 could not save its part: division by zero" in str(errors[rank])


def test_one_that_does_not_come_is_named_and_not_waited_for_any_longer(pool, tmp_path: Path):
    savings = begun(tmp_path, patience=0.3)
    running = [pool.submit(saving.run, part_of(rank)) for rank, saving in enumerate(savings[:2])]
    told = [str(each.exception(timeout=30)) for each in running]
    assert "rank 0 waited for rank 2 in vain" in told[0]
    assert "rank 0 could not save its part" in told[1]
    assert "rank 0 waited for rank 2 in vain" in told[1]


def test_one_that_ends_with_an_error_waits_for_little(pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.train.saving.HURRIED", 0.2)
    saving = begun(tmp_path, patience=1000)[0]
    running = pool.submit(saving.run, part_of(0))
    with pytest.raises(TimeoutError):
        running.result(timeout=0.3)
    saving.hurry()
    assert "waited for rank 1, 2 in vain" in str(running.exception(timeout=30))


def test_parts_of_a_session_that_was_killed_are_not_taken_for_those_of_this_one(pool, tmp_path: Path):
    """Two of its ranks were done; the same step is saved again."""
    for rank in (1, 2):
        saving = begun(tmp_path, session="killed", patience=0.0)[rank]
        with pytest.raises(InputError, match="in vain"):
            saving.run(Saved({}, {}, 4))
    for note in tmp_path.glob("*.failed"):
        note.unlink()
    left = tmp_path / ".writing_step_00000004_killed_1"
    assert sorted(path.name for path in (left / "words").iterdir()) == ["done_1", "done_2"]
    savings, late = begun(tmp_path, session="next"), Event()
    savings[1].ready = lambda: late.wait(20)
    running = [pool.submit(saving.run, part_of(rank)) for rank, saving in enumerate(savings)]
    with pytest.raises(TimeoutError):
        running[0].result(timeout=0.3)
    late.set()
    assert [each.exception(timeout=30) for each in running] == [None] * WORLD
    check(tmp_path)
