"""The memory that a plan forecasts is the memory that training takes of a GPU."""

from itertools import product
from pathlib import Path

import pytest
import torch
from small_runs import Trial, asked, small_run

from vdit.plan.clips import ClipShape
from vdit.plan.plan import plan_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="measures a GPU")

PEAK = 0.15
"""How far a forecast may be off."""

SHAPE, GRID = ClipShape(33, 320, 512), (9, 40, 64)


def options(family: str, recompute: str, precision: str) -> list[str]:
    """Of a run of some hundred million weights, whose activations are gigabytes."""
    backbone = "--task.init_args.backbone.init_args."
    sizes = {"width": 1024, "depth": 12, "heads": 8, **({"hidden": 4096} if family == "wan" else {})}
    parallel = {"accelerator": "cuda", "recompute": recompute, "precision": precision}
    return [
        *(word for name, size in sizes.items() for word in (backbone + name, str(size))),
        *(word for name, value in parallel.items() for word in (f"--parallel.{name}", value)),
    ]


@pytest.mark.parametrize(
    ("family", "recompute", "precision"),
    product(("native", "wan"), ("none", "selective", "full"), ("32-true", "bf16-mixed")),
)
def test_the_peak_of_a_gpu_is_near_the_forecast(tmp_path: Path, family: str, recompute: str, precision: str):
    parsed = small_run(tmp_path, family, *options(family, recompute, precision))
    forecast = plan_run(parsed, asked(SHAPE)).largest.memory.most
    trial = Trial(parsed, grid=GRID)
    for _ in range(2):
        trial.backward()
        trial.update()
    torch.cuda.reset_peak_memory_stats()
    trial.backward()
    trial.update()
    torch.cuda.synchronize()
    most, taken = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    said = (
        f"{family}, recompute {recompute}, {precision}: {forecast / 2**30:.2f} GiB forecast, "
        f"{most / 2**30:.2f} allocated, {taken / 2**30:.2f} reserved: {forecast / most:.3f}"
    )
    print(said)
    assert abs(forecast - most) <= PEAK * most, said
