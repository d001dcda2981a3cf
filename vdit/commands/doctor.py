"""Check a machine, or all machines of a job, before a training is started on them.

    python -m vdit doctor [--config CONFIG [--key value ...]]
    torchrun --nproc-per-node 2 -m vdit doctor [--config CONFIG ...]

A configuration adds what that run will need: its clips, room for its checkpoints. Under torchrun, on as many
machines as the training will have, what is between them is tried too. The status is 1 when anything is
wrong. Nothing is mended: what to do is printed.
"""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.doctor.examination import Outcome
    from vdit.doctor.finding import Finding

__all__ = ["main"]

COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}


def main(arguments: Sequence[str]) -> int:
    """Examine; 0 when nothing is wrong, 1 otherwise."""
    options, overrides = _parser().parse_known_args(arguments)
    if options.timeout <= 0:
        raise InputError(f"--timeout {options.timeout:g} must be above 0 seconds")
    if overrides and not options.config:
        raise InputError(f"{' '.join(overrides)} changes a configuration: give one with --config")

    from vdit.config import parse_run
    from vdit.doctor.examination import examine_job, examine_machine
    from vdit.parallel.peers import Unreachable, started_peers

    files = [part for file in options.config for part in ("--config", file)]
    parsed = parse_run([*files, *overrides], "") if files else None
    try:
        peers = started_peers(options.timeout)
        if peers is None:
            outcome = examine_machine(parsed)
        else:
            outcome = examine_job(peers, int(os.environ.get("LOCAL_RANK", "0")), parsed, options.timeout)
    except Unreachable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(outcome.findings)
    return _left(outcome)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="vdit doctor", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", action="append", default=[], help="of the run, as for train.py")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        help="seconds to wait for another process at each turn; default 60",
    )
    return parser


def _print(findings: Sequence["Finding"]) -> None:
    if not findings:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", box=None, pad_edge=False)
    for finding in findings:
        found = Text(finding.sentence)
        if finding.remedy:
            found.append(f"\n-> {finding.remedy}", style="italic")
        table.add_row(Text(finding.state, style=COLOURS[finding.state]), Text(finding.name), found)
    console = Console()
    console.print(table)
    count = {state: sum(finding.state == state for finding in findings) for state in COLOURS}
    console.print(", ".join(f"{number} {state}" for state, number in count.items() if number))


def _left(outcome: "Outcome") -> int:
    status = int(outcome.wrong)
    if outcome.stuck:  # a thread that waits in the network would be waited for
        sys.stdout.flush()
        os._exit(status)
    return status
