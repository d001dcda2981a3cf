"""What the processes of a job do in the tests of what is between them."""

import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from machine import only

from vdit.config import load_run
from vdit.doctor.clock import check_clock
from vdit.doctor.examination import examine_job
from vdit.doctor.finding import Finding
from vdit.doctor.hosts import Card, Roll, call_roll, check_hosts, own_card
from vdit.doctor.links import check_links
from vdit.doctor.shared_folder import check_shared_folder
from vdit.parallel.peers import Peers, started_peers
from vdit.parallel.ring import Ring

LARGE = 2**20


def _met(seconds: float) -> Peers:
    peers = started_peers(seconds)
    assert peers is not None
    return peers


def _ring(peers: Peers, roll: Roll, seconds: float) -> Ring:
    ring = Ring(peers, "gloo", torch.device("cpu"), seconds, roll.silent)
    ring.sizes = (2**10, LARGE)
    return ring


def _card(rank: int) -> Card:
    """As if every process had a machine of its own."""
    return replace(own_card(0, "gloo"), host=f"node{rank}")


def well(rank: int, folder: Path) -> None:
    """Nothing is wrong, and every check says so."""
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 30)
    assert roll.firsts == [0, 1]
    assert only(check_hosts(roll, 30), "processes").state == "ok"
    links = check_links(_ring(peers, roll, 30), roll)
    assert only(links, "ring") == Finding("ring", "ok", "each of 2 links passed 1 MiB unchanged, by gloo")
    assert only(links, "bandwidth").state == "ok"
    assert "GB/s at 1 MiB" in only(links, "bandwidth").sentence
    clock = check_clock(peers, roll, 30)
    shared = check_shared_folder(peers, roll, folder / "runs" / "mine", 30)
    if rank == 0:
        assert [finding.state for finding in (*clock, *shared)] == ["ok", "ok"]
        assert list(folder.iterdir()) == []
    else:
        assert clock == shared == []
    peers.tell("end", "")
    peers.hear_all("end", 30)


def apart(rank: int, folder: Path) -> None:
    """Rank 1 has another Python, a clock 90 s ahead, and was started in another folder."""
    peers = _met(30)
    card = _card(rank)
    own = folder / str(rank)
    own.mkdir()
    os.chdir(own)
    if rank == 1:
        card = replace(card, versions=("python 3.99.0", *card.versions[1:]))
        real = time.time
        time.time = lambda: real() + 90
    roll = call_roll(peers, card, 30)
    [hosts] = check_hosts(roll, 30)
    assert hosts.state == "wrong"
    assert "python 3.99.0 on node1" in hosts.sentence
    clock = check_clock(peers, roll, 30)
    shared = check_shared_folder(peers, roll, Path("runs/mine"), 30)
    if rank == 0:
        [late] = clock
        assert late.state == "warning"
        assert late.sentence == "the clock of rank 1 on node1 is 90.0 s ahead of that of rank 0 on node0"
        [blind] = shared
        assert blind.state == "wrong"
        assert blind.sentence == f"what rank 0 writes to {own} is not seen on node1"
        assert list(own.iterdir()) == []
    peers.tell("end", "")
    peers.hear_all("end", 30)


def altered(rank: int) -> None:
    """What rank 1 sends is not what it should be; the other direction is well."""
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 30)
    if rank == 1:
        real = dist.send
        dist.send = lambda tensor, dst: real(tensor * 2, dst=dst)
    links = check_links(_ring(peers, roll, 30), roll)
    broken = only(links, "ring")
    assert broken.state == "wrong"
    assert broken.sentence == "rank 1 on node1 -> rank 0 on node0: what arrived is not what was sent"
    assert only(links, "bandwidth").state == "skipped"
    peers.tell("end", "")
    peers.hear_all("end", 30)


def dropped(rank: int) -> None:
    """What rank 0 sends to rank 1 never arrives; the other direction is well."""
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 30)
    if rank == 0:
        dist.send = lambda tensor, dst: None
    started = time.monotonic()
    links = check_links(_ring(peers, roll, 3), roll)
    assert time.monotonic() - started < 20
    broken = only(links, "ring")
    assert broken.sentence.startswith("rank 0 on node0 -> rank 1 on node1: ")
    assert "rank 1 on node1 -> " not in broken.sentence
    peers.tell("end", "")
    peers.hear_all("end", 30)


def silent(rank: int) -> None:
    """Rank 1 says that it is there, and nothing more."""
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 30)
    if rank == 1:
        peers.hear("end", 0, 60)
        return
    started = time.monotonic()
    links = check_links(_ring(peers, roll, 2), roll)
    took = time.monotonic() - started
    told = [finding.sentence for finding in links if finding.state == "wrong"]
    assert told == [
        "rank 0 on node0 -> rank 1 on node1: rank 1 did not answer within 2 s",
        "rank 1 on node1 -> rank 0 on node0: rank 1 did not answer within 2 s",
    ]
    assert took < 12
    peers.tell("end", "")


def hung(rank: int) -> None:
    """A backend that does not notice that time is up: the watch over it does."""
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 30)
    dist.init_process_group = lambda *_, **__: time.sleep(3600)
    ring = _ring(peers, roll, 1)
    links = check_links(ring, roll)
    assert ring.stuck
    assert [finding.sentence for finding in links if finding.state == "wrong"] == [
        "rank 0 on node0 -> rank 1 on node1: nothing passed within 1 s",
        "rank 1 on node1 -> rank 0 on node0: not tried, for something hangs already",
    ]
    peers.tell("end", "")
    peers.hear_all("end", 30)
    sys.stdout.flush()
    os._exit(0)


def absent(rank: int) -> None:
    """Rank 1 is never started."""
    if rank == 1:
        return
    peers = _met(30)
    roll = call_roll(peers, _card(rank), 1)
    assert roll.silent == {1}
    [missing] = check_hosts(roll, 1)
    assert missing.sentence == "of 2 processes these did not answer within 1 s: rank 1"
    started = time.monotonic()
    links = check_links(_ring(peers, roll, 30), roll)
    assert time.monotonic() - started < 5  # nobody is waited for a second time
    assert "rank 0 on node0 -> rank 1, which never answered" in links[0].sentence


def examined(rank: int, folder: Path) -> None:
    """Rank 1 is another machine, on which a video is missing and a build has left a lock."""
    own = folder / str(rank)
    os.environ |= {"LOCAL_RANK": "0", "TORCH_EXTENSIONS_DIR": str(own / "extensions")}
    socket.gethostname = lambda: f"node{rank}"
    peers = _met(30)
    outcome = examine_job(peers, 0, load_run(own / "config.yaml"), 30)
    assert outcome.wrong
    if rank:
        assert outcome.findings == ()
        return
    wrong = [finding.sentence for finding in outcome.findings if finding.state == "wrong"]
    assert len(wrong) == 3
    assert wrong[0].startswith("rank 1 on node1: ")
    assert "lock is 95 minutes old" in wrong[0]
    assert wrong[1] == "rank 1 on node1: named and not there: 1.mp4"
    assert wrong[2] == "rank 1 on node1 does not see the same clips as rank 0 on node0"
    assert only(outcome.findings, "ring").state == "ok"
