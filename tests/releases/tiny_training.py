"""Two steps of training on a tiny model, by the real command."""

from pathlib import Path

from run_files import world, write_run

from vdit.commands.command import run_command
from vdit.commands.train import main as train


def trained(model: Path, out: str, *more: str) -> int:
    """The status of a training that began with `model`; its configuration stands in the working folder."""
    part = world(4, 5, 32, 64, "room.Room")
    file = write_run(
        Path(f"{Path(out).name}.yaml"),
        {"class_path": "vdit.train.flow_task.FlowTask", "init_args": f"{model}/model.yaml"},
        {"train": part, "held_out": part},
        Path(out),
        loop={"steps": 2, "batch": 2, "ema": 0.0, "save_every": 1},
        pace={"metrics": 1},
        optim={"lr": 1e-3, "warmup_steps": 0},
    )
    return run_command(train, ["--config", str(file), *more])
