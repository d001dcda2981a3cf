from pathlib import Path

import pytest
import shared_states
from ranks import run_ranks


@pytest.mark.slow
def test_states_of_zero_are_what_deepspeed_holds(tmp_path: Path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    run_ranks(shared_states.states, 2, tmp_path)


def test_ranks_with_copies_have_buckets_beside_their_gradients(tmp_path: Path):
    run_ranks(shared_states.copies, 2, tmp_path)


def test_ranks_that_share_tokens_keep_what_was_planned(tmp_path: Path):
    run_ranks(shared_states.kept, 2, tmp_path)
