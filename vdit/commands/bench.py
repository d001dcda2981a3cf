"""Measure the cost of what surrounds the model.

    python -m vdit bench step
    python -m vdit bench step --config configs/train/flat_dit.yaml --pairs 30

`step` compares turns of the training loop (data, noise, checks, clipping, averaging) with the bare
forward, backward and optimiser step of the same module. Random latents stand for clips and random tokens
for a text model, so nothing needs to be trained or downloaded.
"""

import statistics
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vdit.types import InputError

__all__ = ["main"]

STEPS = 4
"""Timed together, so that what a session does once, such as listening for signals, weighs little."""


def main(arguments: Sequence[str]) -> int:
    """Measure; always 0: a time is no verdict."""
    options = _parser().parse_args(arguments)
    if options.pairs < 2:
        raise InputError(f"--pairs is {options.pairs}, but must be at least 2 to tell the spread")
    if not Path(options.config).is_file():
        raise InputError(f"configuration {options.config} does not exist: give --config FILE")

    from rich.console import Console
    from rich.table import Table

    from vdit.commands.step_race import StepRace
    from vdit.config import build_run, parse_run
    from vdit.eval.overhead import measure_overhead
    from vdit.progress import StageBars

    console = Console()
    run = build_run(parse_run(["--config", options.config], ""))
    with StepRace(run) as race, StageBars(console) as bars:
        measured = measure_overhead(
            lambda: race.turns(STEPS),
            lambda: race.bare(STEPS),
            options.pairs,
            partial(bars.show, f"pairs of {STEPS} steps"),
        )
    low, high = measured.interval
    console.print(f"one training step: {race}")
    table = Table("")
    table.add_column("median, ms", justify="right")
    table.add_row("the training loop", f"{1000 * statistics.median(measured.full) / STEPS:.1f}")
    table.add_row("forward, backward, optimiser", f"{1000 * statistics.median(measured.bare) / STEPS:.1f}")
    console.print(table)
    console.print(f"ratio {measured.ratio:.3f} (95% {low:.3f} to {high:.3f}, {len(measured.full)} pairs)")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("step",), help="step: the training loop around the model")
    parser.add_argument("--config", default="configs/train/flat_dit.yaml", help="of a text-to-video run")
    parser.add_argument("--pairs", type=int, default=15, help=f"of {STEPS} steps each way")
    return parser
