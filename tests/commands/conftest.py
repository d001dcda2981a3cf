"""A codec and a text-to-video model of a few thousand weights, trained for two steps by the real command."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from run_files import world, write_run

from vdit.commands.train import main as train


@dataclass(frozen=True)
class TinyRuns:
    """Where the trained runs and their configurations are."""

    codec: Path
    codec_config: Path
    video: Path
    video_config: Path


def _config(folder: Path, name: str, task: dict[str, Any]) -> Path:
    data = {"train": world(16, 5, 32, 32), "held_out": world(4, 5, 32, 32, seed=1, held_out=True)}
    loop = {"steps": 2, "batch": 4, "save_every": 1}
    return write_run(folder / f"{name}.yaml", task, data, folder / name, loop=loop)


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRuns]:
    """Read them, do not write into them: `copied_run` gives a copy."""
    folder = tmp_path_factory.mktemp("tiny")
    sizes = {"widths": [8, 8, 8], "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    native = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    codec = {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": native}}
    dit = {"text_width": 8, "width": 32, "depth": 1, "heads": 2}
    video = {
        "backbone": {"class_path": "vdit.models.native.dit.NativeDiT", "init_args": dit},
        "codec": str(folder / "codec" / "codec"),
        "text": {"class_path": "letter_text.LetterText"},
        "cache": str(folder / "cache"),
        "sampling": {"frames": 5, "height": 32, "width": 32, "steps": 2},
    }
    flow = {"class_path": "vdit.train.flow_task.FlowTask", "init_args": video}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        configs = [_config(folder, "codec", codec), _config(folder, "video", flow)]
        for config in configs:
            assert train(["--config", str(config)]) == 0
        yield TinyRuns(folder / "codec", configs[0], folder / "video", configs[1])


@pytest.fixture
def copied_run(tiny_runs: TinyRuns, tmp_path: Path) -> Callable[[], Path]:
    """`copied_run()` gives a copy of the text-to-video run."""
    return lambda: Path(shutil.copytree(tiny_runs.video, tmp_path / "tiny"))
