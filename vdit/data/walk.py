"""All files of a folder and its subfolders, linked ones too, and what of them could not be looked at."""

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from vdit.data.report import Reasons, printable

__all__ = ["HIDDEN", "Walk", "walk"]

HIDDEN = "hidden: its name begins with a dot"
"""Why such files and folders are left out."""


@dataclass(frozen=True)
class Walk:
    """What there is in a folder: every name in it is one of `files`, of the other two, or a folder walked.

    Attributes:
        files: that can be opened, sorted.
        skipped: (name, reason) of files and folders that cannot be read; names of folders end in `/`.
        not_understood: (name, reason) of what is hidden, or is neither a file nor a folder.
    """

    files: tuple[Path, ...]
    skipped: Reasons
    not_understood: Reasons

    @property
    def seen(self) -> int:
        """How many things were found."""
        return len(self.files) + len(self.skipped) + len(self.not_understood)


@dataclass
class _Found:
    files: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    not_understood: list[tuple[str, str]] = field(default_factory=list)
    links: deque[str] = field(default_factory=deque)
    """To folders, not followed yet."""
    read: dict[str, str] = field(default_factory=dict)
    """Names of folders, by where they really are."""


def walk(root: Path) -> Walk:
    """Look into a folder and all below it.

    Links to folders are followed, after all folders that are really there, so that names do not depend on
    links; each folder is read once, which ends loops.
    """
    found = _Found()
    _descend(root, "", found)
    while found.links:
        _descend(root, found.links.popleft(), found)
    return Walk(tuple(sorted(found.files)), tuple(found.skipped), tuple(found.not_understood))


def _descend(root: Path, top: str, found: _Found) -> None:
    """Read `top`, the name of a folder in `root` that ends in `/`, and the real folders below it."""
    folders = deque([top])
    while folders:
        folder = folders.popleft()
        known = found.read.setdefault(os.path.realpath(root / folder), folder)
        if known != folder:
            found.skipped.append((_shown(folder), f"it is {_shown(known) or 'the folder'}, read already"))
            continue
        try:
            with os.scandir(root / folder) as inside:
                there = sorted(inside, key=lambda one: one.name)
        except OSError as error:
            found.skipped.append((_shown(folder) or "./", f"the folder cannot be opened ({error.strerror})"))
            continue
        if not there and folder:
            found.not_understood.append((_shown(folder), "an empty folder"))
        for one in there:
            _look_at(root, folder + one.name, one, found, folders)


def _look_at(root: Path, name: str, one: os.DirEntry[str], found: _Found, folders: deque[str]) -> None:
    """Sort one thing of a folder into what was found, or into the folders that are still to be read."""
    try:
        is_folder, is_file = one.is_dir(), one.is_file()
    except OSError as error:
        found.skipped.append((_shown(name), f"it cannot be looked at ({error.strerror})"))
        return
    if one.name.startswith("."):
        # Archives made on macOS hold a `._a.mp4` beside each `a.mp4`, which is no video.
        found.not_understood.append((_shown(f"{name}/" if is_folder else name), HIDDEN))
    elif is_folder:
        (found.links if one.is_symlink() else folders).append(f"{name}/")
    elif not is_file:
        if one.is_symlink() and not os.path.exists(one.path):
            found.skipped.append(
                (_shown(name), f"a link to {_shown(os.readlink(one.path))}, which is not there")
            )
        else:
            found.not_understood.append((_shown(name), "neither a file nor a folder"))
    elif not _is_utf8(name):
        found.skipped.append((_shown(name), "its name is not UTF-8; rename it"))
    else:
        found.files.append(root / name)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    """A name as reports have it: one that is not UTF-8 could be written nowhere."""
    return name if _is_utf8(name) else printable(name)
