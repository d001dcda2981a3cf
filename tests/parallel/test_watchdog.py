import subprocess
import sys
import time
from pathlib import Path

import pytest
from agreement_work import exchange_while_one_sleeps
from ranks import run_ranks
from torch.multiprocessing import ProcessExitedException

from vdit.parallel import watchdog
from vdit.parallel.launch import LOST
from vdit.parallel.watchdog import Watchdog


def test_who_stalls_is_named_by_all_with_the_stacks_of_each(tmp_path: Path):
    since = time.monotonic()
    with pytest.raises(ProcessExitedException) as left:
        run_ranks(exchange_while_one_sleeps, 2, tmp_path, tmp_path)
    assert left.value.exit_code == LOST
    assert time.monotonic() - since < 40
    waiting, asleep = ((tmp_path / f"said_{rank}.txt").read_text() for rank in (0, 1))
    assert "has been waiting for clips at step 3 for" in asleep
    assert "in oversleep" in asleep
    assert "error: rank 0 (" in waiting
    assert "has been computing at step 3 for" in waiting
    assert "Behind all others: rank 1 (" in waiting
    assert "waiting for clips at step 3" in waiting
    assert "the same command goes on from the last checkpoint" in waiting


ALONE = """
import sys, time
from vdit.parallel import watchdog
watchdog.GRACE = 0.1
with watchdog.Watchdog(0, 1, 0.4) as dog:
    for step in range(int(sys.argv[1])):
        dog.at(step, "computing", watched=sys.argv[2] == "watched")
        time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("steps", "watched", "seconds", "status"),
    [(8, "watched", 0.15, 0), (1, "left alone", 1.5, 0), (1, "watched", 20, LOST)],
)
def test_a_process_alone_is_watched_where_it_should_move(
    steps: int, watched: str, seconds: float, status: int
):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(steps), watched, str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status
    assert ("rank 0" in done.stderr) == (status == LOST)
    assert ("Current thread" in done.stderr or "Thread 0x" in done.stderr) == (status == LOST)


class Gone:
    """A store whose host does not answer."""

    def check(self, keys: list[str]) -> bool:
        raise RuntimeError("connection reset by peer")


class HalfSilent:
    """A store to which rank 1 alone has spoken."""

    def check(self, keys: list[str]) -> bool:
        return keys == ["1"]

    def get(self, key: str) -> bytes:
        return b"4\n12\ncomputing\nnode1\n31"


def test_one_that_never_spoke_is_named_before_those_that_wait_for_it():
    told = Watchdog(1, 2, 1.0)._blame(HalfSilent())  # pyright: ignore
    assert told == "Rank 0 has not been heard of since training began. "


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_store_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watchdog, "GRACE", 0.2)
    assert "Rank 0 does not answer" in Watchdog(1, 2, 1.0)._blame(Gone())  # pyright: ignore
