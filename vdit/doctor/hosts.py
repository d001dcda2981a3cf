"""Who is there of a job, and whether all of its machines have the same software."""

import json
import platform
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

import vdit
from vdit.doctor.finding import Finding
from vdit.doctor.versions import installed
from vdit.parallel.peers import Peers, Unreachable
from vdit.parallel.ring import Backend

__all__ = ["Card", "Roll", "call_roll", "check_hosts", "own_card"]

SAME = ("torch", "lightning", "deepspeed", "transformers", "numpy")
"""Packages that must be of one version on all machines, beside Python, CUDA and this one."""


@dataclass(frozen=True)
class Card:
    """What a process says of itself.

    Attributes:
        host: name of its machine.
        local: its number on that machine.
        backend: what it can talk by.
        versions: "name version" of what should be the same everywhere.
    """

    host: str
    local: int
    backend: Backend
    versions: tuple[str, ...]


def own_card(local: int, backend: Backend) -> Card:
    """The card of this process, the `local`-th of its machine."""
    packages = [f"{name} {installed(name)}" for name in SAME]
    built = f"CUDA {torch.version.cuda}"
    python = f"python {platform.python_version()}"
    versions = (python, f"vdit {vdit.__version__}", *packages, built)
    return Card(socket.gethostname(), local, backend, versions)


@dataclass(frozen=True)
class Roll:
    """The processes of a job.

    Attributes:
        cards: by rank; None stands for one that did not answer.
        lost: ranks that did, and no longer do.
    """

    cards: tuple[Card | None, ...]
    lost: frozenset[int] = frozenset()

    @property
    def silent(self) -> frozenset[int]:
        """Ranks that nobody should wait for."""
        return self.lost | {rank for rank, card in enumerate(self.cards) if card is None}

    @property
    def backend(self) -> Backend:
        """NCCL where all have a GPU of their own."""
        return "nccl" if all(card is None or card.backend == "nccl" for card in self.cards) else "gloo"

    def place(self, rank: int) -> str:
        """How a rank is called in a sentence."""
        card = self.cards[rank]
        return f"rank {rank} on {card.host}" if card else f"rank {rank}, which never answered"

    @property
    def firsts(self) -> list[int]:
        """The first rank of every machine, which checks the machine."""
        return [rank for rank, card in enumerate(self.cards) if card and card.local == 0]


def call_roll(peers: Peers, card: Card, seconds: float) -> Roll:
    """Ask who is there; rank 0 decides and tells the others. Raises Unreachable where it does not."""
    peers.tell("card", json.dumps(asdict(card)))
    if peers.rank == 0:
        told = peers.hear_all("card", seconds)
        peers.tell("roll", json.dumps(told))
    else:
        words = peers.hear("roll", 0, 2 * seconds)
        if words is None:
            raise Unreachable(f"rank {peers.rank} hears nothing from rank 0 within {2 * seconds:g} s")
        told = json.loads(words)
    return Roll(tuple(None if words is None else _card(json.loads(words)) for words in told))


def _card(values: dict[str, Any]) -> Card:
    return Card(values["host"], values["local"], values["backend"], tuple(values["versions"]))


def check_hosts(roll: Roll, seconds: float) -> list[Finding]:
    """Whether all answered, by the same means and with the same software."""
    cards = [card for card in roll.cards if card]
    found = []
    if roll.silent:
        names = ", ".join(map(str, sorted(roll.silent)))
        found.append(
            Finding(
                "processes",
                "wrong",
                f"of {len(roll.cards)} processes these did not answer within {seconds:g} s: rank {names}",
                "see whether torchrun runs on their machine, with the same --rdzv-endpoint, and reaches it",
            )
        )
    apart = _apart(cards, lambda card: card.backend)
    if len(apart) > 1:
        sentence = f"some processes have no GPU of their own: {_told(apart)}"
        remedy = "start no more processes than there are GPUs (--nproc-per-node), and see the GPUs there"
        found.append(Finding("processes", "wrong", sentence, remedy))
    for place, version in enumerate(cards[0].versions):
        apart = _apart(cards, lambda card, place=place: card.versions[place])
        if len(apart) > 1:
            name = version.split()[0]
            sentence = f"machines differ in {name}: {_told(apart)}"
            found.append(Finding("hosts", "wrong", sentence, f"install one version of {name} on all of them"))
    if not found:
        machines = len({card.host for card in cards})
        sentence = f"{len(cards)} processes answered (machines: {machines}), with the same versions"
        found.append(Finding("processes", "ok", sentence))
    return found


def _apart(cards: list[Card], what: Callable[[Card], str]) -> dict[str, list[str]]:
    """Hosts by what they have."""
    found: dict[str, list[str]] = {}
    for card in cards:
        hosts = found.setdefault(what(card), [])
        if card.host not in hosts:
            hosts.append(card.host)
    return found


def _told(apart: dict[str, list[str]]) -> str:
    return "; ".join(f"{what} on {', '.join(hosts)}" for what, hosts in apart.items())
