"""What to change in a run that does not fit."""

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from vdit.parallel.blocks import Recompute
from vdit.plan.plan import Plan
from vdit.types import InputError

__all__ = ["Remedy", "find_remedy", "remedies"]

Remedy = Mapping[str, str | int]
"""Options of a run, by name."""

WIDEST = 8
"""Processes that may share a clip: those of a node."""


def remedies(plan: Plan) -> Iterator[Remedy]:
    """Changes in the order to try them, first what costs least time; all keep the clips of a step."""
    parallel, world = plan.parallel, plan.gpus
    how_much: tuple[Recompute, ...] = get_args(Recompute)
    yield from ({"parallel.recompute": more} for more in how_much[how_much.index(parallel.recompute) + 1 :])
    base: Remedy = {"parallel.recompute": "full"} if parallel.recompute != "full" else {}
    few = _one_clip(plan, parallel.sequence)
    if few:
        yield {**base, **few}
    stages = ("zero1", "zero2", "zero3") if world > 1 else ()
    kept = parallel.strategy if parallel.strategy in stages else ""
    last: Remedy = {"parallel.strategy": "zero3"} if world > 1 and kept != "zero3" else {}
    yield from ({**base, **few, "parallel.strategy": stage} for stage in stages if stage > kept)
    wider = [size for size in (2, 4, WIDEST) if size > parallel.sequence and world % size == 0]
    spread: list[Remedy] = [{**_one_clip(plan, size), "parallel.sequence": size} for size in wider]
    yield from ({**base, **last, **each} for each in spread)
    if not parallel.offload:
        apart: Remedy = {
            **(last if world > 1 else {"parallel.strategy": "zero2"}),
            "parallel.offload": "true",
        }
        yield from ({**base, **apart, **each} for each in (few, *spread))


def find_remedy(plan: Plan, limit: float, planned: Callable[[Remedy], Plan]) -> tuple[Remedy, Plan] | None:
    """The first change with which a run fits into `limit` bytes a GPU, and its plan; or None."""
    for remedy in remedies(plan):
        try:
            found = planned(remedy)
        except InputError:  # what this run cannot do, such as ZeRO with Muon
            continue
        if found.largest.memory.most <= limit:
            return remedy, found
    return None


def _one_clip(plan: Plan, sequence: int) -> Remedy:
    """One clip a micro-batch of each group of `sequence` processes, and as many more micro-batches."""
    loop, groups = plan.loop, plan.gpus // sequence
    clips = loop.batch * loop.accumulate
    if loop.batch == groups or clips % groups:
        return {}
    return {"loop.batch": groups, "loop.accumulate": clips // groups}
