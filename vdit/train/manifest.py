"""What the files of a checkpoint hold: their sizes, and digests of the pieces that they are cut into.

Pieces are as long in every file, so that processes can share them whatever the files are.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from vdit.weights.files import digest, sync

__all__ = ["MANIFEST", "Piece", "Stated", "pieces_of", "read_manifest", "seal", "share", "write_manifest"]

MANIFEST = "manifest.json"

LENGTH = 2**26
"""Bytes of a piece: enough to be read at full speed, and so few that many processes have equal shares."""

Item = TypeVar("Item")


class Piece(NamedTuple):
    """A part of a file.

    Attributes:
        file: its name.
        start: the first byte.
        length: in bytes; the last one of a file may be shorter.
        size: bytes of the whole file.
    """

    file: str
    start: int
    length: int
    size: int

    def digest(self, folder: Path) -> str:
        """The sha256 of it in `folder`. Raises OSError."""
        return digest(folder / self.file, self.start, self.length)


class Stated(NamedTuple):
    """What a manifest says of a piece.

    Attributes:
        piece: which one.
        sha256: its digest.
    """

    piece: Piece
    sha256: str

    def holds(self, folder: Path) -> bool:
        """Whether the file in `folder` is there, has its size, and has the digest. Raises OSError."""
        try:
            size = (folder / self.piece.file).stat().st_size
            return size == self.piece.size and self.piece.digest(folder) == self.sha256
        except FileNotFoundError:
            return False


def pieces_of(sizes: Mapping[str, int]) -> list[Piece]:
    """All pieces of files of so many bytes."""
    return [piece for name, size in sizes.items() for piece in _cut(name, size, LENGTH)]


def share(items: Sequence[Item], rank: int, world: int) -> Sequence[Item]:
    """A rank's of some items: as many as others have, and every one once."""
    return items[rank::world]


def read_manifest(folder: Path) -> list[Stated]:
    """What the manifest in `folder` says, piece by piece. Raises ValueError where it is none, OSError."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return [stated for name, told in files.items() for stated in _stated(name, told)]
    except (FileNotFoundError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST} cannot be read: {error!r}") from error


def write_manifest(folder: Path, step: int, sizes: Mapping[str, int], digests: Iterable[str]) -> None:
    """Flush all files of a checkpoint to the disk, and state them.

    Args:
        folder: where they are.
        step: steps done.
        sizes: bytes of every file.
        digests: of their pieces, one by one.

    Raises:
        OSError: the disk is full.
    """
    of: dict[str, list[str]] = {name: [] for name in sizes}
    for piece, found in zip(pieces_of(sizes), digests, strict=True):
        of[piece.file].append(found)
    files = {name: {"bytes": size, "piece": LENGTH, "sha256": of[name]} for name, size in sizes.items()}
    for name in sizes:
        sync(folder / name)
    (folder / MANIFEST).write_text(json.dumps({"step": step, "files": files}, indent=1))
    sync(folder / MANIFEST)
    sync(folder)


def seal(folder: Path, step: int) -> None:
    """State everything in a folder that one process has written. Raises OSError."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    write_manifest(folder, step, sizes, [piece.digest(folder) for piece in pieces_of(sizes)])


def _cut(name: str, size: int, length: int) -> list[Piece]:
    return [Piece(name, at, min(length, size - at), size) for at in range(0, max(size, 1), length)]


def _stated(name: str, told: Mapping[str, Any]) -> list[Stated]:
    """The pieces of a file; one that is stated as a whole, as all once were, is a single one."""
    size = told["bytes"]
    whole = {"piece": max(size, 1), "sha256": [told["sha256"]]}
    cut = told if "piece" in told else whole
    return [Stated(*both) for both in zip(_cut(name, size, cut["piece"]), cut["sha256"], strict=True)]
