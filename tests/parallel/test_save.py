from pathlib import Path

import pytest
from ranks import run_ranks

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")

import save_work


def test_every_stage_writes_the_files_of_one_process(tmp_path: Path):
    run_ranks(save_work.files, 2, tmp_path, tmp_path)


def test_nothing_is_gathered_to_save(tmp_path: Path):
    run_ranks(save_work.bounded, 2, tmp_path, tmp_path)
