"""A plan as tables."""

from rich import box
from rich.console import Console
from rich.table import Table

from vdit.plan.plan import Bucket, Plan

__all__ = ["print_plan"]

GIB = 2**30
DAY = 86400.0


def print_plan(console: Console, plan: Plan, peak: float, mfu: float, stated: bool) -> None:
    """Print a plan.

    Args:
        console: where.
        plan: of a run.
        peak: operations a second of a GPU.
        mfu: the share of them that a step uses.
        stated: whether the share was told; else it is said to be an assumption.
    """
    p = plan.parallel
    said = f"{plan.gpus} GPU{'s' * (plan.gpus > 1)}, {p.strategy}, {p.precision}, recompute {p.recompute}"
    said += f", sequence {p.sequence}" * (p.sequence > 1) + ", offload" * p.offload
    _say(console, f"{plan.title}: {_count(plan.weights)} weights, {_count(plan.trained)} trained; {said}")
    if p.compile:
        _say(console, "parallel.compile is left out: this is what the same run holds without it.")
    console.print(_shapes(plan))
    console.print(_work(plan, peak, mfu))
    console.print(_memory(plan))
    _time(console, plan, peak, mfu, stated)
    _disk(console, plan)


def _shapes(plan: Plan) -> Table:
    table = _table("bucket", "latents", "tokens", "text", "clips a GPU", "a step", "tokens a step")
    for bucket in plan.buckets:
        clips = (
            f"{bucket.clips}" if plan.parallel.sequence == 1 else f"{bucket.clips}/{plan.parallel.sequence}"
        )
        table.add_row(
            _shape(bucket),
            "x".join(map(str, bucket.grid)),
            _or_none(bucket.tokens),
            _or_none(bucket.text),
            clips,
            f"{bucket.step_clips:,}",
            _or_none(bucket.tokens * bucket.step_clips),
        )
    return table


def _work(plan: Plan, peak: float, mfu: float) -> Table:
    table = _table("TFLOP a step", "forward", "backward", "again", "model", "of steps", "seconds")
    shares = sum(bucket.shape.share for bucket in plan.buckets)
    for bucket in plan.buckets:
        flops = (bucket.forward, bucket.backward, bucket.again, bucket.model)
        seconds = bucket.seconds(peak, mfu, plan.gpus)
        share = f"{bucket.shape.share / shares:.0%}"
        table.add_row(_shape(bucket), *(_tera(each) for each in flops), share, f"{seconds:.3g}")
    return table


def _memory(plan: Plan) -> Table:
    bucket = plan.largest
    memory, states = bucket.memory, bucket.memory.states
    rows = [
        ("weights", states.weights),
        ("gradients", states.gradients),
        ("optimiser states", states.optimiser),
        ("average", states.average),
        ("buffers of the strategy", states.buffers),
        ("gathered weights" if plan.parallel.strategy == "zero3" else "buckets of gradients", states.passing),
        ("activations", memory.activations),
        ("weights cast to bfloat16", memory.cast),
        ("temporaries" if memory.rest >= 0 else "not there at the peak", memory.rest),
    ]
    table = _table(f"a GPU, {_shape(bucket)}", "GiB")
    for name, size in rows:
        if size:
            table.add_row(name, _gib(size))
    table.add_section()
    table.add_row("peak", _gib(memory.most))
    if states.host:
        table.add_section()
        table.add_row("memory of the CPU, a GPU", _gib(states.host))
    return table


def _time(console: Console, plan: Plan, peak: float, mfu: float, stated: bool) -> None:
    seconds = plan.seconds(peak, mfu)
    days = seconds * plan.loop.steps / DAY
    whole = f"{days:.2f} days" if days >= 0.1 else f"{days * 24:.2f} hours"
    said = "" if stated else "; that MFU is an assumption, give --mfu from a run of yours"
    _say(
        console,
        f"time: {seconds:.3g} s a step, {whole} for {plan.loop.steps:,} steps, at {mfu:.0%} MFU of "
        f"{peak / 1e12:g} TFLOP/s{said}. Validation, samples and saving come on top.",
    )


def _disk(console: Console, plan: Plan) -> None:
    disk, size = plan.disk, plan.disk.checkpoint
    _say(
        console,
        f"checkpoint: {_gib(size)} GiB; {disk.written} written ({_gib(size * disk.written)} GiB), "
        f"{disk.kept} kept ({_gib(size * disk.kept)} GiB)",
    )


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _shape(bucket: Bucket) -> str:
    return f"{bucket.shape.frames}x{bucket.shape.height}x{bucket.shape.width}"


def _or_none(number: int) -> str:
    return f"{number:,}" if number else "-"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.2f} M"


def _tera(flops: int) -> str:
    return f"{flops / 1e12:,.4g}" if flops < 1e16 else f"{flops / 1e12:,.0f}"


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f}" if abs(size) >= GIB / 10 else f"{size / GIB:.4f}"
