"""What train.py refuses, it refuses before a run folder exists."""

from pathlib import Path

import pytest
import torch

from vdit.commands.train import main as train

BACKBONE = "--task.init_args.backbone.init_args"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--optim.muon.names", '["*.nowhere.*"]'], "'*.nowhere.*', which names no trainable matrix"),
        (["--optim.betas", "[1.0, 0.9]"], "betas [1.0, 0.9] must lie in"),
        (["--loop.ema", "1.5"], "loop.ema is 1.5, but must lie in"),
        (["--pace.metrics", "-1"], "pace.metrics is -1: 0 is at the end only"),
        ([f"{BACKBONE}.width", "0"], "width is 0, but must be above 0"),
        ([f"{BACKBONE}.latent_channels", "8"], "4 latent channels, the backbone 8"),
        ([f"{BACKBONE}.text_width", "100"], "16 channels, the backbone reads 100: set its text_width to 16"),
        (["--parallel.accelerator", "cuda"], "this machine cannot give what parallel asks for"),
        (["--task.init_args.codec", "nowhere"], "nowhere holds no codec"),
        (["--optim.nonsense", "1"], "optim.nonsense"),
    ],
)
def test_nothing_is_written_for_a_run_that_cannot_be(
    flow_config, command, tmp_path: Path, options, says: str
):
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("this machine has what is asked for")
    out, cache = tmp_path / "run", tmp_path / "cache"
    elsewhere = ["--out", out, "--task.init_args.cache", cache]
    status, said = command(train, "--config", flow_config, *elsewhere, *options)
    assert status == 2
    assert says in said
    assert not out.exists()
    assert not (cache / "latents").exists()
