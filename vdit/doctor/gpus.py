"""The GPUs of a machine: what they are, whether torch can use them, and who else does."""

import csv
import os
import shutil
import subprocess
from dataclasses import dataclass

import torch
from torch.cuda import nccl

from vdit.doctor.finding import Finding
from vdit.doctor.launch import Launch

__all__ = ["Gpu", "check_gpus", "listed_gpus"]

FIELDS = "index,uuid,name,memory.total,memory.used,compute_cap,driver_version"
TIMEOUT_SECONDS = 30
USED_MIB = 1024
"""What a GPU without work has of its memory in use is less."""
BFLOAT16 = 8.0
"""Compute capability from which on matrix products in bfloat16 are fast."""


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver sees it.

    Attributes:
        index: its number on this machine.
        uuid: its name for the driver.
        name: of the model.
        total: MiB of memory; 0 where the driver does not tell.
        used: MiB of it that are in use.
        capability: its compute capability.
        driver: the version.
        busy: processes that work on it, as "name (number)".
    """

    index: int
    uuid: str
    name: str
    total: int
    used: int
    capability: float
    driver: str
    busy: tuple[str, ...]


def listed_gpus() -> list[Gpu]:
    """All GPUs by `nvidia-smi`; none where there is no such program. Raises OSError where it fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    busy: dict[str, list[str]] = {}
    for uuid, process, name in _rows("--query-compute-apps=gpu_uuid,pid,process_name"):
        busy.setdefault(uuid, []).append(f"{name} ({process})")
    return [
        Gpu(
            int(index),
            uuid,
            name,
            _number(total),
            _number(used),
            float(capability),
            driver,
            tuple(busy.get(uuid, ())),
        )
        for index, uuid, name, total, used, capability, driver in _rows(f"--query-gpu={FIELDS}")
    ]


def check_gpus(launch: Launch | None) -> list[Finding]:
    """Every GPU, and CUDA as a whole. Call it before this job uses any of them."""
    asked = launch is not None and launch.accelerator == "cuda"
    try:
        gpus = listed_gpus()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        sentence = f"nvidia-smi does not answer: {error}"
        return [Finding("GPUs", "wrong", sentence, "mend the driver; a reboot often does")]
    seen = torch.cuda.device_count()
    if not gpus and not seen:
        return [_without(asked)]
    each = [_one(gpu, launch) for gpu in gpus] or [_by_torch(index) for index in range(seen)]
    return [_cuda(gpus, seen), *_enough(seen, launch), *each]


def _without(asked: bool) -> Finding:
    other = torch.accelerator.current_accelerator(check_available=True)
    if asked:
        remedy = "--parallel.accelerator cpu, or a machine that has one"
        return Finding("GPUs", "wrong", "the run wants cuda, and this machine has no such GPU", remedy)
    where = f"training runs on {other.type}" if other else "training runs on the CPU"
    return Finding("GPUs", "skipped", f"this machine has no NVIDIA GPU: {where}")


def _cuda(gpus: list[Gpu], seen: int) -> Finding:
    driver = f", driver {gpus[0].driver}" if gpus else ""
    if not seen and os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return Finding("CUDA", "warning", "CUDA_VISIBLE_DEVICES is empty: all GPUs are hidden", "unset it")
    if not seen:
        built = torch.version.cuda
        why = f"it is built for CUDA {built}" if built else "it is built for CPUs alone"
        remedy = "a newer driver, or a torch for an older CUDA" if built else "install a torch with CUDA"
        return Finding("CUDA", "wrong", f"torch sees none of the {len(gpus)} GPUs: {why}{driver}", remedy)
    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    version = ".".join(map(str, nccl.version()))
    sentence = f"torch is built for {kind}, NCCL {version}{driver}, and sees {seen} GPUs"
    return Finding("CUDA", "ok", sentence)


def _enough(seen: int, launch: Launch | None) -> list[Finding]:
    if launch is None or launch.accelerator not in ("auto", "cuda") or launch.devices <= seen:
        return []
    sentence = f"the run wants {launch.devices} GPUs of each machine, and torch sees {seen} here"
    return [Finding("GPUs", "wrong", sentence, f"--parallel.devices {seen}, or show it more of them")]


def _one(gpu: Gpu, launch: Launch | None) -> Finding:
    name = f"GPU {gpu.index}"
    quick = gpu.capability >= BFLOAT16
    free = f"{(gpu.total - gpu.used) / 1024:.1f} of {gpu.total / 1024:.1f} GiB free"
    sentence = (
        f"{gpu.name}, {free if gpu.total else 'memory not told'}, compute capability {gpu.capability:g} "
        f"with{'' if quick else 'out'} bfloat16"
    )
    if gpu.busy:
        return Finding(
            name, "warning", f"{sentence}; in use by {', '.join(gpu.busy)}", "end it, or wait for it"
        )
    if gpu.used > USED_MIB:
        sentence += f"; {gpu.used / 1024:.1f} GiB are in use by somebody who is not seen from here"
        return Finding(name, "warning", sentence, "look for processes outside this container or user")
    if not quick and launch is not None and launch.precision == "bf16-mixed":
        return Finding(name, "warning", sentence, "--parallel.precision 32-true")
    return Finding(name, "ok", sentence)


def _by_torch(index: int) -> Finding:
    it = torch.cuda.get_device_properties(index)
    sentence = f"{it.name}, {it.total_memory / 2**30:.1f} GiB, compute capability {it.major}.{it.minor}"
    return Finding(f"GPU {index}", "ok", f"{sentence}; there is no nvidia-smi to ask who else uses it")


def _number(cell: str) -> int:
    """Of a cell that says [N/A] where a driver does not count, as on unified memory: 0."""
    return int(cell) if cell.isdigit() else 0


def _rows(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode:
        raise OSError(
            (done.stdout + done.stderr).strip().splitlines()[0] if done.stdout + done.stderr else ""
        )
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines()) if row]
