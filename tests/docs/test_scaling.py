"""The numbers of docs/scaling.md follow from its formulas: every table there is made here.

What a process holds from step to step is not a formula of this file: `vdit.plan.states` says it.

python tests/docs/test_scaling.py      prints the tables
"""

import shlex
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path

import torch
import yaml

from vdit.config import build_part, parse_run
from vdit.eval.sigma_loss import SIGMAS
from vdit.models.wan.dit import WanDiT
from vdit.parallel.engine import Parallel
from vdit.plan.states import States, states_of
from vdit.train.manifest import LENGTH

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/scaling.md"
SIZES = yaml.safe_load((ROOT / "configs/model/wan_2_1_t2v_14b.yaml").read_text())["init_args"]

# Wan 2.1 14B at 81 frames of 720 x 1280: latents of 21 x 90 x 160, patches of 1 x 2 x 2.
WEIGHTS = 14_288_491_584
D, F, LAYERS, HEADS, TEXT = 5120, 13824, 40, 40, 512
TOKENS = 21 * 45 * 80
BLOCK = 34 * D + 4 * F  # bytes a token that one block keeps for its backward pass

PEAK, MFU = 989e12, 0.35
NODE = 8
NVLINK, NIC = 450e9, 50e9  # bytes a second, one direction, a GPU
MEMORY = 139 * 2**30
GB = 1e9

FAILURES = 419 / (54 * 16384)  # a GPU and day: Llama 3
DISK = 50e9  # bytes a second, of all processes together
ALONE = 2e9  # of one process
COPY, SHA = 25e9, 1e9  # bytes a second of one process: from its GPU to locked memory of the CPU; hashed
OFTEN = 100  # steps from one checkpoint to the next, where training waits for the copy alone
RESTART = 600  # seconds from a failure to the first new step, but for reading the checkpoint

HELD_OUT = (64, 8)  # clips of a validation
SHOWN, SOLVER_STEPS, GUIDED = 4, 50, 2  # clips that are drawn; forward passes of each

RUNS = {"256": (256, 8), "1,000": (1000, 8)}


def flops() -> float:
    """Of one forward pass of one clip."""
    linear = 8 * D * D + 4 * D * D + 4 * D * F
    return LAYERS * (TOKENS * linear + 4 * TOKENS**2 * D + 4 * TEXT * D * D + 4 * TOKENS * TEXT * D)


def clip_seconds(sequence: int) -> float:
    """Of a training step on one clip that `sequence` GPUs share."""
    return 3 * flops() / (sequence * MFU * PEAK)


@cache
def model() -> WanDiT:
    with torch.device("meta"):
        return WanDiT(**SIZES)


@cache
def states(strategy: str, world: int, accumulate: int = 1) -> States:
    """What one of `world` processes on GPUs holds, as `python -m vdit plan` counts it."""
    parallel = Parallel(
        "cuda",
        NODE,
        world // NODE,
        strategy=strategy,  # pyright: ignore
        precision="bf16-mixed",
    )
    return states_of(model(), parallel, accumulate, adamw=8 * WEIGHTS)


def memory(strategy: str, world: int, sequence: int, accumulate: int = 1) -> dict[str, float]:
    """Bytes a GPU, item by item."""
    own = TOKENS / sequence
    held = states(strategy, world, accumulate)
    gathered = held.passing if strategy == "zero3" else 0
    return {
        "weights, float32": held.weights,
        "weights gathered, float32": gathered,
        "bfloat16 casts of them": 2 * WEIGHTS / LAYERS,
        "gradients, float32": held.gradients,
        "buckets of gradients": held.buffers + held.passing - gathered,
        "float32 copy, two moments, average": held.optimiser + held.average,
        "inputs of blocks, float32": 4 * D * LAYERS * own,
        "what attention gave": 2 * (2 * D + 4 * HEADS) * LAYERS * own,
        "one block at work": BLOCK * own,
        "before and after the blocks": 4.5 * 4 * D * TOKENS,
    }


def exchanged(sequence: int) -> float:
    """Bytes that a GPU sends in the exchanges of heads of one clip: forward, recomputed, backward."""
    once = 4 * TOKENS / sequence * D * 2 * (sequence - 1) / sequence
    return 3 * LAYERS * once


def ring(size: float, world: int, speed: float, passes: int = 1) -> float:
    """Seconds of a ring: `passes` is 1 for a gather or a scatter, 2 for an all-reduce."""
    return passes * size * (world - 1) / world / speed


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def gigabytes(size: float) -> str:
    return f"{size / GB:.1f}"


def memory_rows() -> list[str]:
    ways = [memory("zero2", 256, 8), memory("zero3", 256, 8), memory("zero2", 1000, 8)]
    rows = [row(name, *(gigabytes(way[name]) for way in ways)) for name in ways[0]]
    rows.append(row("**together**", *(f"**{gigabytes(sum(way.values()))}**" for way in ways)))
    left = [f"{(MEMORY - sum(way.values())) / GB:.0f}" for way in ways]
    return [*rows, row("left of an H200's 139 GiB", *left)]


