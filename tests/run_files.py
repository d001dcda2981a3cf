"""Configurations of runs that are trained on the built-in world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["world", "write_run"]


def world(clips: int, frames: int, height: int, width: int, level: str = "flat.Flat", **more: Any) -> Any:
    """A source of so many clips, as a configuration has it."""
    size = {"clips": clips, "frames": frames, "height": height, "width": width}
    arguments = {"level": {"class_path": f"vdit.world.{level}"}, **size, **more}
    return {"class_path": "vdit.world.source.WorldSource", "init_args": arguments}


def write_run(file: Path, task: Mapping[str, Any], data: Mapping[str, Any], out: Path, **more: Any) -> Path:
    """A configuration of a run into `out`, on a CPU unless `more` says something else."""
    values = {"out": str(out), "task": task, "data": data, "parallel": {"accelerator": "cpu"}, **more}
    file.write_text(yaml.safe_dump(values))
    return file
