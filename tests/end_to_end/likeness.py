"""Whether two runs learned the same, up to the order of sums."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from vdit.weights.files import read_tensors

__all__ = ["alike", "losses", "parallel"]


def parallel(way: Mapping[str, object]) -> list[str]:
    """The options of train.py that set these of `parallel`."""
    return [word for name, value in way.items() for word in (f"--parallel.{name}", str(value))]


def losses(run: Path) -> list[float]:
    """Of all steps, then of held-out clips at the end."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps, held_out = (
        [row["loss"] for row in rows if row["kind"] == kind] for kind in ("train", "validation")
    )
    assert steps
    assert held_out
    return steps + held_out


def alike(run: Path, other: Path) -> None:
    """Losses, weights and averages of two runs, up to the order of sums."""
    assert losses(run) == pytest.approx(losses(other), rel=1e-4)
    for file in ("model", "ema"):
        ours, theirs = (
            read_tensors(next(each.glob(f"checkpoints/*40/{file}.safetensors"))) for each in (run, other)
        )
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(
                ours[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