def stage_rows() -> list[str]:
    """Why not less sharing, or fewer GPUs a clip."""
    several = "`zero1`, 8 GPUs a clip, several micro-batches a step"
    ways = {f"`{name}`, 8 GPUs a clip": memory(name, 256, 8) for name in ("ddp", "zero1")}
    ways[several] = memory("zero1", 256, 8, accumulate=2)
    ways |= {f"`{name}`, 8 GPUs a clip": memory(name, 256, 8) for name in ("zero2", "zero3")}
    ways |= {f"`zero2`, {p} GPUs a clip": memory("zero2", 256, p) for p in (4, 2, 1)}
    rows = [row(name, gigabytes(sum(way.values()))) for name, way in ways.items()]
    half = sum(memory("zero2", 256, 8).values()) - 2 * WEIGHTS  # weights are their own casts
    return [*rows, row("`zero2`, 8 GPUs a clip, were weights bfloat16", gigabytes(half))]


def compute_rows() -> list[str]:
    return [
        row("forward, one clip", f"{flops() / 1e12:,.0f} TFLOP"),
        row("training, one clip: 3 x", f"{3 * flops() / 1e15:.1f} PFLOP"),
        *(row(f"seconds, {p} GPUs a clip", f"{clip_seconds(p):.1f} s") for p in (8, 16)),
    ]


def exchange_rows() -> list[str]:
    inside = exchanged(8)
    across = exchanged(16) * (8 / 15)  # of the 15 others, 8 are on another node
    return [
        row(p, gigabytes(size), speed, f"{size / rate:.2f} s", f"{size / rate / clip_seconds(p):.1%}")
        for p, size, speed, rate in (
            (8, inside, "NVLink, 450 GB/s", NVLINK),
            (16, across, "network, 50 GB/s", NIC),
        )
    ]


def traffic_rows() -> list[str]:
    step = clip_seconds(8)
    parts = [
        ("zero2", "gradients, bfloat16, all-reduced, each micro-batch", 2 * WEIGHTS, 2),
        ("zero2", "weights, float32, gathered, each step", 4 * WEIGHTS, 1),
        ("zero3", "gradients, bfloat16, scattered, each micro-batch", 2 * WEIGHTS, 1),
        ("zero3", "weights, bfloat16, gathered three times, each micro-batch", 3 * 2 * WEIGHTS, 1),
    ]
    rows = []
    for stage, what, size, passes in parts:
        best, worst = (ring(size, 256, speed, passes) for speed in (NODE * NIC, NIC))
        rows.append(
            row(
                f"`{stage}`",
                what,
                gigabytes(passes * size * 255 / 256),
                f"{best:.2f} s, {best / step:.1%}",
                f"{worst:.2f} s, {worst / step:.0%}",
            )
        )
    return rows


CHECKPOINT = 16 * WEIGHTS  # weights, average, two moments
SHARED = 12 * WEIGHTS  # those of which a process reads what it holds


def verified(world: int) -> float:
    """Bytes of the pieces that one process digests, or compares."""
    return LENGTH * ceil(ceil(CHECKPOINT / LENGTH) / world)


def copied(world: int) -> float:
    """Seconds of copying what one process saves."""
    return CHECKPOINT / world / COPY


def written(world: int) -> float:
    """Seconds of a save: what all write, and then read back; each hashes its share."""
    return CHECKPOINT / DISK + max(CHECKPOINT / DISK, verified(world) / SHA)


def read(strategy: str, world: int) -> float:
    """Bytes that come from the disk when a run goes on; a node reads weights once for its processes."""
    readers = 1 if strategy == "zero3" else world // NODE
    return CHECKPOINT + SHARED + readers * 4 * WEIGHTS


def begun(strategy: str, world: int) -> float:
    """Seconds of reading when a run goes on, where no process reads faster than alone."""
    weights = read(strategy, world) - CHECKPOINT - SHARED
    return (CHECKPOINT + SHARED) / DISK + max(weights / DISK, 4 * WEIGHTS / ALONE)


def built(strategy: str) -> float:
    """Bytes of the memory of a node's CPU while models are built; under zero3 of the first node alone."""
    return 4 * WEIGHTS * (1 if strategy == "zero3" else NODE)


def checkpoint_rows() -> list[str]:
    worlds = [world for world, _ in RUNS.values()]

    def told(what: str, size: Callable[[int], float], unit: str, places: int = 1) -> str:
        return row(what, *(f"{size(world):,.{places}f} {unit}" for world in worlds))

    return [
        told("a checkpoint", lambda _: CHECKPOINT / GB, "GB"),
        told("a process copies", lambda world: CHECKPOINT / world / GB, "GB"),
        told("which training waits for, at 25 GB/s", copied, "s", 2),
        told("all is written, read again and hashed in", written, "s"),
        told("a process verifies, at the start", lambda world: verified(world) / GB, "GB"),
        told("and reads of average and moments", lambda world: SHARED / world / GB, "GB"),
        told("and reads of weights, `zero2`, each", lambda _: 4 * WEIGHTS / GB, "GB"),
        told("all read from the disk, `zero2`", lambda world: read("zero2", world) / 1e12, "TB"),
        told("which takes", lambda world: begun("zero2", world), "s", 0),
        told("and reads of weights, `zero3`, the first alone", lambda _: 4 * WEIGHTS / GB, "GB"),
        told("all read from the disk, `zero3`", lambda world: read("zero3", world) / 1e12, "TB"),
        told("which takes", lambda world: begun("zero3", world), "s", 0),
        told("did each verify and read all", lambda w: w * 2 * CHECKPOINT / 1e12, "TB"),
        told("of it from the disk, 8 processes a node", lambda w: w / NODE * CHECKPOINT / 1e12, "TB"),
    ]


