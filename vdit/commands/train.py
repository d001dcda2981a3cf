"""Train a codec or a text-to-video model, as a configuration says.

    train.py --config configs/train/flat_codec.yaml
    train.py --config configs/train/flat_dit.yaml --optim.lr 5e-4 --out runs/mine

The same command continues a run that was interrupted. Every key of the configuration is an option.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vdit.config import build_run, load_run, parse_run

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Train; 0 when done, 3 when a signal ended it early, 4 when a number was not finite."""
    parsed = parse_run(arguments, __doc__ or "")

    from rich.console import Console

    from vdit.parallel.engine import Engine
    from vdit.train.loop import NonFinite
    from vdit.train.run import train
    from vdit.train.run_folder import RunFolder
    from vdit.train.task import Session

    run = build_run(parsed)
    engine = Engine(run.parallel)
    console = Console(quiet=not engine.main)
    folder = RunFolder(Path(run.out))
    session = Session(engine, folder, console, run.data, run.pace, run.loop.steps, run.seed)
    recorded = load_run(folder.config).text if folder.config.is_file() else None
    try:
        return 3 if train(session, run.task, run.loop, run.optim, parsed.text, recorded) else 0
    except NonFinite as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
