"""Several processes do what one does."""

import json
from pathlib import Path

import pytest
import torch

from vdit.weights.files import read_tensors


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if row["kind"] == "train"]


@pytest.mark.parametrize(
    ("devices", "sequence"),
    [(2, 1), (2, 2), pytest.param(4, 2, marks=pytest.mark.slow)],
    ids=["clips apart", "clips shared", "both"],
)
def test_several_processes_train_as_one_does(
    flow_run, flow_config, begin, finish, tmp_path: Path, devices: int, sequence: int
):
    """They see the same clips, noise and sigmas; only the order of sums differs."""
    run = tmp_path / "run"
    options = ["--parallel.devices", str(devices), "--parallel.sequence", str(sequence)]
    finish(begin(flow_config, run, *options))
    assert losses(run) == pytest.approx(losses(flow_run), rel=1e-4)
    ours, theirs = (
        read_tensors(next(folder.glob("checkpoints/*40/model.safetensors"))) for folder in (run, flow_run)
    )
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--parallel.devices", "3", "--parallel.sequence", "2"],
            "sequence 2 does not divide the run's 3 processes",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_sentence(flow_config, begin, finish, tmp_path: Path, options, told):
    assert told in finish(begin(flow_config, tmp_path / "run", *options), status=2)


def test_a_codec_shares_no_tokens(codec_config, begin, finish, tmp_path: Path):
    options = ["--parallel.devices", "2", "--parallel.sequence", "2"]
    said = finish(begin(codec_config, tmp_path / "run", *options), status=2)
    assert "shares the tokens of a transformer, and this task has none" in " ".join(said.split())