def start_rows() -> list[str]:
    return [
        row("`zero1`, `zero2`", "each process", "all nodes", f"{built('zero2') / GB:.0f} GB"),
        row("`zero3`", "the first process", "the first node", f"{built('zero3') / GB:.0f} GB"),
    ]


def interval(cost: float, between: float) -> float:
    """Seconds from one checkpoint to the next (Young 1974; Daly 2006, first order)."""
    return sqrt(2 * cost * between)


def failure_rows() -> list[str]:
    rows = []
    for name, (world, sequence) in RUNS.items():
        a_day = FAILURES * world
        between, step = 86400 / a_day, clip_seconds(sequence)
        best, waited = interval(copied(world), between), interval(written(world), between)
        for strategy, what, cost, every in (
            ("zero2", "all of it", written(world), waited),
            ("zero2", "the copy", copied(world), best),
            ("zero2", "the copy", copied(world), OFTEN * step),
            ("zero3", "the copy", copied(world), OFTEN * step),
        ):
            again = RESTART + begun(strategy, world)
            lost = cost / every + every / (2 * between) + again / between
            rows.append(
                row(
                    name,
                    f"`{strategy}`",
                    f"{a_day:.2f}",
                    f"{between / 3600:.0f} h",
                    what,
                    f"{cost:.2f} s",
                    f"{every / 60:.0f} min",
                    f"{every / step:,.0f}",
                    f"{1 - lost:.1%}",
                )
            )
    return rows


def run_rows() -> list[str]:
    rows = []
    for name, (world, sequence) in RUNS.items():
        groups, step = world // sequence, clip_seconds(sequence)
        rows.append(
            row(
                name,
                sequence,
                groups,
                f"{step:.1f} s",
                f"{groups / step:.1f}",
                f"{groups / step * 86400:,.0f}",
            )
        )
    return rows


def looked(clips: int, groups: int) -> float:
    """Seconds of a validation whose clips `groups` share evenly."""
    return ceil(clips / groups) * len(SIGMAS) * clip_seconds(NODE) / 3


def drawn() -> float:
    """Seconds of drawing clips of the size of those that are trained on, by one group."""
    return SHOWN * SOLVER_STEPS * GUIDED * clip_seconds(NODE) / 3


def validation_rows() -> list[str]:
    rows = []
    for name, groups in (
        (NODE, 1),
        *((name, world // sequence) for name, (world, sequence) in RUNS.items()),
    ):
        for clips in HELD_OUT:
            seconds = looked(clips, groups)
            shares = [seconds / (seconds + every * clip_seconds(NODE)) for every in (250, 1000)]
            rows.append(row(name, groups, clips, f"{seconds:.0f} s", *(f"{share:.1%}" for share in shares)))
    return rows


TABLES = (
    compute_rows,
    stage_rows,
    memory_rows,
    start_rows,
    exchange_rows,
    traffic_rows,
    run_rows,
    validation_rows,
    checkpoint_rows,
    failure_rows,
)


def test_every_row_of_the_page_follows_from_its_formulas():
    page = PAGE.read_text().splitlines()
    rows = [line for line in page if line.startswith("| ")]
    heads = [line for line, under in pairwise(page) if under.startswith("|---")]
    stated = [line for line in rows if line not in heads]
    made = [line for table in TABLES for line in table()]
    assert stated == made


def test_the_model_is_the_one_that_is_shipped():
    assert sum(p.numel() for p in model().parameters()) == WEIGHTS
    assert (SIZES["width"], SIZES["hidden"], SIZES["depth"], SIZES["heads"]) == (D, F, LAYERS, HEADS)


def test_the_command_of_the_page_is_a_run_of_its_layout():
    written = PAGE.read_text().split("```\n")[1].replace("\\\n", " ")
    words = shlex.split(written)
    nodes, devices = (int(words[words.index(name) + 1]) for name in ("--nnodes", "--nproc-per-node"))
    parsed = parse_run(words[words.index("train.py") + 1 :], "")
    parallel, loop = build_part(parsed, "parallel"), build_part(parsed, "loop")
    world, sequence = RUNS["256"]
    assert (nodes * devices, parallel.sequence, parallel.strategy) == (world, sequence, "zero2")
    assert (loop.batch, loop.accumulate, loop.save_every) == (world // sequence, 1, OFTEN)
    cut = parsed.values.data.train.init_args.cut
    assert (cut.frames, cut.height, cut.width) == (81, 720, 1280)


if __name__ == "__main__":
    for table in TABLES:
        print(f"\n{table.__name__}", *table(), sep="\n")
