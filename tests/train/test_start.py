"""Beginning with another run."""

from pathlib import Path

import pytest
import torch
from torch import nn

from vdit.train.checkpoint import Checkpoint
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start
from vdit.types import InputError
from vdit.weights.files import save_tensors


def test_weights_that_are_not_trained_come_from_beside_the_average(tmp_path: Path):
    theirs, own = nn.Linear(3, 2), nn.Linear(3, 2)
    for module in (theirs, own):
        module.bias.requires_grad_(False)
    start = Start(RunFolder(tmp_path), Checkpoint(tmp_path / "step_00000001", 1))
    state = {name: p.detach() for name, p in theirs.named_parameters()}
    start.checkpoint.path.mkdir()
    save_tensors(state, start.checkpoint.weights)
    save_tensors({"weight": state["weight"] + 1}, start.checkpoint.average)
    start.require(own)
    sources = start.whole(own)
    torch.testing.assert_close(sources["weight"].tensor("weight"), theirs.weight + 1)
    torch.testing.assert_close(sources["bias"].tensor("bias"), theirs.bias)


def test_weights_of_something_else_are_refused_by_what_they_are(tmp_path: Path):
    start = Start(RunFolder(tmp_path), Checkpoint(tmp_path / "step_00000001", 1))
    start.checkpoint.path.mkdir()
    save_tensors({"to_code": torch.zeros(2, 3)}, start.checkpoint.average)
    with pytest.raises(InputError, match="trained something else: none of its tensors has a name of this"):
        start.require(nn.Linear(3, 2))
