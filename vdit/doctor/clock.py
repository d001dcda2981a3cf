"""Whether the clocks of all machines tell the same time."""

import time

from vdit.doctor.finding import Finding
from vdit.doctor.hosts import Roll
from vdit.parallel.peers import Peers

__all__ = ["check_clock"]

MOST_SECONDS = 1.0
"""Apart; more, and the order of log lines and of files is not that of what happened."""
ROUNDS = 4
"""The quickest round counts: a clock is read within half of it."""


def check_clock(peers: Peers, roll: Roll, seconds: float) -> list[Finding]:
    """Compare every rank's clock with that of rank 0, less half of the way there and back; all together."""
    if peers.rank:
        for turn in range(ROUNDS):
            if peers.hear(f"clock {turn} for {peers.rank}", 0, len(roll.cards) * seconds) is None:
                return []
            peers.tell(f"clock {turn}", repr(time.time()))
        return []
    ahead: dict[int, float] = {}
    found: list[Finding] = []
    for rank in range(1, peers.world):
        if rank in roll.silent:
            continue
        offset = _ahead(peers, rank, seconds)
        if offset is None:  # the next ones still wait to be asked
            found.append(Finding("clock", "warning", f"{roll.place(rank)} does not say what time it is"))
        else:
            ahead[rank] = offset
    if not ahead and not found:
        return [Finding("clock", "skipped", "no other process answers")]
    found += [
        Finding(
            "clock",
            "warning",
            f"the clock of {roll.place(rank)} is {abs(offset):.1f} s "
            f"{'ahead of' if offset > 0 else 'behind'} that of {roll.place(0)}",
            "have both follow a time server (chrony, NTP)",
        )
        for rank, offset in ahead.items()
        if abs(offset) > MOST_SECONDS
    ]
    if found:
        return found
    most = max(map(abs, ahead.values()))
    return [Finding("clock", "ok", f"all clocks are within {max(most, 0.001):.3f} s of rank 0's")]


def _ahead(peers: Peers, rank: int, seconds: float) -> float | None:
    """Seconds by which a rank's clock is ahead of this one; None where it does not answer."""
    rounds = []
    for turn in range(ROUNDS):
        left, started = time.time(), time.perf_counter()
        peers.tell(f"clock {turn} for {rank}", "?")
        told = peers.hear(f"clock {turn}", rank, seconds)
        if told is None:
            return None
        way = time.perf_counter() - started
        rounds.append((way, float(told) - (left + way / 2)))
    return min(rounds)[1]
