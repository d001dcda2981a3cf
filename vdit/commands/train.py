"""Train a codec or a text-to-video model, as a configuration says.

    train.py --config configs/train/flat_codec.yaml
    train.py --config configs/train/flat_dit.yaml --optim.lr 5e-4 --out runs/mine

The same command continues a run that was interrupted. Every key of the configuration is an option. --dry-run
does everything but the steps: it builds, encodes what is not yet in the cache, and reads the last checkpoint
and a first batch; the folder of the run stays as it is. --accept-changed-data goes on with clips that are not
those the run has learnt from so far: without it they are named and refused.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vdit.commands.command import run_command
from vdit.config import Parsed, Run, build_part, build_run, parse_run, recorded_run, settled
from vdit.data.loader import still_reading
from vdit.parallel.launch import LOST, lost_peer, without_local_rank
from vdit.train.run_clips import ACCEPT

if TYPE_CHECKING:
    from vdit.parallel.engine import Engine

__all__ = ["main"]

DRY = "--dry-run"

PATIENCE = 5.0
"""Seconds that a run which has lost its disk gives a thread that still reads."""


def main(arguments: Sequence[str]) -> int:
    """Train.

    Returns:
        0 when done, 3 when a signal ended it early, 4 when a number was not finite, 5 when other processes
        were lost, or one stood still, or a disk failed.
    """
    began, dry, accept = time.time(), DRY in arguments, ACCEPT in arguments
    words = [word for word in without_local_rank(arguments) if word not in (DRY, ACCEPT)]
    parsed = parse_run(words, __doc__ or "")

    from vdit.parallel.engine import Engine
    from vdit.train.run_folder import RunFolder

    data, place = build_part(parsed, "data"), RunFolder(Path(parsed.values.out)).config
    recorded = recorded_run(place) if place.is_file() else None
    parsed = settled(parsed, data, recorded)
    run = build_run(parsed, data)
    engine = Engine(run.parallel)

    def work() -> int:
        status = _train(engine, run, parsed, recorded, dry, accept, began)
        if status == LOST and still_reading(PATIENCE):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    return work() if engine.mesh.world == 1 else run_among_others(work)


def run_among_others(work: Callable[[], int]) -> int:
    """Do the work of one of several processes; what fails ends this one here, with its status.

    Python would first end the exchange between processes, and on GPUs that waits for those that are still in
    the middle of one: for ever, and no launcher would hear of the failure.
    """
    try:
        status = run_command(lambda _: work(), ())
    except BaseException:  # the process ends with it
        traceback.print_exc()
        status = 1
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _train(
    engine: "Engine",
    run: Run,
    parsed: Parsed,
    recorded: Parsed | None,
    dry: bool,
    accept: bool,
    began: float,
) -> int:
    from rich.console import Console

    from vdit.train.claim import Command
    from vdit.train.finite import NonFinite
    from vdit.train.run import train
    from vdit.train.run_folder import RunFolder
    from vdit.train.task import Session
    from vdit.weights.files import DiskError

    console = Console(quiet=not engine.main)
    folder = RunFolder(Path(run.out))
    if engine.mesh.world > 1:
        console.print(engine.title)
    before = None if recorded is None else recorded.text
    try:
        with TemporaryDirectory() as aside:
            if dry:
                if engine.main:  # who alone makes it in a start; others would see the trial of its disk
                    folder.check(parsed.text, before, accept)
                # Of a new run, what a task leaves in the folder goes with the rehearsal. The first process
                # says which it is: others may not see the run, if their disk is another.
                place = aside if before is None else run.out
                folder = RunFolder(Path(engine.gathered([place])[0]))
            clips = max(1, run.loop.batch // engine.mesh.data_world)
            steps, seed = run.loop.steps, run.seed
            session = Session(engine, folder, console, run.data, run.pace, steps, seed, clips, began)
            command = Command(parsed.text, before, accept, dry)
            stopped = train(session, run.task, run.loop, run.optim, command)
            engine.barrier()
        return engine.leave(3) if stopped else 0
    except NonFinite as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except DiskError as error:
        print(f"error: {engine.name}: {error}", file=sys.stderr, flush=True)
        return LOST
    except RuntimeError as error:
        if (lost := lost_peer(error)) is None:
            raise
        print(f"error: {engine.name}: {lost}", file=sys.stderr, flush=True)
        return LOST
