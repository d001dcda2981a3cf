"""Two steps of training on a tiny model, by the real command."""

from pathlib import Path

import yaml

from vdit.commands.command import run_command
from vdit.commands.train import main as train


def trained(model: Path, out: str, *more: str) -> int:
    """The status of a training that began with `model`; its configuration stands in the working folder."""
    world = {
        "clips": 4,
        "frames": 5,
        "height": 32,
        "width": 64,
        "level": {"class_path": "vdit.world.room.Room"},
    }
    part = {"class_path": "vdit.world.source.WorldSource", "init_args": world}
    config = {
        "out": out,
        "task": {"class_path": "vdit.train.flow_task.FlowTask", "init_args": f"{model}/model.yaml"},
        "data": {"train": part, "held_out": part},
        "loop": {"steps": 2, "batch": 2, "ema": 0.0, "save_every": 1},
        "pace": {"metrics": 1},
        "optim": {"lr": 1e-3, "warmup_steps": 0},
    }
    file = Path(f"{Path(out).name}.yaml")
    file.write_text(yaml.safe_dump(config))
    return run_command(train, ["--config", str(file), *more])
