"""A run that is given to others: smaller, sampled and scored as before, and not trained further."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from vdit.commands.export_weights import main as export
from vdit.commands.sample import main as sample
from vdit.commands.train import main as train
from vdit.data.decode import open_video
from vdit.train.shared import share_run
from vdit.types import InputError
from vdit.weights.files import digest, read_tensors

PROMPT = "a small red circle moving left"


def sampled(command, run: Path, out: Path) -> torch.Tensor:
    status, said = command(sample, "--run", run, "--prompt", PROMPT, "--seed", 3, "--out", out)
    assert status == 0, said
    return open_video(out / "000003.mp4").read(0, 5).float()


def test_it_samples_as_the_run_does(flow_run: Path, command, tmp_path: Path):
    out = tmp_path / "given"
    status, said = command(export, "--from", flow_run, "--layout", "run", "--to", out)
    assert status == 0, said
    [average] = out.rglob("ema.safetensors")
    assert digest(average) in said
    assert {value.dtype for value in read_tensors(average).values()} == {torch.float16}
    weights = [file for file in out.rglob("*") if file.suffix in (".safetensors", ".pt")]
    assert len(weights) == 2  # the model's and the codec's
    theirs = [file for file in flow_run.rglob("*") if file.suffix in (".safetensors", ".pt")]
    assert sum(f.stat().st_size for f in weights) < sum(f.stat().st_size for f in theirs) / 3
    assert not (out.parent / ".writing_given").exists()
    before, after = sampled(command, flow_run, tmp_path / "a"), sampled(command, out, tmp_path / "b")
    assert (before - after).abs().mean() < 1  # of 255: halves
    assert json.loads((tmp_path / "b/settings.json").read_text())["model"] == "given step 40"


def test_it_is_not_trained_further(flow_run: Path, flow_config: Path, command, tmp_path: Path):
    out = tmp_path / "flow_run"
    share_run(flow_run, out)
    config = (out / "config.yaml").read_text()
    (tmp_path / "again.yaml").write_text(
        config.replace(str(flow_run), str(out)).replace("steps: 40", "steps: 44")
    )
    (out / "config.yaml").write_text((tmp_path / "again.yaml").read_text())
    status, said = command(train, "--config", tmp_path / "again.yaml", "--out", out)
    assert status == 2
    assert "is for sampling: it holds nothing to go on training with" in " ".join(said.split())


def test_what_cannot_be_given_is_one_sentence(flow_run: Path, command, tmp_path: Path):
    def refused(source: Path, out: Path) -> str:
        status, said = command(export, "--from", source, "--layout", "run", "--to", out)
        assert status == 2
        return " ".join(said.split())

    assert "holds no run" in refused(tmp_path / "nothing", tmp_path / "out")
    assert "is there already" in refused(flow_run, tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(flow_run, damaged)
    [*_, average] = sorted(damaged.rglob("ema.safetensors"))
    average.write_bytes(average.read_bytes()[:-1])
    assert "is damaged or missing" in refused(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(damaged / "checkpoints")
    with pytest.raises(InputError, match="has no checkpoint yet"):
        share_run(damaged, tmp_path / "out")
