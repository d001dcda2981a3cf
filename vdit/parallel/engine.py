"""Where training runs: devices, processes, precision, and what must be done across them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor, nn

from vdit.models.backbone import VideoBackbone
from vdit.parallel.agreement import Agreement
from vdit.parallel.blocks import Recompute, compile_blocks, recompute_blocks, transformers_of
from vdit.parallel.launch import find_launch
from vdit.parallel.mesh import Mesh
from vdit.parallel.parent import ended_with_parent
from vdit.parallel.sequence import sequence_group, spread_tokens
from vdit.parallel.stepper import FabricStepper, Stepper
from vdit.parallel.watchdog import Watchdog
from vdit.parallel.zero import ZeroStepper, require_deepspeed, require_parts
from vdit.types import InputError

__all__ = ["Engine", "Parallel", "start_of"]

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


@dataclass(frozen=True)
class Parallel:
    """Devices and precision of a run.

    Args:
        accelerator: cpu, cuda, mps or auto.
        devices: processes on each node, one a device; where torchrun, srun or the launcher of DeepSpeed start
            them, 1 leaves it to these.
        nodes: machines; 1 likewise.
        strategy: ddp keeps a copy of the weights on every device; zero1 shares optimiser states between them,
            zero2 gradients too, zero3 weights too (DeepSpeed); auto is one device or ddp.
        offload: whether zero keeps optimiser states in the memory of the CPU.
        sequence: processes that share the tokens of a clip and exchange heads (Ulysses); it must divide the
            heads, and all processes of the run.
        recompute: what the backward pass of a transformer's blocks computes again instead of keeping: none of
            it, all but what attention gave (selective), or all (full).
        compile: whether the blocks of a transformer are compiled.
        timeout: seconds that a process may wait, for clips or for others, before the run ends with a message
            that names who stalls.
        precision: 32-true, or bf16-mixed: float32 weights, bfloat16 arithmetic.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["auto", "ddp", "zero1", "zero2", "zero3"] = "auto"
    offload: bool = False
    sequence: int = 1
    recompute: Recompute = "none"
    compile: bool = False
    timeout: float = 1800.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        if self.devices < 1 or self.nodes < 1:
            raise InputError(f"devices {self.devices} and nodes {self.nodes} must be at least 1")
        if self.offload and self.strategy not in STAGES:
            raise InputError("offload is of parallel.strategy zero1, zero2 and zero3: choose one of them")
        if self.sequence < 1:
            raise InputError(f"sequence is {self.sequence}, but must be at least 1")
        if self.timeout <= 0:
            raise InputError(f"parallel.timeout is {self.timeout}: give seconds above 0")

    @property
    def patience(self) -> timedelta:
        """How long exchanges wait. The watchdog speaks before they give up: it knows who stalls."""
        return timedelta(seconds=2 * self.timeout)

    def require_groups(self) -> int:
        """How many groups of processes have clips of their own.

        Raises:
            InputError: `sequence` does not divide the processes.
        """
        processes = self.devices * self.nodes
        if processes % self.sequence:
            raise InputError(f"sequence {self.sequence} does not divide the run's {processes} processes")
        return processes // self.sequence


def start_of(parallel: Parallel) -> torch.device:
    """Where this process makes what is trained, before it meets the others.

    That is where tensors are made anyway; or `meta`, where weights have shapes and no memory: under zero3 the
    first process makes them, and gives the others their parts of them when the module is set up.
    """
    whole = parallel.strategy != "zero3" or find_launch().first
    return torch.get_default_device() if whole else torch.device("meta")


