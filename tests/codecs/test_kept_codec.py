"""The codec that is kept in the repository is the one that the documents describe."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from vdit.codecs.folder import load_codec
from vdit.config import load_run
from vdit.eval.psnr import psnr
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs/codec/flat_24"


@pytest.fixture
def held_out() -> torch.Tensor:
    source = WorldSource(Flat(objects=(1, 1)), clips=16, frames=9, height=32, width=32, seed=1, held_out=True)
    return torch.stack([source[i].pixels for i in range(len(source))])


def test_it_is_of_the_configuration_that_trains_it():
    described = json.loads((FOLDER / "codec.json").read_text())
    run = load_run(ROOT / "configs/train/flat_codec.yaml")
    codec = run.values.task.init_args.codec
    assert described["class_path"] == codec.class_path
    settings = {name: codec.init_args[name] for name in described["init_args"]}
    assert json.loads(json.dumps(described["init_args"])) == json.loads(json.dumps(settings))
    assert described["trained"]["steps"] == run.values.loop.steps


def test_its_hash_is_the_one_that_is_written_down():
    digest = hashlib.sha256((FOLDER / "weights.safetensors").read_bytes()).hexdigest()
    assert digest in (ROOT / "docs/reproduce/flat.md").read_text()


def test_it_gives_held_out_clips_back_and_forgives_noise(held_out: torch.Tensor):
    codec = load_codec(FOLDER)
    latents = codec.encode(held_out)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    clean, noisy = (
        psnr(codec.decode(z).clamp(-1, 1), held_out).mean()
        for z in (latents, latents + codec.settings["noise"] * noise)
    )
    assert clean > 30.5
    assert noisy > 28.5
