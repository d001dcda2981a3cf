import hashlib
import json
from pathlib import Path

import pytest

from vdit.train.checkpoint import Checkpoint
from vdit.train.manifest import LENGTH, pieces_of, read_manifest, seal, share
from vdit.types import InputError

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "docs/reproduce/room_conditions/checkpoints/step_00005500"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of ten bytes."""
    monkeypatch.setattr("vdit.train.manifest.LENGTH", 10)


@pytest.fixture
def sealed(short: None, tmp_path: Path) -> Checkpoint:
    """Files of 25, 20 and 0 bytes."""
    (tmp_path / "a").write_bytes(bytes(range(25)))
    (tmp_path / "b").write_bytes(bytes(range(20)))
    (tmp_path / "c").touch()
    seal(tmp_path, 7)
    return Checkpoint(tmp_path, 7)


def test_every_byte_is_in_one_piece(short: None):
    found = [(piece.file, piece.start, piece.length) for piece in pieces_of({"a": 25, "b": 20, "c": 0})]
    assert found == [("a", 0, 10), ("a", 10, 10), ("a", 20, 5), ("b", 0, 10), ("b", 10, 10), ("c", 0, 0)]


@pytest.mark.parametrize("world", [1, 2, 5, 6, 9])
def test_shares_are_equal_and_every_piece_is_in_one(world: int):
    shares = [share(range(23), rank, world) for rank in range(world)]
    assert sorted(item for own in shares for item in own) == list(range(23))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_manifest_states_each_piece(sealed: Checkpoint):
    told = json.loads((sealed.path / "manifest.json").read_text())
    assert told["step"] == 7
    assert told["files"]["a"] == {
        "bytes": 25,
        "piece": 10,
        "sha256": [
            hashlib.sha256(bytes(part)).hexdigest() for part in (range(10), range(10, 20), range(20, 25))
        ],
    }
    assert [stated.piece for stated in read_manifest(sealed.path)] == pieces_of({"a": 25, "b": 20, "c": 0})
    sealed.verify()


def test_a_file_of_one_piece_has_the_digest_of_the_file(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"some")
    seal(tmp_path, 1)
    told = json.loads((tmp_path / "manifest.json").read_text())["files"]["a"]
    assert told == {"bytes": 4, "piece": LENGTH, "sha256": [hashlib.sha256(b"some").hexdigest()]}


def test_checkpoints_whose_files_were_stated_as_wholes_are_read():
    told = json.loads((SHARED / "manifest.json").read_text())["files"]
    found = read_manifest(SHARED)
    assert [(s.piece.file, s.piece.length, s.sha256) for s in found] == [
        (name, stated["bytes"], stated["sha256"]) for name, stated in told.items()
    ]
    Checkpoint(SHARED, 5500).verify()


@pytest.mark.parametrize("wrong", ["", "{}", "[]", '{"files": []}', '{"files": {"a": {"bytes": 25}}}'])
def test_a_manifest_that_cannot_be_read_is_damaged(sealed: Checkpoint, wrong: str):
    (sealed.path / "manifest.json").write_text(wrong)
    with pytest.raises(InputError, match=r"manifest.json is damaged or missing: delete"):
        sealed.verify()


@pytest.mark.parametrize("count", [2, 4])
def test_a_manifest_must_state_all_of_a_file(sealed: Checkpoint, count: int):
    """One that lost digests would call what they stood for whole."""
    told = json.loads((sealed.path / "manifest.json").read_text())
    told["files"]["a"]["sha256"] = (told["files"]["a"]["sha256"] * 2)[:count]
    (sealed.path / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"manifest.json is damaged or missing: delete"):
        sealed.verify()
