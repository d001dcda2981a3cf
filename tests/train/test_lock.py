"""Two runs in one folder: processes that are really there, and really killed."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdit.train import lock
from vdit.train.lock import LOCK, locked
from vdit.types import InputError

HOLDS = """
import sys, time
from pathlib import Path
from vdit.train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `run` until its standard input ends."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_told_who_is_there(holder: subprocess.Popen[str], tmp_path: Path):
    with pytest.raises(InputError) as refused, locked(tmp_path / "run"):
        pass
    said = str(refused.value)
    assert f"run is in use: process {holder.pid} on {os.uname().nodename}, since 20" in said
    assert "give another --out" in said
    assert (tmp_path / "run" / LOCK).is_file()


def test_a_run_that_ends_leaves_no_lock(holder: subprocess.Popen[str], tmp_path: Path):
    holder.communicate("")
    assert holder.returncode == 0
    assert list((tmp_path / "run").iterdir()) == []
    with locked(tmp_path / "run"):
        pass


def test_a_run_that_was_killed_blocks_nobody(holder: subprocess.Popen[str], tmp_path: Path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).is_file()
    started = time.monotonic()
    with locked(tmp_path / "run"):
        assert time.monotonic() - started < 5  # no heartbeat is waited for


def test_a_lock_cut_off_by_a_full_disk_blocks_nobody(tmp_path: Path):
    (tmp_path / LOCK).write_text('{"host": "nod')
    with locked(tmp_path):
        pass


def left(folder: Path, **changed: object) -> None:
    """What a run of another machine leaves that did not say goodbye."""
    holder = {"host": "node7", "pid": 1, "since": time.time(), "machine": "node7"}
    (folder / LOCK).write_text(json.dumps({**holder, **changed}))


def test_what_another_machine_left_counts_until_its_heartbeat_is_stale(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lock, "STALE", 2.0)
    left(tmp_path)
    started = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - started > 1
    left(tmp_path)
    os.utime(tmp_path / LOCK, (0, time.time() - 10))
    started = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - started < 1


def test_another_machine_whose_heart_beats_is_told(tmp_path: Path, monkeypatch):
    left(tmp_path)
    over = threading.Event()
    monkeypatch.setattr(lock, "BEAT", 0.2)
    with (tmp_path / LOCK).open() as file:
        beating = threading.Thread(target=lock._beat, args=(file.fileno(), over))
        beating.start()
        try:
            with pytest.raises(InputError, match="in use: process 1 on node7"), locked(tmp_path):
                pass
        finally:
            over.set()
            beating.join()


def test_the_heart_beats_while_a_run_works(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    with locked(tmp_path):
        first = (tmp_path / LOCK).stat().st_mtime_ns
        time.sleep(0.5)
        assert (tmp_path / LOCK).stat().st_mtime_ns > first


def test_where_a_disk_has_no_locks_the_process_is_looked_for(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch
):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(InputError, match=f"in use: process {holder.pid}"), locked(tmp_path / "run"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "run"):
        pass
