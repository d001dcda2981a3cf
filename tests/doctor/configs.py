"""Configurations of runs that a laptop could do, in which tests plant faults."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["codec_task", "videos", "world", "write_config"]


def world(clips: int = 4, **more: Any) -> dict[str, Any]:
    size = {"clips": clips, "frames": 5, "height": 32, "width": 32}
    level = {"class_path": "vdit.world.flat.Flat"}
    return {"class_path": "vdit.world.source.WorldSource", "init_args": {"level": level, **size, **more}}


def videos(listing: Path) -> dict[str, Any]:
    cut = {"frames": 5, "height": 32, "width": 32}
    return {"class_path": "vdit.data.listing.ListSource", "init_args": {"path": str(listing), "cut": cut}}


def codec_task(width: int = 8) -> dict[str, Any]:
    sizes = {"widths": [width] * 3, "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    codec = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    return {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": codec}}


def write_config(folder: Path, data: dict[str, Any] | None = None, **more: Any) -> Path:
    """A configuration of a codec's run into `folder/run`, with other values in place of its own."""
    values = {
        "out": str(folder / "run"),
        "task": codec_task(),
        "data": {"train": data or world(), "held_out": world(2, seed=1)},
        "loop": {"steps": 4, "batch": 2, "save_every": 2, "keep": 1},
        "parallel": {"accelerator": "cpu"},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(values | more))
    return file
