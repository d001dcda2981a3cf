"""Whether all processes see the same folder where the run goes."""

import os
import time
import uuid
from pathlib import Path

from vdit.doctor.disk import nearest_folder
from vdit.doctor.finding import Finding
from vdit.doctor.hosts import Roll
from vdit.parallel.peers import Peers

__all__ = ["check_shared_folder"]

PATIENCE_SECONDS = 5.0
"""For a network file system to show what another machine wrote."""
REMEDY = (
    "put --out on a file system that all machines mount at the same path, and start all in the same folder"
)


def check_shared_folder(peers: Peers, roll: Roll, out: Path, seconds: float) -> list[Finding]:
    """Have rank 0 write a file where the run goes, and all others read it; all ranks call it together.

    A relative folder is taken from where each process was started, as training does.
    """
    if peers.rank:
        name = peers.hear("token", 0, seconds)
        if name:
            peers.tell("token", _read(Path(name)))
            peers.hear("token gone", 0, seconds)
        return []
    token = uuid.uuid4().hex
    file = nearest_folder(out) / f".vdit_doctor_{token}"
    try:
        file.write_text(token)
        peers.tell("token", str(file))
        told = peers.hear_all("token", seconds + PATIENCE_SECONDS, roll.silent)
    except OSError as error:
        peers.tell("token", "")
        reason = f"rank 0 cannot write to {file.parent}: {error.strerror}"
        return [Finding("shared folder", "wrong", reason, "change its owner, or give another --out")]
    finally:
        file.unlink(missing_ok=True)
        peers.tell("token gone", "yes")
    return _judged(roll, told[1:], token, os.path.abspath(file.parent))


def _judged(roll: Roll, told: list[str | None], token: str, folder: str) -> list[Finding]:
    ranks = [rank for rank in range(1, len(roll.cards)) if rank not in roll.silent]
    blind = [rank for rank in ranks if told[rank - 1] != token]
    if blind:
        hosts = dict.fromkeys(card.host for rank in blind if (card := roll.cards[rank]))
        sentence = f"what rank 0 writes to {folder} is not seen on {', '.join(hosts)}"
        return [Finding("shared folder", "wrong", sentence, REMEDY)]
    if not ranks:
        return [Finding("shared folder", "skipped", "no other process answers")]
    return [Finding("shared folder", "ok", f"what rank 0 writes to {folder} is seen by all")]


def _read(file: Path) -> str:
    """What stands in a file, once it is there; "" where it does not come."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if text := file.read_text():
                return text
        except OSError:
            pass
        if time.monotonic() > until:
            return "-"
        time.sleep(0.1)
