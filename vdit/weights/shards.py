"""Weights of any size into safetensors of a bounded size, as they come, tensor by tensor."""

import json
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from vdit.weights.files import save_tensors, sync

__all__ = ["LARGEST_SHARD", "save_shards"]

LARGEST_SHARD = 2**30
"""Bytes of a file: what is in memory while weights of any size go from one layout to another."""


def save_shards(
    tensors: Iterable[tuple[str, Tensor]], folder: Path, stem: str, largest: int = LARGEST_SHARD
) -> list[Path]:
    """Write tensors to `folder`: one file, or several and their index, named as transformers names them.

    Args:
        tensors: by name, in the order in which they are written; read one by one.
        folder: must be there.
        stem: of the files' names.
        largest: bytes of a file, unless a single tensor has more.

    Returns:
        The files of weights.

    Raises:
        OSError: the disk is full.
    """
    parts: list[list[str]] = []
    aside: list[Path] = []
    group: dict[str, Tensor] = {}
    total = size = 0

    def write() -> None:
        aside.append(folder / f".writing_{stem}_{len(aside)}.safetensors")
        save_tensors(group, aside[-1], {"format": "pt"})
        sync(aside[-1])
        parts.append(list(group))
        group.clear()

    try:
        for name, tensor in tensors:
            if group and size + tensor.nbytes > largest:
                write()
                size = 0
            group[name] = tensor
            size += tensor.nbytes
            total += tensor.nbytes
        write()
    except BaseException:
        for file in aside:
            file.unlink(missing_ok=True)
        raise
    count = len(parts)
    ends = [""] if count == 1 else [f"-{i:05d}-of-{count:05d}" for i in range(1, count + 1)]
    files = [folder / f"{stem}{end}.safetensors" for end in ends]
    for written, file in zip(aside, files, strict=True):
        written.replace(file)
    if count > 1:
        places = {name: file.name for names, file in zip(parts, files, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return files
