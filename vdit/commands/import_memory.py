"""What taking in a large release costs in memory: a made-up one, in shards, through the real command."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.published import export_codec
from vdit.codecs.wan.codec import WanCodec
from vdit.models.published import keymap_of, written_config
from vdit.models.wan.dit import WanDiT
from vdit.text.umt5 import umt5_of_config
from vdit.types import InputError
from vdit.weights.files import save_tensors
from vdit.weights.shards import save_shards

__all__ = ["Measured", "measure_import"]

WIDTH, HIDDEN = 1536, 8960
"""Of Wan 2.1 T2V-1.3B, whose blocks the made-up model has as many of as fit."""

CHILD = """
import sys
{work}
status = open("/proc/self/status").read()  # getrusage would count what the parent had when it forked
print(1024 * int(status.split("VmHWM:")[1].split()[0]), file=sys.stderr)
"""
TAKE_IN = "from vdit.commands.import_weights import main; main(sys.argv[1:])"
OPEN = (
    "from pathlib import Path; from vdit.models.folder import read_backbone; read_backbone(Path(sys.argv[1]))"
)
NOTHING = "import vdit.releases.take_in, vdit.commands.import_weights, transformers"


@dataclass(frozen=True)
class Measured:
    """Bytes of resident memory at most, of whole processes.

    Attributes:
        model: bytes of the transformer's weights.
        shard: bytes of the largest file that it stands in.
        nothing: of a process that has loaded the libraries and done nothing.
        taking_in: of `vdit import`.
        opening: of reading the transformer that was taken in, to use it.
    """

    model: int
    shard: int
    nothing: int
    taking_in: int
    opening: int


def measure_import(folder: Path, size: int, progress: Callable[[str, int, int], None]) -> Measured:
    """Make a release of about `size` bytes in `folder`, take it in and open it, each in a process of its own.

    Args:
        folder: empty; needs twice the size.
        size: of the transformer.
        progress: called with (what is done, steps done, steps in all).

    Raises:
        InputError: this is not Linux, which tells what a process had at most.
        RuntimeError: a process failed.
    """
    if not Path("/proc/self/status").exists():
        raise InputError("bench import reads /proc, which only Linux has")
    release, taken = folder / "release", folder / "taken"
    progress("making a release", 0, 1)
    model = _release(release, size)
    files = [file.stat().st_size for file in (release / "transformer").glob("*.safetensors")]
    progress("making a release", 1, 1)
    recipe = folder / "recipe.yaml"
    recipe.write_text("shift: 3.0\n")
    found = []
    works = (
        ("loading libraries", NOTHING, []),
        ("taking in", TAKE_IN, ["--from", str(release), "--to", str(taken), "--recipe", str(recipe)]),
        ("opening", OPEN, [str(taken / "backbone")]),
    )
    for what, work, arguments in works:
        progress(what, 0, 1)
        found.append(_peak(work, arguments))
        progress(what, 1, 1)
    return Measured(model, max(files), *found)


def _peak(work: str, arguments: list[str]) -> int:
    line = [sys.executable, "-c", CHILD.format(work=work), *arguments]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"a process failed: {ran.stderr[-2000:]}")
    return int(ran.stderr.split()[-1])


def _release(folder: Path, size: int) -> int:
    """A release in the layout of diffusers; bytes of its transformer."""
    with torch.device("meta"):
        rest = _bytes(_model(0))
        model = _model(max(1, (size - rest) // (_bytes(_model(1)) - rest)))
    place = folder / "transformer"
    place.mkdir(parents=True)
    save_shards(_random(model), place, "diffusion_pytorch_model", largest=max(2**28, size // 4))
    (place / "config.json").write_text(json.dumps(written_config(model, "diffusers")))
    export_codec(WanCodec(latent_channels=4, encoder_width=4, decoder_width=4), "diffusers", folder / "vae")
    config = {"model_type": "umt5", "vocab_size": 32, "d_model": 64, "d_kv": 8, "d_ff": 64, "num_heads": 2}
    config |= {"num_layers": 1, "num_decoder_layers": 1}
    text = folder / "text_encoder"
    text.mkdir()
    (folder / "tokenizer").mkdir()
    (text / "config.json").write_text(json.dumps(config))
    encoder = umt5_of_config(config, "a made-up text encoder")
    save_tensors(dict(encoder.named_parameters()), text / "model.safetensors", {"format": "pt"})
    (folder / "model_index.json").write_text("{}")
    return _bytes(model)


def _model(depth: int) -> WanDiT:
    return WanDiT(width=WIDTH, hidden=HIDDEN, heads=12, text_width=64, latent_channels=4, depth=depth)


def _random(model: WanDiT) -> Iterator[tuple[str, Tensor]]:
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for key in keymap_of(model, "diffusers").table:
        yield key.theirs, torch.randn(key.shape(own)) * 0.02


def _bytes(model: WanDiT) -> int:
    return sum(value.numel() * 4 for value in model.parameters())
