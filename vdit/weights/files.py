"""Safetensors in and out, hashes, and files that are either whole or not there."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vdit.types import InputError
from vdit.weights.ranges import fill, opened
from vdit.weights.source import open_weights

__all__ = [
    "ASIDE",
    "PASSING",
    "TRIAL",
    "DiskError",
    "digest",
    "disk_refusal",
    "load_weights",
    "read_tensors",
    "save_tensors",
    "sync",
    "write_whole",
    "writing_error",
]

ASIDE = ".writing_"
"""How the name of a file or a folder begins that is not whole yet, or no longer kept."""

TRIAL = ".vdit_trial_"
"""How the name of a folder begins that is made to see whether one can be."""

BUFFER = 2**20
"""Bytes of a file that are hashed at once."""

PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ENOMEM,
    errno.ENFILE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}
"""What a disk, or the way to it, may say now and not a minute later; anything else somebody must mend."""


class DiskError(RuntimeError):
    """A disk did not do what it was asked, for a reason that may pass; the message is for a person."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InputError when it is missing or damaged."""
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as safetensors: {error}") from error


def save_tensors(
    tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors. Raises OSError, also where the library has a type of its own."""
    dense = {name: value.detach().contiguous() for name, value in tensors.items()}
    try:
        save_file(dense, file, dict(metadata or {}))
    except SafetensorError as error:
        number = re.search(r"(?:os error|code:) (\d+)", str(error))  # the system's, told in words alone
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
    # The library keeps files to their owner; whoever may read the folder should read what is in it.
    file.chmod(file.absolute().parent.stat().st_mode & 0o666)


def load_weights(module: nn.Module, file: Path, borrowed: Set[str] = frozenset()) -> None:
    """Load safetensors into a module, exactly, one tensor at a time; what is on `meta` is not read.

    Args:
        module: takes them.
        file: what to read.
        borrowed: names that stay as they are, and that the file does not hold.

    Raises:
        InputError: the file is missing or unreadable, or its names or shapes are not the module's.
    """
    source = open_weights(file)
    weights = source.shapes()
    own = {name: value for name, value in module.state_dict().items() if name not in borrowed}
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & weights.keys() if tuple(own[n].shape) != weights[n])
    if missing or extra or shapes:
        raise InputError(
            f"{file} does not fit the model: missing {missing[:5]}, unexpected {extra[:5]}, "
            f"of another shape {shapes[:5]} ({len(missing)}, {len(extra)} and {len(shapes)} in all)"
        )
    for name, value in own.items():
        if not value.is_meta:
            value.copy_(source.tensor(name))


def digest(file: Path, start: int = 0, length: int | None = None) -> str:
    """sha256 of a file, or of so many bytes of it from `start` on; of fewer where the file ends."""
    found, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER))
    with opened(file) as handle:
        left = os.fstat(handle).st_size - start if length is None else length
        while got := fill(handle, start, buffer[:left]):
            found.update(buffer[:got])
            start, left = start + got, left - got
    return found.hexdigest()


def sync(path: Path) -> None:
    """Have the disk keep what was written to a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(file: Path, lines: Iterable[str]) -> None:
    """Write a text file in UTF-8 that is whole or not there, for those too who read it meanwhile.

    Raises:
        OSError: the disk did not let us; what stood there before stays.
    """
    aside = file.with_name(f"{ASIDE}{file.name}")
    with aside.open("w", encoding="utf-8") as opened:
        opened.writelines(lines)
    aside.replace(file)


def writing_error(folder: Path) -> OSError | None:
    """What the operating system says to writing into a folder, which need not be there; None if it lets us.

    It is tried, and nothing is left of that: rights do not tell of disks that are read only, or full.
    """
    there = folder
    try:
        there = _existing(folder)  # which the system may refuse to tell
        with TemporaryDirectory(prefix=TRIAL, dir=there) as tried:
            Path(tried, "file").write_bytes(b"1")
    except OSError as error:
        return OSError(error.errno, error.strerror, str(there))
    return None


def disk_refusal(error: OSError, folder: Path, remedy: str) -> InputError | DiskError:
    """A sentence for a system's error while writing into `folder`; what may pass is a `DiskError`."""
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(_existing(folder)).free / 2**20
        return InputError(f"the disk is full: {free:.0f} MiB left for {folder}. Make room. {remedy}")
    kind = DiskError if error.errno in PASSING else InputError
    return kind(f"{folder} could not be written to: {error}. {remedy}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest place above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
