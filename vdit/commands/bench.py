"""Measure what things cost.

    python -m vdit bench step
    python -m vdit bench step --config configs/bench/step_medium.yaml --pairs 20
    python -m vdit bench codec
    python -m vdit bench codec --size full --pairs 5
    python -m vdit bench wan
    python -m vdit bench speed --shape 1.3b --compile
    python -m vdit bench import --gib 3
    python -m vdit bench save --mb 300

`step` compares turns of a training loop that goes on (data, noise, checks, clipping, averaging) with the bare
forward, backward and optimiser step of the same module. Random latents stand for clips and random tokens
for a text model, so nothing needs to be trained or downloaded.

`codec` compares the Wan autoencoder with that of diffusers: same weights, same clips, in turns. `wan` does so
with the Wan transformer: forward, forward and backward, sampling, and the bytes kept for a backward. `speed`
trains one of Wan's shapes on an accelerator; `import` measures the memory of taking in a made-up release;
`save` tells how long training waits for a checkpoint, written in the background and not, at the call and
before the next update.
"""

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vdit.types import InputError

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Measure; always 0: a time is no verdict."""
    options = _parser().parse_args(arguments)
    if getattr(options, "pairs", 2) < 2:
        raise InputError(f"--pairs is {options.pairs}, but must be at least 2 to tell the spread")
    kinds = {"step": _step, "codec": _codec, "wan": _wan, "speed": _speed, "import": _import, "save": _save}
    kinds[options.what](options)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit bench", description=(__doc__ or "").split("\n")[0])
    kinds = parser.add_subparsers(dest="what", required=True)
    step = kinds.add_parser("step", help="the training loop around the model")
    step.add_argument("--config", default="configs/train/flat_dit.yaml", help="of a text-to-video run")
    step.add_argument("--pairs", type=int, default=50, help="of turns of steps, one each way")
    codec = kinds.add_parser("codec", help="the Wan autoencoder, beside that of diffusers")
    codec.add_argument(
        "--size", action="append", choices=("tiny", "medium", "full"), help="default: tiny and medium"
    )
    codec.add_argument("--pairs", type=int, default=9, help="of runs, one of each")
    wan = kinds.add_parser("wan", help="the Wan transformer, beside that of diffusers")
    wan.add_argument("--size", action="append", choices=("tiny", "medium"), help="default: both")
    wan.add_argument("--pairs", type=int, default=9, help="of runs, one of each")
    speed = kinds.add_parser("speed", help="training of one of Wan's shapes on an accelerator")
    speed.add_argument("--shape", choices=("1.3b", "14b-stack", "tiny"), default="1.3b")
    speed.add_argument("--device", default="auto")
    speed.add_argument("--steps", type=int, default=10, help="timed ones")
    speed.add_argument("--compile", action="store_true", help="compile each block")
    speed.add_argument("--kernel", choices=("auto", "cudnn", "flash"), default="auto", help="of attention")
    speed.add_argument(
        "--peak", type=float, default=989.0, help="of the device in TFLOP/s, for the share of it"
    )
    take_in = kinds.add_parser("import", help="memory of taking in a release, in shards")
    take_in.add_argument("--gib", type=float, default=3.0, help="size of its transformer; twice that on disk")
    take_in.add_argument("--folder", help="where it is made, and removed again; default: a temporary folder")
    save = kinds.add_parser("save", help="how long training waits for a checkpoint")
    save.add_argument("--mb", type=float, default=300.0, help="of weights, average and moments")
    save.add_argument("--pairs", type=int, default=5, help="of saves, one of each kind")
    save.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    save.add_argument("--folder", default=".", help="where checkpoints are written, and removed again")
    return parser


def _step(options: Namespace) -> None:
    if not Path(options.config).is_file():
        raise InputError(f"configuration {options.config} does not exist: give --config FILE")

    from rich.console import Console
    from rich.table import Table

    from vdit.commands.step_race import StepRace
    from vdit.config import build_run, parse_run
    from vdit.progress import StageBars

    console = Console()
    run = build_run(parse_run(["--config", options.config], ""))
    with StepRace(run) as race, StageBars(console) as bars:
        pair, turn = ("one step" if steps == 1 else f"{steps} steps" for steps in (race.pair, race.turn))
        measured = race.run(options.pairs, partial(bars.show, f"pairs of {pair}"))
    low, high = measured.interval
    full, bare = (1000 * statistics.median(way) / race.pair for way in (measured.full, measured.bare))
    console.print(f"one training step: {race}; pairs of {pair} each, {turn} a turn", soft_wrap=True)
    table = Table("")
    table.add_column("median, ms", justify="right")
    table.add_row("the training loop", f"{full:.1f}")
    table.add_row("forward, backward, optimiser", f"{bare:.1f}")
    console.print(table)
    console.print(f"ratio {measured.ratio:.3f} (95% {low:.3f} to {high:.3f}, {len(measured.full)} pairs)")


def _codec(options: Namespace) -> None:
    import torch
    from rich.console import Console

    from vdit.commands.codec_race import SIZES, CodecRace
    from vdit.progress import StageBars

    console = Console()
    console.print(f"the Wan autoencoder, cpu, {torch.get_num_threads()} threads, {options.pairs} pairs")
    for name in options.size or ("tiny", "medium"):
        with StageBars(console) as bars:
            races = CodecRace(SIZES[name]).run(options.pairs, partial(bars.show, name))
        for race in races:
            times, (low, high) = race.times, race.times.interval
            theirs, ours = (f"{statistics.median(each):.3f} s" for each in (times.full, times.bare))
            memory = ["?" if peak is None else f"{peak / 2**20:.0f}" for peak in (race.theirs, race.ours)]
            console.print(
                f"{race.what} {name} ({SIZES[name]}): diffusers {theirs}, vdit {ours}, "
                f"{times.ratio:.2f} times as fast ({low:.2f} to {high:.2f}); "
                f"memory {memory[0]} and {memory[1]} MiB",
                soft_wrap=True,
                highlight=False,
            )


def _wan(options: Namespace) -> None:
    import torch
    from rich.console import Console

    from vdit.commands.wan_race import SIZES, WanRace
    from vdit.progress import StageBars

    console = Console()
    console.print(f"the Wan transformer, cpu, {torch.get_num_threads()} threads, {options.pairs} pairs")
    for name in options.size or ("tiny", "medium"):
        race = WanRace(SIZES[name])
        with StageBars(console) as bars:
            races = race.run(options.pairs, partial(bars.show, name))
        console.print(f"{name}: {SIZES[name]}", highlight=False)
        for each in races:
            times, (low, high) = each.times, each.times.interval
            theirs, ours = (f"{1000 * statistics.median(side):.1f} ms" for side in (times.full, times.bare))
            console.print(
                f"  {each.what}: {each.rival} {theirs}, vdit {ours}, "
                f"{times.ratio:.2f} times as fast ({low:.2f} to {high:.2f})",
                soft_wrap=True,
                highlight=False,
            )
        theirs, ours = race.saved_bytes()
        console.print(
            f"  kept for the backward, a token: diffusers {theirs}, vdit {ours} bytes, "
            f"{theirs / ours:.2f} times as many",
            soft_wrap=True,
            highlight=False,
        )


def _import(options: Namespace) -> None:
    import tempfile

    from rich.console import Console

    from vdit.commands.import_memory import measure_import
    from vdit.progress import StageBars

    if not options.gib > 0:
        raise InputError(f"--gib is {options.gib}, but must be above 0")
    console = Console()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, StageBars(console) as bars:
        found = measure_import(Path(folder), int(options.gib * 2**30), bars.show)
    gib = 2**30
    console.print(
        f"a transformer of {found.model / gib:.2f} GiB in files of {found.shard / gib:.2f} GiB; "
        f"the libraries alone {found.nothing / gib:.2f} GiB",
        highlight=False,
        soft_wrap=True,
    )
    for what, peak in (("taking in", found.taking_in), ("opening", found.opening)):
        console.print(
            f"{what}: {peak / gib:.2f} GiB resident at most, {peak / found.model:.2f} of the model",
            highlight=False,
        )


def _save(options: Namespace) -> None:
    import tempfile

    from rich.console import Console

    from vdit.commands.save_race import SaveRace
    from vdit.progress import StageBars

    if not options.mb > 0:
        raise InputError(f"--mb is {options.mb}, but must be above 0")
    console = Console()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, StageBars(console) as bars:
        race = SaveRace(Path(folder) / "checkpoints", int(options.mb * 1e6), options.device)
        times = race.run(options.pairs, partial(bars.show, "pairs of saves"))
    waited, (low, high) = times.held, times.held.interval
    console.print(
        f"a checkpoint of {race.size / 1e6:.0f} MB, {race.device}, {options.pairs} pairs: training waits "
        f"{1000 * statistics.median(waited.full):.1f} ms for one in the background and "
        f"{1000 * statistics.median(waited.bare):.1f} ms for one that is waited for, "
        f"{100 * waited.ratio:.1f}% ({100 * low:.1f} to {100 * high:.1f}); "
        f"the former is whole after {1000 * statistics.median(times.whole.full):.1f} ms, and the step beside "
        f"it takes {1000 * statistics.median(times.step.full):.1f} ms instead of "
        f"{1000 * statistics.median(times.step.bare):.1f}",
        highlight=False,
        soft_wrap=True,
    )


def _speed(options: Namespace) -> None:
    import torch
    from rich.console import Console

    from vdit.commands.wan_speed import SHAPES, measure_speed
    from vdit.devices import available_device
    from vdit.progress import StageBars

    if options.steps < 1:
        raise InputError(f"--steps is {options.steps}, but must be at least 1")
    console, shape, device = Console(), SHAPES[options.shape], available_device(options.device)
    with StageBars(console) as bars:
        show = partial(bars.show, "steps")
        found = measure_speed(shape, device, options.steps, options.compile, options.kernel, show)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    console.print(
        f"{options.shape}: {shape.depth} blocks of {shape.width}, {shape.tokens} tokens, bfloat16, {name}, "
        f"{'compiled' if options.compile else 'eager'}, attention {options.kernel}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{found.median:.3f} s a step ({min(found.seconds):.3f} to {max(found.seconds):.3f}), "
        f"{found.teraflops:.1f} TFLOP/s, {100 * found.teraflops / options.peak:.1f}% of {options.peak:g}, "
        f"{found.peak / 2**30:.1f} GiB",
        highlight=False,
        soft_wrap=True,
    )
