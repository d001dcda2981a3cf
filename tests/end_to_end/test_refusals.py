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
        (["--seed", "-1"], "seed is -1, but must be 0 or more"),
        (["--seed", str(2**63)], "and below 2^63"),
        (["--data.workers", "0"], "data.workers is 0, but must be at least 1"),
        (["--optim.final", "-1"], "optim.final -1.0 must not be negative"),
        (["--loop.save_every", "-1"], "loop.save_every is -1: 0 saves at the end only"),
        (["--loop.ema_every", "99"], "loop.ema_every is 99, of 40 steps"),
        (["--task.init_args.text.init_args.device", "gpu"], "device 'gpu' is not one that torch knows"),
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
