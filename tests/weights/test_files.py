import stat
from pathlib import Path

import pytest
import torch

from vdit.weights.files import read_tensors, save_tensors


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o770, 0o660), (0o700, 0o600)])
def test_whoever_may_read_a_folder_may_read_the_weights_in_it(tmp_path: Path, folder: int, file: int):
    tmp_path.chmod(folder)
    save_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == file
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["a"], torch.ones(2))
