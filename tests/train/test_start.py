"""Beginning with another run."""

from pathlib import Path

import torch
from torch import nn

from vdit.train.checkpoint import Checkpoint
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start
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
