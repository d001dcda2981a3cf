"""Two tiny runs, trained the way a user trains: by configuration files and train.py."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vdit.commands.command import Main, run_command

ROOT = Path(__file__).parents[2]
WORDS = ["a", "small", "large", "red", "blue", "circle", "square", "moving", "left", "right"]


def save_text_encoder(folder: Path) -> Path:
    """A random two-block Llama with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.3,
        )
    ).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def world(clips: int, seed: int) -> dict[str, Any]:
    size = {"frames": 5, "height": 16, "width": 16}
    level = {"class_path": "vdit.world.flat.Flat"}
    return {
        "class_path": "vdit.world.source.WorldSource",
        "init_args": {"level": level, "clips": clips, "seed": seed, **size},
    }


DATA = {"train": world(24, 0), "held_out": world(4, 1)}


def codec_task() -> dict[str, Any]:
    codec = {
        "class_path": "vdit.codecs.native.codec.NativeCodec",
        "init_args": {
            "latent_channels": 4,
            "patch": 2,
            "widths": [8, 8],
            "encoder_blocks": [0, 1],
            "decoder_blocks": [1, 0],
            "strides": [[2, 2]],
        },
    }
    return {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": codec}}


def adversarial_task(codec: Path) -> dict[str, Any]:
    critic = {"class_path": "vdit.codecs.critic.PatchCritic", "init_args": {"widths": [8, 8]}}
    arguments = {
        "codec": str(codec),
        "loss": {"pixels": "absolute"},
        "lengths": {1: 0.5, 5: 0.5},
        "adversary": {"critic": critic, "alone": 2, "rise": 2},
    }
    return {"class_path": "vdit.train.codec_task.CodecTask", "init_args": arguments}


def flow_task(codec: Path, text: Path, cache: Path) -> dict[str, Any]:
    backbone = {"latent_channels": 4, "text_width": 16, "width": 32, "depth": 1, "heads": 2}
    encoder = {"model": str(text), "layer": 2}
    return {
        "class_path": "vdit.train.flow_task.FlowTask",
        "init_args": {
            "backbone": {"class_path": "vdit.models.native.dit.NativeDiT", "init_args": backbone},
            "codec": str(codec),
            "text": {"class_path": "vdit.text.causal_lm.CausalLM", "init_args": encoder},
            "cache": str(cache),
            "sampling": {"frames": 5, "height": 16, "width": 16, "steps": 2},
        },
    }


def write_config(
    file: Path, task: Mapping[str, Any], steps: int, data: Any = None, muon: Sequence[str] = ()
) -> Path:
    """A configuration that saves every second step and writes a row of metrics at each.

    `muon` names the matrices that Muon trains.
    """
    by_muon = {"muon": {"names": list(muon)}} if muon else {}
    values = {
        "out": "unused",
        "task": task,
        "data": data or DATA,
        "loop": {"steps": steps, "batch": 4, "ema": 0.9, "save_every": 2},
        "optim": {"lr": 0.003, "warmup_steps": 3, **by_muon},
        "pace": {"metrics": 1, "validation": 0, "samples": 0},
        "parallel": {"accelerator": "cpu"},
    }
    file.write_text(yaml.safe_dump(values))
    return file


def start(config: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "train.py", "--config", str(config), "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="session")
def begin() -> Callable[..., subprocess.Popen[str]]:
    """`begin(config, out, *options)`: train.py in a process of its own, with stdout and stderr as one."""
    return start


@pytest.fixture(scope="session")
def finish() -> Callable[..., str]:
    """`finish(process, status=0)`: what it said, after checking how it left."""

    def wait(process: subprocess.Popen[str], status: int = 0) -> str:
        said = process.communicate(timeout=120)[0]
        assert process.returncode == status, said
        return said

    return wait


@pytest.fixture(scope="session")
def lightning_log() -> None:
    """Lightning logs to the stderr of its import: one that is there longer than a test's."""
    import lightning.fabric  # noqa: F401


@pytest.fixture
def command(lightning_log: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`command(main, *arguments)`: the status and the words of a command, run here, never a traceback."""

    def run(main: Main, *arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        try:
            status = run_command(main, [str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        return status, " ".join(said.split())

    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end_to_end")


@pytest.fixture(scope="session")
def codec_config(place: Path) -> Path:
    return write_config(place / "codec.yaml", codec_task(), steps=24)


@pytest.fixture(scope="session")
def codec_run(place: Path, codec_config: Path, begin, finish) -> Path:
    """A codec run that nothing disturbed."""
    finish(begin(codec_config, place / "codec_run"))
    return place / "codec_run"


@pytest.fixture(scope="session")
def adversarial_config(place: Path, codec_run: Path) -> Path:
    """The second stage: the codec goes on against a critic."""
    return write_config(place / "adversarial.yaml", adversarial_task(codec_run / "codec"), steps=12)


@pytest.fixture(scope="session")
def flow_config(place: Path, codec_run: Path) -> Path:
    text = save_text_encoder(place / "text")
    task = flow_task(codec_run / "codec", text, place / "cache")
    return write_config(place / "flow.yaml", task, steps=40, muon=["*.blocks.*.mlp.*"])


@pytest.fixture(scope="session")
def flow_run(place: Path, flow_config: Path, begin, finish) -> Path:
    """A flow run that nothing disturbed."""
    finish(begin(flow_config, place / "flow_run"))
    return place / "flow_run"


@pytest.fixture
def folder_config(place: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """`folder_config(videos)`: a codec's configuration that trains on a folder."""

    def write(videos: Path) -> Path:
        cut = {"frames": 5, "height": 16, "width": 16}
        source = {
            "class_path": "vdit.data.folder.FolderSource",
            "init_args": {"path": str(videos), "cut": cut},
        }
        data = {"train": source, "held_out": DATA["held_out"]}
        return write_config(tmp_path / "folder.yaml", codec_task(), steps=2, data=data)

    return write
