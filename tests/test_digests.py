import hashlib
from pathlib import Path

import pytest

from vdit.digests import blocks, file_digest


def test_digest_of_large_file_sees_a_change_of_every_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.digests._WHOLE_BYTES", 1000)
    monkeypatch.setattr("vdit.digests._WINDOW_BYTES", 10)
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(100_000))
    before = file_digest(file)
    for place in (0, 99_999):
        changed = bytearray(100_000)
        changed[place] = 1
        file.write_bytes(changed)
        assert file_digest(file) != before
    file.write_bytes(bytes(100_001))
    assert file_digest(file) != before


def test_a_small_file_is_hashed_whole(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"some")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"some").hexdigest()


@pytest.mark.parametrize(
    ("start", "stop", "starts"),
    [(0, 100, {0: 6, 47: 6, 94: 6}), (10, 28, {10: 18}), (10, 29, {10: 6, 16: 6, 23: 6}), (10, 5, {10: 0})],
)
def test_blocks_are_spread_evenly_from_end_to_end(
    tmp_path: Path, start: int, stop: int, starts: dict[int, int]
):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    with (tmp_path / "a").open("rb") as file:
        found = list(blocks(file, start, stop, count=3, length=6))
    assert found == [bytes(range(at, at + length)) for at, length in starts.items()]
