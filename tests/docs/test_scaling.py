"""The numbers of docs/scaling.md follow from its formulas: every table there is made here.

python tests/docs/test_scaling.py      prints the tables
"""

from collections.abc import Callable
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path

import torch
import yaml

from vdit.parallel.zero import REDUCE_BUCKET
from vdit.train.manifest import LENGTH

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/scaling.md"

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

RUNS = {"256": (256, 8), "1,000": (1000, 8)}


def flops() -> float:
    """Of one forward pass of one clip."""
    linear = 8 * D * D + 4 * D * D + 4 * D * F
    return LAYERS * (TOKENS * linear + 4 * TOKENS**2 * D + 4 * TEXT * D * D + 4 * TOKENS * TEXT * D)


def clip_seconds(sequence: int) -> float:
    """Of a training step on one clip that `sequence` GPUs share."""
    return 3 * flops() / (sequence * MFU * PEAK)


def memory(stage: int, world: int, sequence: int) -> dict[str, float]:
    """Bytes a GPU, item by item."""
    own = TOKENS / sequence
    gathered = 4 * WEIGHTS if stage < 3 else 4 * WEIGHTS / world
    return {
        "weights, float32": gathered,
        "bfloat16 casts of them": (1 if stage < 3 else 2) * 2 * WEIGHTS / LAYERS,
        "gradients, float32": 4 * WEIGHTS / (world if stage > 1 else 1),
        "buckets of gradients": REDUCE_BUCKET * (2 * (4 + 4) if stage < 3 else 4 + 2),
        "float32 copy, two moments, average": 16 * WEIGHTS / world,
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
    ways = [memory(2, 256, 8), memory(3, 256, 8), memory(2, 1000, 8)]
    rows = [row(name, *(gigabytes(way[name]) for way in ways)) for name in ways[0]]
    rows.append(row("**together**", *(f"**{gigabytes(sum(way.values()))}**" for way in ways)))
    left = [f"{(MEMORY - sum(way.values())) / GB:.0f}" for way in ways]
    return [*rows, row("left of an H200's 139 GiB", *left)]


def stage_rows() -> list[str]:
    """Why not less sharing, or fewer GPUs a clip."""
    ddp = memory(1, 256, 8) | {"float32 copy, two moments, average": 12 * WEIGHTS}
    ways = {"ddp": ddp} | {f"zero{stage}": memory(stage, 256, 8) for stage in (1, 2, 3)}
    rows = [row(f"`{name}`, 8 GPUs a clip", gigabytes(sum(way.values()))) for name, way in ways.items()]
    few = {p: sum(memory(2, 256, p).values()) for p in (4, 2, 1)}
    rows += [row(f"`zero2`, {p} GPUs a clip", gigabytes(size)) for p, size in few.items()]
    half = sum(ways["zero2"].values()) - 2 * WEIGHTS  # weights are their own casts
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


def begun() -> float:
    """Seconds of reading when a run goes on: of all processes together, and of the first alone."""
    return (CHECKPOINT + SHARED) / DISK + 4 * WEIGHTS / ALONE


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
        told("the first process of weights", lambda _: 4 * WEIGHTS / GB, "GB"),
        told("all processes read", lambda w: (w * verified(w) + SHARED + 4 * WEIGHTS) / 1e12, "TB"),
        told("which takes", lambda _: begun(), "s", 0),
        told("did each verify and read all", lambda w: w * 2 * CHECKPOINT / 1e12, "TB"),
        told("of it from the disk, 8 processes a node", lambda w: w / NODE * CHECKPOINT / 1e12, "TB"),
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
        for what, cost, every in (
            ("all of it", written(world), waited),
            ("the copy", copied(world), best),
            ("the copy", copied(world), OFTEN * step),
        ):
            lost = cost / every + every / (2 * between) + (RESTART + begun()) / between
            rows.append(
                row(
                    name,
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


TABLES = (
    compute_rows,
    stage_rows,
    memory_rows,
    exchange_rows,
    traffic_rows,
    run_rows,
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
    from vdit.models.wan.dit import WanDiT

    sizes = yaml.safe_load((ROOT / "configs/model/wan_2_1_t2v_14b.yaml").read_text())["init_args"]
    with torch.device("meta"):
        model = WanDiT(**sizes)
    assert sum(p.numel() for p in model.parameters()) == WEIGHTS
    assert (sizes["width"], sizes["hidden"], sizes["depth"], sizes["heads"]) == (D, F, LAYERS, HEADS)


if __name__ == "__main__":
    for table in TABLES:
        print(f"\n{table.__name__}", *table(), sep="\n")
