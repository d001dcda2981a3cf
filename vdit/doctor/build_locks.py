"""Locks that builds of torch's extensions left behind, for which later starts wait for ever."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vdit.doctor.finding import Finding

__all__ = ["check_build_locks", "extensions_folders"]

STALE_SECONDS = 600.0
"""An extension of DeepSpeed builds in a minute or two."""


def check_build_locks() -> list[Finding]:
    """Look for locks in the cache of built extensions; none is removed."""
    folders = extensions_folders()
    locks = sorted(lock for folder in folders for lock in folder.glob("*/lock"))
    if not locks:
        return [Finding("build locks", "ok", "no build of an extension has left a lock")]
    return [_judged(lock) for lock in locks]


def extensions_folders() -> list[Path]:
    """Where this Python builds extensions: one folder, or one for each kind of device."""
    from torch.utils.cpp_extension import get_default_build_root

    if chosen := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return [Path(chosen)]
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return sorted(Path(get_default_build_root()).glob(f"{version}*_*"))


def _judged(lock: Path) -> Finding:
    holder = next(_holders(lock), None)
    if holder is not None:
        return Finding("build locks", "ok", f"{lock.parent.name} is being built now, by process {holder}")
    try:
        age = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return Finding("build locks", "ok", f"{lock.parent.name} was built just now")
    name, minutes = lock.parent.name, f"{age / 60:.0f} minutes"
    if age < STALE_SECONDS:
        return Finding(
            "build locks",
            "warning",
            f"{lock} is {minutes} old and held by no process that is seen here",
            f"if no other machine builds {name} in this folder, delete it",
        )
    return Finding(
        "build locks",
        "wrong",
        f"{lock} is {minutes} old and no process here builds: every start that needs {name} waits for ever",
        f"rm {lock}",
    )


def _holders(lock: Path) -> Iterator[int]:
    """Processes of this machine that have the file open, as a build has; those of others cannot be seen."""
    target = os.path.realpath(lock)
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(handle) == target:
                yield int(handle.parts[2])
        except OSError:  # it has ended, or is not ours
            continue
