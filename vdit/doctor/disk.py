"""Whether the disk has room for what a run writes."""

import errno
import shutil
from pathlib import Path

from vdit.doctor.finding import Finding
from vdit.weights.files import writing_error

__all__ = ["check_disk", "nearest_folder"]

LEAST_BYTES = 2**30
"""Below this, no training gets far."""

REMEDIES = {
    errno.EACCES: "change its owner",
    errno.EPERM: "change its owner",
    errno.ENOSPC: "free some",
    errno.EDQUOT: "free some",
}
"""What helps where a place cannot be written, by the system's number for the reason."""


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return path if path.is_dir() or path == path.parent else nearest_folder(path.parent)


def check_disk(out: Path, checkpoints: int = 0, one: int | None = None) -> list[Finding]:
    """Free space where a run goes, against what it will write.

    Args:
        out: its folder, which need not be there.
        checkpoints: that stand there at once, at most.
        one: bytes of one of them; None where they are not known.
    """
    if (error := writing_error(out)) is not None:
        do = REMEDIES.get(error.errno or 0, "look at the disk")
        remedy = f"the system says: {error.strerror}; {do}, or give another --out"
        return [Finding("disk", "wrong", f"{error.filename} cannot be written", remedy)]
    free = shutil.disk_usage(nearest_folder(out)).free
    if one is None:
        sentence = f"{_size(free)} are free where {_shown(out)} is"
        if free < LEAST_BYTES:
            return [Finding("disk", "warning", sentence, "free some, or give another --out")]
        return [Finding("disk", "ok", sentence)]
    there = _bytes_in(out / "checkpoints")
    need = max(one * checkpoints - there, one)
    sentence = (
        f"{_size(free)} are free where {_shown(out)} is; {checkpoints} checkpoints of {_size(one)} need "
        f"{_size(need)}" + (f" beside the {_size(there)} that are there" if there else "")
    )
    if free < need:
        remedy = f"free {_size(need - free)}, give another --out, or keep fewer (loop.keep, loop.keep_every)"
        return [Finding("disk", "wrong", sentence, remedy)]
    return [Finding("disk", "ok", sentence)]


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _shown(path: Path) -> str:
    return str(path) if str(path) != "." else "this folder"


def _size(count: float) -> str:
    unit, scale = ("GB", 1e9) if count >= 1e9 else ("MB", 1e6)
    return f"{count / scale:.3g} {unit}" if count < 1e12 else f"{count / 1e12:.3g} TB"
