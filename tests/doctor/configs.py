"""Configurations of runs that a laptop could do, in which tests plant faults."""

from pathlib import Path
from typing import Any

from run_files import world, write_run

__all__ = ["codec_task", "videos", "write_config"]


def videos(listing: Path) -> dict[str, Any]:
    cut = {"frames": 5, "height": 32, "width": 32}
    return {"class_path": "vdit.data.listing.ListSource", "init_args": {"path": str(listing), "cut": cut}}


def codec_task(width: int = 8) -> dict[str, Any]:
    sizes = {"widths": [width] * 3, "encoder_blocks": [0, 0, 1], "decoder_blocks": [1, 0, 0]}
    codec = {"class_path": "vdit.codecs.native.codec.NativeCodec", "init_args": sizes}
    return {"class_path": "vdit.train.codec_task.CodecTask", "init_args": {"codec": codec}}


def write_config(folder: Path, data: dict[str, Any] | None = None, **more: Any) -> Path:
    """A configuration of a codec's run into `folder/run`, with other values in place of its own."""
    values: dict[str, Any] = {
        "task": codec_task(),
        "data": {"train": data or world(4, 5, 32, 32), "held_out": world(2, 5, 32, 32, seed=1)},
        "out": folder / "run",
        "loop": {"steps": 4, "batch": 2, "save_every": 2, "keep": 1},
    }
    return write_run(folder / "config.yaml", **(values | more))
