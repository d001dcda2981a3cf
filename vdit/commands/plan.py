"""Say what a training run will need, before it runs.

    python -m vdit plan --config configs/train/flat_dit.yaml --gpus 1
    python -m vdit plan --config configs/train/wan_finetune.yaml --gpus 8 --memory 80 --loop.batch 8 \
      --clip 81x480x832 --codec configs/codec/wan_2_1.yaml

Memory, arithmetic, time and disk. Every option that is not listed here is one of the configuration, as for
train.py. Nothing is computed, so that a plan of a large model takes seconds.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from vdit.types import InputError

__all__ = ["main"]

PEAK, MFU = 989.0, 0.35
"""TFLOP/s of an H100 or H200 (SXM, bfloat16, dense), and the share that is assumed."""


def main(arguments: Sequence[str]) -> int:
    """Plan; 0, or 1 where --memory is given and the run does not fit."""
    options, rest = _parser().parse_known_args(arguments)
    _check(options)

    import torch
    from rich.console import Console

    from vdit.config import build_codec, parse_run
    from vdit.plan.clips import ClipShape
    from vdit.plan.plan import Asked, Plan, plan_run
    from vdit.plan.remedy import Remedy, find_remedy
    from vdit.plan.report import print_plan

    shapes = [ClipShape.read(text) for text in options.clip]
    with torch.device("meta"):
        codec = build_codec(Path(options.codec)) if options.codec else None
    asked = Asked(shapes, options.text_tokens, codec)
    devices = ["--parallel.devices", str(options.gpus), "--parallel.nodes", "1"]

    def planned(remedy: Remedy) -> Plan:
        more = [part for name, value in remedy.items() for part in (f"--{name}", str(value))]
        return plan_run(parse_run([*rest, *devices, *more], __doc__ or ""), asked)

    plan = planned({})
    console = Console()
    print_plan(console, plan, options.peak * 1e12, options.mfu or MFU, options.mfu is not None)
    if options.memory is None:
        return 0
    limit, most = options.memory * 2**30, plan.largest.memory.most
    if most <= limit:
        console.print(f"it fits into {options.memory:g} GiB", highlight=False)
        return 0
    found = find_remedy(plan, limit, planned)
    if found is None:
        said = "no strategy, recomputing or sharing of clips alone makes it fit: smaller clips, or more GPUs"
    else:
        remedy, other = found
        options_told = " ".join(f"--{name} {value}" for name, value in remedy.items())
        said = f"with {options_told} it needs {other.largest.memory.most / 2**30:.1f} GiB"
    console.print(f"it does not fit into {options.memory:g} GiB; {said}", highlight=False, soft_wrap=True)
    return 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="vdit plan", description=(__doc__ or "").split("\n")[0], allow_abbrev=False,
        epilog="All else, --config FILE first of all, is as for train.py.",
    )  # fmt: skip
    parser.add_argument("--gpus", type=int, help="processes of the run, one a device")
    parser.add_argument(
        "--memory", type=float, help="GiB of a GPU; says whether the run fits, and what to do"
    )
    parser.add_argument("--peak", type=float, default=PEAK, help=f"TFLOP/s of a GPU (default {PEAK:g}: H100)")
    parser.add_argument(
        "--mfu", type=float, help=f"share of the peak that a step uses (default {MFU}, assumed)"
    )
    parser.add_argument(
        "--clip",
        action="append",
        default=[],
        metavar="FxHxW",
        help="frames and pixels of clips; not the data's",
    )
    parser.add_argument("--text-tokens", type=int, help="of a caption (default: the most the encoder gives)")
    parser.add_argument(
        "--codec", metavar="FILE", help="of configs/codec, in place of one that is not there yet"
    )
    return parser


def _check(options: Namespace) -> None:
    """Refuse what no plan can be made with. Raises InputError."""
    if options.gpus is None or options.gpus < 1:
        what = "is missing" if options.gpus is None else f"is {options.gpus}, but must be at least 1"
        raise InputError(f"--gpus {what}: say how many GPUs the run will have")
    for name, value in (
        ("memory", options.memory),
        ("peak", options.peak),
        ("text-tokens", options.text_tokens),
    ):
        if value is not None and not value > 0:
            raise InputError(f"--{name} is {value:g}, but must be above 0")
    if options.mfu is not None and not 0 < options.mfu <= 1:
        raise InputError(f"--mfu is {options.mfu:g}, but must lie in (0, 1]: 0.35 is 35% of the peak")
