"""What a configuration will ask of the machine."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from vdit.config import Parsed, build_part
from vdit.doctor.finding import Finding
from vdit.parallel.engine import STAGES
from vdit.train.run_folder import RunFolder
from vdit.train.task import Task
from vdit.types import InputError

__all__ = ["Launch", "TaskFound", "check_task", "checkpoint_bytes", "planned"]


@dataclass(frozen=True)
class Launch:
    """A run that is to be started.

    Attributes:
        parsed: its configuration.
        out: its folder.
        accelerator: cpu, cuda, mps or auto.
        devices: processes on each machine.
        precision: 32-true or bf16-mixed.
        needed: optional packages that it cannot do without.
        checkpoints: that stand on the disk at once, at most.
    """

    parsed: Parsed
    out: Path
    accelerator: str
    devices: int
    precision: str
    needed: frozenset[str]
    checkpoints: int


@dataclass(frozen=True)
class TaskFound:
    """What is known of the task of a run.

    Attributes:
        findings: whether it can be built.
        checkpoint_bytes: of one checkpoint; None where it cannot.
    """

    findings: tuple[Finding, ...]
    checkpoint_bytes: int | None


def planned(parsed: Parsed) -> Launch:
    """What a configuration asks for; neither task nor clips are built."""
    values, loop = parsed.values, build_part(parsed, "loop")
    parallel = values.parallel
    return Launch(
        parsed,
        Path(values.out),
        parallel.accelerator,
        parallel.devices,
        parallel.precision,
        frozenset({"deepspeed"}) if parallel.strategy in STAGES else frozenset(),
        min(loop.kept + 1, loop.saves),  # one is written before the oldest is removed
    )


def check_task(launch: Launch) -> TaskFound:
    """Build what is trained, without memory for its weights, and count them."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter")  # they are not
            task = build_part(launch.parsed, "task")
            task.adopt(RunFolder(launch.out))
            weights = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
            size = checkpoint_bytes(task)
    except (InputError, OSError) as error:
        remedy = "mend the configuration, or bring what it names"
        return TaskFound((Finding("task", "wrong", str(error), remedy),), None)
    return TaskFound((Finding("task", "ok", f"a {task.title} of {weights / 1e6:.2f} M weights"),), size)


def checkpoint_bytes(task: Task) -> int:
    """Bytes of a checkpoint of a task: what it trained, and in float32 the average of that and two moments.

    An upper bound where Muon trains some of the matrices, which has one moment.
    """
    own = {name: v for name, v in task.module.state_dict().items() if name not in task.borrowed}
    trained = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    return sum(v.numel() * v.element_size() for v in own.values()) + 3 * 4 * trained
