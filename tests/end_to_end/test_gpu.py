"""What trains on a CPU trains on a GPU, by every strategy that one process has."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from likeness import alike, losses, parallel

from vdit.commands import sample
from vdit.eval.curves import read_rows
from vdit.train.run_folder import RunFolder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="trains on a GPU")

GPU = ("--parallel.accelerator", "cuda", "--optim.muon", "null", "--loop.keep_every", "10")


@pytest.fixture(scope="module")
def trained(place: Path, flow_config: Path, begin, finish) -> Callable[..., Path]:
    """`trained(name, *options)`: a run of 40 steps on a GPU."""

    def train(name: str, *options: str) -> Path:
        finish(begin(flow_config, place / name, *GPU, *options))
        return place / name

    return train


@pytest.fixture(scope="module")
def gpu_run(trained) -> Path:
    """By one process, in float32."""
    return trained("gpu")


WAYS = {
    "ddp": {"strategy": "ddp"},
    "computed again": {"recompute": "full"},
    "attention kept": {"recompute": "selective"},
    "compiled": {"compile": "true"},
    "zero1": {"strategy": "zero1"},
    "zero2": {"strategy": "zero2"},
    "zero3": {"strategy": "zero3"},
    "zero2, offload": {"strategy": "zero2", "offload": "true"},
    "zero3, offload": {"strategy": "zero3", "offload": "true"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains_alike(gpu_run: Path, trained, way: str):
    if "zero" in way:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    alike(trained(way, *parallel(WAYS[way])), gpu_run)


HALF = {
    "plain": {},
    "computed again": {"recompute": "full"},
    "attention kept": {"recompute": "selective"},
    "compiled": {"compile": "true"},
    "zero2": {"strategy": "zero2"},
    "zero3": {"strategy": "zero3"},
}


@pytest.mark.parametrize("way", HALF)
def test_half_precision_trains_nearly_alike(gpu_run: Path, trained, way: str):
    if "zero" in way:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    run = trained(f"half, {way}", *parallel({"precision": "bf16-mixed", **HALF[way]}))
    assert losses(run) == pytest.approx(losses(gpu_run), rel=0.03)


def test_a_run_goes_on_where_it_was(gpu_run: Path, flow_config: Path, begin, finish, tmp_path: Path):
    run = shutil.copytree(gpu_run, tmp_path / "run")
    for checkpoint in (run / "checkpoints").glob("step_*"):
        if checkpoint.name > "step_00000020":
            shutil.rmtree(checkpoint)
    assert "after step 20" in " ".join(finish(begin(flow_config, run, *GPU)).split())
    alike(run, gpu_run)  # sums of attention's backward pass have no fixed order there


def test_memory_at_most_is_among_the_metrics(gpu_run: Path):
    health = [row for row in read_rows(RunFolder(gpu_run).metrics) if row["kind"] == "health"]
    assert health
    assert all(0 < row["memory_gib_most"] < 1 for row in health)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_draws_samples(gpu_run: Path, command, tmp_path: Path, precision: str):
    options = ("--run", gpu_run, "--prompt", "a red circle", "--steps", "2", "--precision", precision)
    status, said = command(sample.main, *options, "--out", tmp_path)
    assert status == 0, said
    assert [file.stat().st_size > 0 for file in tmp_path.glob("*.mp4")] == [True]
