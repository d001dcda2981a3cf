from pathlib import Path

import pytest
from ranks import run_ranks
from sequence_work import alike, refused, say

from vdit.parallel.sequence import SequenceGroup


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_that_share_a_clip_do_what_one_does(world: int, tmp_path: Path):
    run_ranks(alike, world, tmp_path)


def test_what_cannot_be_shared_is_refused(tmp_path: Path):
    run_ranks(refused, 3, tmp_path)


def test_a_clip_that_ranks_share_is_told_once(tmp_path: Path):
    run_ranks(say, 4, tmp_path)


@pytest.mark.parametrize(("n", "size", "parts"), [(8, 4, [2, 2, 2, 2]), (10, 4, [3, 3, 2, 2]), (3, 1, [3])])
def test_parts_are_as_even_as_can_be(n: int, size: int, parts: list[int]):
    assert SequenceGroup(None, 0, size).parts(n) == parts
    spans = [SequenceGroup(None, rank, size).span(n) for rank in range(size)]
    assert [stop - start for start, stop in spans] == parts
    assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
