"""All checks in their order, on one machine or on all machines of a job."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from vdit.config import Parsed
from vdit.doctor.build_locks import check_build_locks
from vdit.doctor.clips import check_clips
from vdit.doctor.clock import check_clock
from vdit.doctor.disk import check_disk
from vdit.doctor.finding import Finding
from vdit.doctor.gpus import check_gpus
from vdit.doctor.hosts import Roll, call_roll, check_hosts, own_card
from vdit.doctor.launch import Launch, check_task, planned
from vdit.doctor.links import check_links
from vdit.doctor.shared_folder import check_shared_folder
from vdit.doctor.versions import check_versions
from vdit.parallel.peers import Peers
from vdit.parallel.ring import Backend, Ring, own_backend

__all__ = ["Outcome", "Report", "examine_job", "examine_machine"]

HERE = Path()
"""Where a run goes that no configuration speaks of: into the folder in which this was started."""
PATIENCE_SECONDS = 24 * 3600.0
"""For rank 0 to end its own checks; where it dies, torchrun ends all others."""
GOODBYE_SECONDS = 5.0


@dataclass(frozen=True)
class Report:
    """What one machine found.

    Attributes:
        findings: in the order of the checks.
        clips: fingerprint of the clips that it sees; "" where there are none to see.
    """

    findings: tuple[Finding, ...]
    clips: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one process has to say at the end.

    Attributes:
        findings: of all machines; none but on the first process.
        wrong: whether anything is, which all processes agree on.
        stuck: whether a call into the network has not come back, and will keep the process from ending.
    """

    findings: tuple[Finding, ...]
    wrong: bool
    stuck: bool = False


def examine_machine(parsed: Parsed | None) -> Outcome:
    """Check this machine by itself, for the run of a configuration if one is given."""
    launch = planned(parsed) if parsed else None
    found = _examined(launch, check_gpus(launch)).findings
    sentence = "links, bandwidth, clocks and the shared folder are checked between processes"
    apart = Finding("processes", "skipped", sentence, "torchrun --nproc-per-node 2 -m vdit doctor")
    return Outcome((*found, apart), _is_wrong(found))


def examine_job(peers: Peers, local: int, parsed: Parsed | None, seconds: float) -> Outcome:
    """Check what is between all processes of a job, and each of its machines; all processes call it together.

    Args:
        peers: the processes.
        local: the number of this one on its machine.
        parsed: the configuration of a run, if one is given.
        seconds: how long to wait for another process at each turn.

    Raises:
        Unreachable: rank 0 does not answer.
    """
    launch = planned(parsed) if parsed else None
    gpus = [] if local else check_gpus(launch)  # before any process of the job is seen on them
    roll = call_roll(peers, own_card(local, own_backend(local)), seconds)
    between, stuck = check_hosts(roll, seconds), False
    # What processes agree on goes by gloo also where tensors go by NCCL; each chooses a card by itself.
    backends: list[Backend] = ["gloo", "nccl"] if roll.backend == "nccl" else ["gloo"]
    for backend in backends:
        device = torch.device("cuda", local) if backend == "nccl" else torch.device("cpu")
        ring = Ring(peers, backend, device, seconds, roll.silent, stuck)
        between += check_links(ring, roll)
        roll, stuck = replace(roll, lost=ring.silent), ring.stuck
    between += [
        *check_clock(peers, roll, seconds),
        *check_shared_folder(peers, roll, launch.out if launch else HERE, seconds),
    ]
    own = None if local else _examined(launch, gpus)
    if peers.rank:
        if own is not None:
            peers.tell("report", json.dumps(asdict(own)))
        words = peers.hear("wrong", 0, PATIENCE_SECONDS)
        peers.tell("bye", "")
        return Outcome((), words != "no", stuck)
    assert own is not None  # the first rank is the first of its machine
    found = (*own.findings, *between, *_elsewhere(peers, roll, own, seconds))
    peers.tell("wrong", "yes" if _is_wrong(found) else "no")
    peers.hear_all("bye", GOODBYE_SECONDS, roll.silent | {0})  # this process may hold the store
    return Outcome(found, _is_wrong(found), stuck)


def _examined(launch: Launch | None, gpus: list[Finding]) -> Report:
    found = [*check_versions(launch.needed if launch else frozenset()), *gpus, *check_build_locks()]
    if launch is None:
        remedy = "add --config YOURS.yaml, and what else train.py is told"
        unknown = Finding("run", "skipped", "clips and the size of checkpoints are those of a run", remedy)
        return Report((*found, *check_disk(HERE), unknown))
    task, clips = check_task(launch), check_clips(launch)
    disk = check_disk(launch.out, launch.checkpoints, task.checkpoint_bytes)
    return Report((*found, *disk, *task.findings, *clips.findings), clips.fingerprint)


def _elsewhere(peers: Peers, roll: Roll, own: Report, seconds: float) -> list[Finding]:
    """What the other machines report of themselves, without what is well."""
    ranks = [rank for rank in roll.firsts if rank and rank not in roll.silent]
    found: list[Finding] = []
    for rank in ranks:
        words, place = peers.hear("report", rank, seconds), roll.place(rank)
        if words is None:
            sentence = f"{place} has not ended its checks {seconds:g} s after those of rank 0"
            found.append(Finding("machines", "wrong", sentence, "look at that machine, or raise --timeout"))
            continue
        told = json.loads(words)
        findings = [Finding(**values) for values in told["findings"]]
        found += [
            replace(finding, sentence=f"{place}: {finding.sentence}")
            for finding in findings
            if finding.state in ("warning", "wrong")
        ]
        if told["clips"] != own.clips:
            sentence = f"{place} does not see the same clips as {roll.place(0)}"
            remedy = "give all machines the same files: training expects every process to see the same list"
            found.append(Finding("clips", "wrong", sentence, remedy))
    if ranks and not found:
        sentence = f"the same checks found nothing amiss on the other machines ({len(ranks)})"
        found.append(Finding("machines", "ok", sentence))
    return found


def _is_wrong(findings: Iterable[Finding]) -> bool:
    return any(finding.state == "wrong" for finding in findings)
