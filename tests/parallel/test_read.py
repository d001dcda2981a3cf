from pathlib import Path

import pytest
import verify_work
from ranks import run_ranks


def test_ranks_share_the_pieces_and_all_refuse_with_the_same_sentence(tmp_path: Path):
    (tmp_path / "step_00000001").mkdir()
    run_ranks(verify_work.damage, 4, tmp_path, tmp_path / "step_00000001")


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_a_rank_reads_the_weights_and_its_share_of_all_else(world: int, tmp_path: Path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    import read_work

    run_ranks(read_work.volumes, world, tmp_path, tmp_path)
