import signal
from pathlib import Path

import pytest
import ranks
import torch.multiprocessing as mp
from ranks import run_ranks

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")

import save_work


def test_every_stage_writes_the_files_of_one_process(tmp_path: Path):
    run_ranks(save_work.files, 2, tmp_path, tmp_path)


@pytest.mark.slow
def test_nothing_is_gathered_to_save(tmp_path: Path):
    run_ranks(save_work.bounded, 2, tmp_path, tmp_path)


def test_a_process_that_dies_in_a_save_is_not_waited_for(tmp_path: Path):
    args = (save_work.gone, 2, str(tmp_path / "store"), (tmp_path,))
    context = mp.get_context("spawn")
    processes = [context.Process(target=ranks._begin, args=(rank, *args)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert processes[1].exitcode == -signal.SIGKILL
    assert float((tmp_path / "told").read_text()) < 20  # of the 60 that it would wait for a slow one
