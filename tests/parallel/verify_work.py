"""How ranks that share the verifying of a checkpoint find what is damaged in tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from vdit.parallel.agreement import Agreement
from vdit.train import manifest
from vdit.train.checkpoint import Checkpoint
from vdit.train.manifest import Piece, Stated
from vdit.train.saving import Writers
from vdit.types import InputError
from vdit.weights.files import digest

LENGTH = 1000
SIZES = {"ema.safetensors": 2 * LENGTH, "model.safetensors": 9 * LENGTH + 1, "progress.json": 30}


def of_all(own: Any) -> list[Any]:
    """What every rank has."""
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return every


def wholly(folder: Path) -> None:
    """A manifest as they once were: a digest for each file."""
    files = {name: {"bytes": size, "sha256": digest(folder / name)} for name, size in SIZES.items()}
    (folder / manifest.MANIFEST).write_text(json.dumps({"step": 1, "files": files}))


def flipped(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def told(checkpoint: Checkpoint, writers: Writers) -> str:
    """What all ranks say of it, which is the same."""
    dist.barrier()
    try:
        checkpoint.verify(writers)
        own = "whole"
    except InputError as error:
        own = str(error)
    every = of_all(own)
    assert every == every[:1] * len(every)
    return own


def damage(rank: int, world: int, folder: Path) -> None:
    manifest.LENGTH = LENGTH
    writers, checkpoint = Writers(rank, world, "test", Agreement(world)), Checkpoint(folder, 1)
    if rank == 0:
        for name, size in SIZES.items():
            (folder / name).write_bytes(bytes(torch.randint(256, (size,)).tolist()))
        manifest.seal(folder, 1)
    dist.barrier()
    pieces = once(checkpoint, writers)
    assert len(pieces) == 2 + 10 + 1
    for piece in pieces:
        for place in {piece.start, piece.start + piece.length - 1}:
            with_damage(checkpoint, writers, piece.file, place)
    several(checkpoint, writers)
    if rank == 0:
        wholly(folder)
    dist.barrier()
    assert [piece.length for piece in once(checkpoint, writers)] == list(SIZES.values())
    for name, size in SIZES.items():
        with_damage(checkpoint, writers, name, size - 1)
    # Where one rank cannot read what the files should be, no rank goes on.
    elsewhere = Checkpoint(folder / "elsewhere" if rank == 1 else folder, 1)
    dist.barrier()
    with pytest.raises(InputError, match=f"{elsewhere.path / 'manifest.json'} is damaged or missing"):
        elsewhere.verify(writers)


def once(checkpoint: Checkpoint, writers: Writers) -> list[Piece]:
    """All pieces, of which every one is looked at by one rank, and as many by each."""
    holds, seen = Stated.holds, []

    def noted(stated: Stated, folder: Path) -> bool:
        seen.append(stated.piece)
        return holds(stated, folder)

    Stated.holds = noted
    assert told(checkpoint, writers) == "whole"
    Stated.holds = holds
    every = of_all(seen)
    assert max(map(len, every)) - min(map(len, every)) <= 1
    pieces = [stated.piece for stated in manifest.read_manifest(checkpoint.path)]
    assert sorted(piece for found in every for piece in found) == sorted(pieces)
    return pieces


def with_damage(checkpoint: Checkpoint, writers: Writers, name: str, place: int) -> None:
    file = checkpoint.path / name
    if writers.rank == 0:
        flipped(file, place)
    said = told(checkpoint, writers)
    assert said == f"checkpoint file {file} is damaged or missing: delete {checkpoint.path} to fall back"
    if writers.rank == 0:
        flipped(file, place)
    assert told(checkpoint, writers) == "whole"


def several(checkpoint: Checkpoint, writers: Writers) -> None:
    """The first of several is named, whoever finds it; a file that is shorter, longer or gone is damaged."""
    first, second, third = (checkpoint.path / name for name in SIZES)
    whole = second.read_bytes()
    dist.barrier()
    if writers.rank == 0:
        flipped(third, 0)
        second.write_bytes(whole + b" ")
    assert f"{second} is damaged" in told(checkpoint, writers)
    if writers.rank == 0:
        second.write_bytes(whole[:-1])
        first.rename(first.with_suffix(".gone"))
    assert f"{first} is damaged" in told(checkpoint, writers)
    if writers.rank == 0:
        first.with_suffix(".gone").rename(first)
        second.write_bytes(whole)
    assert f"{third} is damaged" in told(checkpoint, writers)
    if writers.rank == 0:
        flipped(third, 0)
    dist.barrier()
