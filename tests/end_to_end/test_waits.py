"""A step in its steady state reads nothing from the device."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vdit.commands import train
from vdit.parallel.engine import Engine
from vdit.train import loop
from vdit.train.state import TrainState

STEADY = {"codec_config": 6, "adversarial_config": 6, "flow_config": 24}
"""Steps after which embeddings and latents are read from memory: a caption is hidden in some epochs."""

COUNTED = {"codec_config": 18, "adversarial_config": 6, "flow_config": 34}
"""Steps that are looked at after these."""

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2"}
"""Operations whose result, or its size, the host must know before it goes on."""


class Reads(TorchDispatchMode):
    """Counts what would make the host wait, had the tensors been on a device.

    Attributes:
        after: steps that are not looked at.
        steps: those that were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.after = self.steps = 0
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in READS or by_mask:
            self.found[name] += 1
        return func(*args, **kwargs or {})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """What optimiser steps read once they are steady, as on a device that the host runs ahead of."""
    reads, optimise = Reads(), loop.optimise

    def counted(state: TrainState, *args: Any) -> Any:
        steady = state.step >= reads.after
        reads.steps += steady
        with reads if steady else nullcontext():
            return optimise(state, *args)

    monkeypatch.setattr(loop, "optimise", counted)
    monkeypatch.setattr(Engine, "runs_ahead", True)
    return reads


def trained(name: str, config: Path, command, place: Path, *options: str) -> None:
    """A run of so many steps that some are steady."""
    steps = str(STEADY[name] + COUNTED[name])
    status, said = command(train.main, "--config", config, "--loop.steps", steps, "--out", place, *options)
    assert status == 0, said


@pytest.mark.parametrize("name", STEADY)
def test_steps_wait_for_nothing(name: str, request, command, reads: Reads, tmp_path: Path):
    reads.after = STEADY[name]
    trained(name, request.getfixturevalue(name), command, tmp_path / "run")
    assert reads.found == {}
    assert reads.steps == COUNTED[name]


def test_a_read_is_noticed(flow_config: Path, command, reads: Reads, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(Engine, "any", lambda self, flag: torch.tensor(bool(flag)))
    reads.after = STEADY["flow_config"]
    trained("flow_config", flow_config, command, tmp_path / "run")
    assert reads.found == {"_local_scalar_dense": COUNTED["flow_config"]}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="counts what a GPU is waited for")
@pytest.mark.parametrize("name", STEADY)
def test_steps_on_a_gpu_do_not_synchronise(name: str, request, command, monkeypatch, tmp_path: Path):
    optimise = loop.optimise

    def strict(state: TrainState, *args: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error" if state.step >= STEADY[name] else "default")
        try:
            return optimise(state, *args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "optimise", strict)
    config = request.getfixturevalue(name)
    trained(name, config, command, tmp_path / "run", "--parallel.accelerator", "cuda")
