"""What trains on a CPU trains on a GPU, by every strategy that one process has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdit.commands import sample
from vdit.weights.files import read_tensors

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


def rows(run: Path, kind: str) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


def losses(run: Path) -> list[float]:
    return [row["loss"] for kind in ("train", "validation") for row in rows(run, kind)]


def alike(run: Path, other: Path, rel: float = 1e-4) -> None:
    """Losses of steps and of held-out clips, and the average of the weights."""
    assert losses(run) == pytest.approx(losses(other), rel=rel)
    ours, theirs = (read_tensors(next(each.glob("checkpoints/*40/ema.safetensors"))) for each in (run, other))
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=10 * rel, atol=rel, msg=lambda m, n=name: f"{n}: {m}"
        )


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
    run = trained(way, *(word for name, value in WAYS[way].items() for word in (f"--parallel.{name}", value)))
    alike(run, gpu_run)


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
    options = {"precision": "bf16-mixed", **HALF[way]}
    words = (word for name, value in options.items() for word in (f"--parallel.{name}", value))
    run = trained(f"half, {way}", *words)
    assert losses(run) == pytest.approx(losses(gpu_run), rel=0.03)


def test_a_run_goes_on_where_it_was(gpu_run: Path, flow_config: Path, begin, finish, tmp_path: Path):
    run = shutil.copytree(gpu_run, tmp_path / "run")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(gpu_run), str(run)))
    for step in (30, 40):
        shutil.rmtree(run / f"checkpoints/step_{step:08d}")
    assert "after step 20" in " ".join(finish(begin(flow_config, run, *GPU)).split())
    alike(run, gpu_run)  # sums of attention's backward pass have no fixed order there


def test_memory_at_most_is_among_the_metrics(gpu_run: Path):
    health = rows(gpu_run, "health")
    assert health
    assert all(0 < row["memory_gib_most"] < 1 for row in health)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_draws_samples(gpu_run: Path, command, tmp_path: Path, precision: str):
    options = ("--run", gpu_run, "--prompt", "a red circle", "--steps", "2", "--precision", precision)
    status, said = command(sample.main, *options, "--out", tmp_path)
    assert status == 0, said
    assert [file.stat().st_size > 0 for file in tmp_path.glob("*.mp4")] == [True]
