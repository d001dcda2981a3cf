"""Several processes do what one does."""

import shutil
from pathlib import Path

import pytest
from likeness import alike, losses, parallel

from vdit.commands.train import main as train
from vdit.weights.files import read_tensors

WAYS = {
    "clips apart": {"devices": 2},
    "clips shared": {"devices": 2, "sequence": 2},
    "both": {"devices": 4, "sequence": 2},
    "computed again": {"recompute": "full"},
    "all of it": {"devices": 2, "sequence": 2, "recompute": "selective", "compile": "true"},
}


FAST = ("clips apart", "clips shared")


@pytest.mark.parametrize(
    "way", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in WAYS]
)
def test_every_way_trains_as_one_process_does(flow_run, flow_config, begin, finish, tmp_path: Path, way: str):
    """Processes see the same clips, noise and sigmas; only the order of sums differs."""
    run = tmp_path / "run"
    finish(begin(flow_config, run, *parallel(WAYS[way])))
    alike(run, flow_run)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [[], ["--task.init_args.adapter.rank", "2"]], ids=["all", "a LoRA"])
def test_two_processes_begin_with_another_run_as_one_does(
    flow_run, flow_config, begin, finish, tmp_path: Path, adapter: list[str]
):
    options = ["--task.init_args.start_from", str(flow_run), "--optim.muon", "null", *adapter]
    for name, more in (("one", []), ("two", ["--parallel.devices", "2"])):
        said = finish(begin(flow_config, tmp_path / name, *options, *more))
        assert "beginning with step 40 of" in " ".join(said.split())
    alike(tmp_path / "two", tmp_path / "one")
    first = losses(flow_run)[0]
    assert losses(tmp_path / "one")[0] < first  # it goes on from what was learnt


ZERO = {
    "zero1": {"devices": 2, "strategy": "zero1"},
    "zero2": {"devices": 2, "strategy": "zero2"},
    "zero3": {"devices": 2, "strategy": "zero3"},
    "zero2, clips shared": {"devices": 4, "strategy": "zero2", "sequence": 2},
    "zero3, all of it": {"devices": 2, "strategy": "zero3", "sequence": 2, "recompute": "full"},
}


@pytest.fixture(scope="module")
def adamw_run(place: Path, flow_config, begin, finish) -> Path:
    """A run of one process without Muon."""
    finish(begin(flow_config, place / "adamw", "--optim.muon", "null", "--loop.keep_every", "10"))
    return place / "adamw"


@pytest.mark.slow  # tests/parallel/test_zero.py has the arithmetic of every stage among the fast ones
@pytest.mark.parametrize("way", ZERO)
def test_zero_trains_as_one_process_does(adamw_run, flow_config, begin, finish, tmp_path: Path, way: str):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    run = tmp_path / "run"
    finish(begin(flow_config, run, "--optim.muon", "null", *parallel(ZERO[way])))
    alike(run, adamw_run)


@pytest.mark.slow
def test_a_run_goes_on_with_shared_weights_and_back(adamw_run, flow_config, begin, finish, tmp_path: Path):
    """The first process reads the checkpoint, the other has shapes alone; then one reads what both wrote."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    run = shutil.copytree(adamw_run, tmp_path / "run")
    for kept, devices, strategy in ((20, "2", "zero3"), (30, "1", "auto")):
        for checkpoint in run.glob("checkpoints/step_*"):
            if int(checkpoint.name.removeprefix("step_")) > kept:
                shutil.rmtree(checkpoint)
        options = ["--parallel.devices", devices, "--parallel.strategy", strategy, "--loop.keep_every", "10"]
        said = finish(begin(flow_config, run, "--optim.muon", "null", *options))
        weights = read_tensors(next(adamw_run.glob("checkpoints/*40/ema.safetensors"))).values()
        size = sum(value.numel() for value in weights) / 1e6
        for told in (f"after step {kept}", f"of {size:.2f} M weights"):
            assert told in " ".join(said.split())
        alike(run, adamw_run)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--parallel.offload", "true"], "offload is of parallel.strategy zero1, zero2 and zero3"),
        (
            ["--parallel.devices", "3", "--parallel.sequence", "2"],
            "sequence 2 does not divide the run's 3 processes",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_sentence(flow_config, command, tmp_path: Path, options, told):
    """Before any other process starts."""
    status, said = command(train, "--config", flow_config, "--out", tmp_path / "run", *options)
    assert (status, told in said) == (2, True), said


def test_zero_and_muon_do_not_go_together(flow_config, begin, finish, tmp_path: Path):
    options = parallel({"devices": 2, "strategy": "zero1"})
    said = finish(begin(flow_config, tmp_path / "run", *options), status=2)
    assert "leave out optim.muon" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("way", [("sequence", "2"), ("strategy", "zero3")], ids=" ".join)
def test_a_codec_shares_no_tokens_and_no_weights(codec_config, begin, finish, tmp_path: Path, way):
    options = ["--parallel.devices", "2", f"--parallel.{way[0]}", way[1]]
    said = finish(begin(codec_config, tmp_path / "run", *options), status=2)
    assert "is about a transformer, and this task has none" in " ".join(said.split())
