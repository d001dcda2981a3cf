"""One run at a time in a folder: who works in it holds a lock on a file there, which says who it is.

The lock is the system's (`flock`): it is gone with the process that held it, however that ended. Some shared
disks lock within one machine only, or not at all. So the file's time is a heartbeat too, and what another
machine left is taken over once that has stood still.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile

from vdit.types import InputError
from vdit.weights.files import TRIAL, disk_refusal

__all__ = ["LOCK", "locked"]

LOCK = "lock"
"""The file's name; it is there while a run is worked on, and after one that was killed."""

BEAT = 10.0
"""Seconds from one heartbeat to the next."""

STALE = 90.0
"""Seconds without one after which a process of another machine is taken for dead."""

NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What a disk says that has no locks."""


@dataclass(frozen=True)
class Holder:
    """Who works in a folder.

    Attributes:
        host: its machine's name.
        pid: its process.
        since: when it came, in seconds of the epoch.
        machine: where `pid` means the same process: the boot of the machine, and the container.
    """

    host: str
    pid: int
    since: float
    machine: str

    @classmethod
    def own(cls) -> "Holder":
        return cls(socket.gethostname(), os.getpid(), time.time(), _machine())

    @classmethod
    def read(cls, handle: int) -> "Holder | None":
        """The one that a file names; None where it names nobody, or was cut off by a full disk."""
        try:
            return cls(**json.loads(os.pread(handle, 4096, 0)))
        except (ValueError, TypeError):
            return None

    def write(self, handle: int) -> None:
        """Name it in a file."""
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(self)).encode(), 0)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work in `folder`, which is made if need be, alone among all runs.

    Raises:
        InputError: another run works in it; the message says which.
        DiskError: the disk failed for a reason that may pass.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _taken(file)
    except OSError as error:
        raise disk_refusal(error, folder, "The run was not begun.") from error
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(handle, over), name="lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join(1)  # the handle's number may soon be another file's; a disk may not answer
        with suppress(OSError):  # a disk that has failed is told by what failed first
            file.unlink()
        os.close(handle)


def _taken(file: Path) -> int:
    """The file, open and locked, with this process's name in it. Raises InputError where it is another's."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            known = _lock(handle)
            if not _is_at(handle, file):  # the one that held it has removed it
                os.close(handle)
                continue
            before = Holder.read(handle)
            if known is False or (before is not None and _lives(before, file, certain=known is True)):
                raise InputError(_refusal(file, before))
            own = Holder.own()
            own.write(handle)
            if known is None:  # two that came at once may both have written: the later one stays
                time.sleep(1)
                if (now := Holder.read(handle)) != own:
                    raise InputError(_refusal(file, now))
        except FileNotFoundError:  # the one that held it has just removed it
            os.close(handle)
            continue
        except BaseException:
            os.close(handle)
            raise
        return handle


def _lock(handle: int) -> bool | None:
    """Whether the system gives us the lock; None where the disk has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _lives(holder: Holder, file: Path, certain: bool) -> bool:
    """Whether one that did not say goodbye may still be there.

    Args:
        holder: the one.
        file: which it named itself in.
        certain: whether a lock of this machine would have kept us out.
    """
    if holder.machine != _machine():
        return _beats(file)
    if certain:
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return holder.pid != os.getpid()


def _beats(file: Path) -> bool:
    """Whether the heartbeat moves; looked at until it is stale. Both times are of the disk's own clock."""
    seen = file.stat().st_mtime
    while True:
        with TemporaryFile(prefix=TRIAL, dir=file.parent) as probe, file.open("rb") as opened:
            now = os.fstat(probe.fileno()).st_mtime
            beat = os.fstat(opened.fileno()).st_mtime  # of an opened file: a client of NFS asks its server
        if beat != seen:
            return True
        if now - beat > STALE:
            return False
        time.sleep(min(1.0, STALE / 10))


def _beat(handle: int, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):  # the handle of a run that ends, a disk that fails: others tell of it
            os.utime(handle)


def _machine() -> str:
    """A name of this boot of this machine, and of the container whose processes we see."""
    said = [socket.gethostname()]
    with suppress(OSError):
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        said.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(said)


def _refusal(file: Path, holder: Holder | None) -> str:
    who = "another process, which has not said who it is,"
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
        who = f"process {holder.pid} on {holder.host}, since {since},"
    return (
        f"{file.parent} is in use: {who} trains in it. Wait for it, end it with `touch {file.parent}/stop`, "
        "or give another --out"
    )