class Engine:
    """One process's view of the run. Lightning Fabric does the launching and the moving.

    Raises:
        InputError: the machine has no such accelerator, or too few of them; other counts than those of what
            started the processes; `sequence` does not divide them.
    """

    def __init__(self, parallel: Parallel) -> None:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies import DDPStrategy
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        # A weight is cast once a pass, so a kept cast serves nobody: they would stand in memory, all of them,
        # until the pass ends, also where the backward pass computes again and where weights are shared.
        torch.set_autocast_cache_enabled(False)
        self.launch = find_launch()
        devices, nodes = self.launch.counts(parallel.devices, parallel.nodes)
        parallel = replace(parallel, devices=devices, nodes=nodes)
        parallel.require_groups()
        alone = devices * nodes == 1 and parallel.strategy == "auto"
        try:
            self._fabric = Fabric(
                accelerator=parallel.accelerator,
                devices=parallel.devices,
                num_nodes=parallel.nodes,
                strategy="auto" if alone else DDPStrategy(timeout=parallel.patience),
                plugins=self.launch.environment,
            )
        except (RuntimeError, ValueError, MisconfigurationException) as error:
            asked = f"accelerator {parallel.accelerator}, devices {parallel.devices}"
            raise InputError(f"this machine cannot give what parallel asks for ({asked}): {error}") from error
        with ended_with_parent(self.launch):
            self._fabric.launch()
        self.parallel = parallel
        self.mesh = Mesh(self._fabric.global_rank, self._fabric.world_size, parallel.sequence)
        self.agreement = Agreement(self.mesh.world, parallel.patience)
        self.watchdog = Watchdog(self.mesh.rank, self.mesh.world, parallel.timeout)

    @property
    def device(self) -> torch.device:
        return self._fabric.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self._fabric.is_global_zero

    @property
    def name(self) -> str:
        """This process, in a message."""
        return f"rank {self.mesh.rank} ({self.watchdog.host})"

    @property
    def title(self) -> str:
        """How many processes train, and where."""
        nodes = "one node" if self.parallel.nodes == 1 else f"{self.parallel.nodes} nodes"
        by = f", started by {self.launch.by}" if self.launch.by else ""
        shared = f"; {self.mesh.sequence} share each clip" if self.mesh.sequence > 1 else ""
        return f"{self.mesh.world} processes on {nodes}{by}{shared}"

    def arrange(self, module: nn.Module) -> None:
        """Have the transformers in a module work as the run asks, before it is set up.

        The precision is theirs too, for what is measured and drawn beside the steps.

        Raises:
            InputError: there is none, or its heads cannot be shared.
        """
        if self.parallel.strategy in STAGES:
            transformers_of(module, f"parallel.strategy {self.parallel.strategy}")
        if self.mesh.sequence > 1:
            spread_tokens(module, sequence_group(self.mesh, self.parallel.patience))
        if self.parallel.recompute != "none":
            recompute_blocks(module, self.parallel.recompute)
        if self.parallel.compile:
            compile_blocks(module)
        if self.parallel.precision == "bf16-mixed":
            for part in module.modules():
                if isinstance(part, VideoBackbone):
                    part.arithmetic = torch.bfloat16

    def require(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises InputError where `setup` will not do with this optimiser, or lacks a package."""
        if self.parallel.strategy in STAGES:
            require_parts(optimizer)
            require_deepspeed()

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer, limit: float) -> Stepper:
        """A module, on the device, and its optimiser as the strategy has them.

        Args:
            module: what is trained, with the weights to begin with, where `start_of` had it made.
            optimizer: over its weights.
            limit: gradients are scaled down to this norm.

        Raises:
            InputError: what the strategy cannot do.
        """
        stage, half = STAGES.get(self.parallel.strategy), self.parallel.precision == "bf16-mixed"
        if stage is None:
            return FabricStepper(self._fabric, module, optimizer, limit, half, self.runs_ahead)
        os.environ.setdefault("LOCAL_RANK", str(self._fabric.local_rank))  # Fabric leaves the first without
        offload, patience = self.parallel.offload, self.parallel.patience
        return ZeroStepper(module, optimizer, stage, limit, offload, half, patience)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all ranks."""
        return self._reduced(value, dist.ReduceOp.SUM) / self.mesh.world

    @property
    def runs_ahead(self) -> bool:
        """Whether this process goes on while its device computes, and should not wait for it."""
        return self.device.type == "cuda"

    def take_peak(self) -> int:
        """Bytes of this GPU that tensors took at most since this was last asked; 0 where there is none."""
        if self.device.type != "cuda":
            return 0
        most = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return most

    def any(self, flag: Bool[Tensor, ""]) -> Bool[Tensor, ""]:
        """Whether the flag is up on any rank, on the device."""
        return self._reduced(flag.float(), dist.ReduceOp.MAX) > 0 if self.mesh.world > 1 else flag

    def _reduced(self, value: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        # Fabric would have all ranks meet first, and on a GPU wait for it.
        if self.mesh.world == 1:
            return value
        reduced = value.detach().clone()
        dist.all_reduce(reduced, how)
        return reduced

    def rows(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank, one row a rank."""
        if self.mesh.world == 1:
            return [list(values)]
        own = torch.tensor(values, device=self.device)
        every = [torch.empty_like(own) for _ in range(self.mesh.world)]
        dist.all_gather(every, own)
        return torch.stack(every).tolist()

    def gathered(self, said: Sequence[str]) -> list[str]:
        """What all ranks say, one after the other."""
        if self.mesh.world == 1:
            return list(said)
        told: list[Sequence[str]] = [()] * self.mesh.world
        dist.all_gather_object(told, said)
        return [word for words in told for word in words]

    def said_of_clips(self, said: Sequence[str]) -> list[str]:
        """What all ranks say of their clips; those that share clips say the same, and it is heard once."""
        return self.gathered(said if self.mesh.sequence_rank == 0 else ())

    def leave(self, status: int) -> int:
        """The status to leave with, once all ranks are about to.

        A launcher kills the processes that remain, half a minute after the first one left with a status that
        is not 0: the one that writes checkpoints might be among them. Fabric kills them at once, so that
        those that it started leave with 0; the first one has the status.
        """
        self.barrier()
        return status if self.main or self.launch.by else 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._fabric.barrier()
