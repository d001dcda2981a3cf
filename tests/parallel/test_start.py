from pathlib import Path

import pytest
from ranks import run_ranks

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")

import start_work


def test_ranks_that_share_weights_begin_with_those_of_one_process(tmp_path: Path):
    start_work.lay_out(tmp_path / "backbone")
    run_ranks(start_work.begin, 2, tmp_path, tmp_path / "backbone")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks of memory")
@pytest.mark.slow
def test_no_rank_but_the_first_has_the_whole_model_in_memory(tmp_path: Path):
    run_ranks(start_work.remember, 2, tmp_path)
