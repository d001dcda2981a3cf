"""Train a codec or a text-to-video model, as a configuration says.

    train.py --config configs/train/flat_codec.yaml
    train.py --config configs/train/flat_dit.yaml --optim.lr 5e-4 --out runs/mine

The same command continues a run that was interrupted. Every key of the configuration is an option. --dry-run
does everything but the steps: it builds, encodes what is not yet in the cache, and reads the last checkpoint
and a first batch; the folder of the run stays as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from vdit.config import build_run, load_run, parse_run
from vdit.parallel.launch import LOST, lost_peer, without_local_rank

__all__ = ["main"]

DRY = "--dry-run"


def main(arguments: Sequence[str]) -> int:
    """Train.

    Returns:
        0 when done, 3 when a signal ended it early, 4 when a number was not finite, 5 when other processes
        were lost or one stood still.
    """
    dry = DRY in arguments
    parsed = parse_run([word for word in without_local_rank(arguments) if word != DRY], __doc__ or "")

    from rich.console import Console

    from vdit.parallel.engine import Engine
    from vdit.train.finite import NonFinite
    from vdit.train.run import train
    from vdit.train.run_folder import RunFolder
    from vdit.train.task import Session

    run = build_run(parsed)
    engine = Engine(run.parallel)
    console = Console(quiet=not engine.main)
    folder = RunFolder(Path(run.out))
    if engine.mesh.world > 1:
        console.print(engine.title)
    recorded = load_run(folder.config).text if folder.config.is_file() else None
    try:
        with TemporaryDirectory() as aside:
            if dry and recorded is None:  # what a task leaves in its run's folder goes with the rehearsal
                folder = RunFolder(Path(engine.gathered([aside])[0]))
            session = Session(engine, folder, console, run.data, run.pace, run.loop.steps, run.seed)
            stopped = train(session, run.task, run.loop, run.optim, parsed.text, recorded, dry)
            engine.barrier()
        return engine.leave(3) if stopped else 0
    except NonFinite as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except RuntimeError as error:
        if (lost := lost_peer(error)) is None:
            raise
        print(f"error: {engine.name}: {lost}", file=sys.stderr, flush=True)
        return LOST
