"""A process that waits for its peers ends with the one that started it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from vdit.parallel.launch import Launch
from vdit.parallel.parent import PARENT, ended_with_parent

ALONE = "the first process of this node ended before all had met; its own message says why"
MEETING = """
import os, subprocess, sys, time
from vdit.parallel.launch import Launch
from vdit.parallel.parent import ended_with_parent

with ended_with_parent(Launch()):
    if "LOCAL_RANK" in os.environ:
        print("waiting", flush=True)
        time.sleep(300)
    else:
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=os.environ | {"LOCAL_RANK": "1"})
        child.wait()
"""


def test_the_child_of_a_killed_process_ends():
    unset = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", PARENT)}
    first = subprocess.Popen(
        [sys.executable, "-c", MEETING, MEETING],
        env=unset,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "waiting\n"
    first.send_signal(signal.SIGKILL)
    said = first.communicate(timeout=20)[0]  # until the child has closed it too
    assert said == f"error: {ALONE}\n"


def test_one_that_nobody_started_here_waits_for_no_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv(PARENT, raising=False)
    with ended_with_parent(Launch()):
        assert not watched()
    monkeypatch.setenv(PARENT, "1")  # of the shell that a launcher was called in
    with ended_with_parent(Launch(by="torchrun", devices=2)):
        assert not watched()


def watched() -> bool:
    return any(thread.name == "parent" for thread in threading.enumerate())
