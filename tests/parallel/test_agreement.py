from pathlib import Path

from agreement_work import agree
from ranks import run_ranks

from vdit.parallel.agreement import Agreement


def test_one_process_is_told_at_once():
    agreement = Agreement(1)
    assert [agreement.highest(value) for value in (0, 2, 1)] == [0, 2, 1]


def test_ranks_are_told_the_highest_of_the_call_before(tmp_path: Path):
    run_ranks(agree, 2, tmp_path)
