"""Processes that stand when training begins, because torchrun, DeepSpeed's launcher or srun started them.

Each of them tells its processes by variables of the environment how many they are. Where none did, a process
is the first of its node, and Fabric starts the others by the counts of the configuration.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdit.types import InputError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments import ClusterEnvironment

__all__ = ["LOST", "Launch", "find_launch", "lost_peer", "without_local_rank"]

LOST = 5
"""The status a process leaves with when it has lost the others, or stood still."""


@dataclass(frozen=True)
class Launch:
    """What started the processes of a run.

    Attributes:
        by: its name; empty where this process starts those of its node itself.
        devices: processes on each node, one a device.
        nodes: machines.
        environment: what tells Fabric its rank; None where Fabric finds that out.
    """

    by: str = ""
    devices: int = 1
    nodes: int = 1
    environment: "ClusterEnvironment | None" = None

    @property
    def first(self) -> bool:
        """Whether this process is the first of the run, told before it has met the others."""
        environment = self._environment()
        if self.by:
            return environment.global_rank() == 0
        return self.first_of_node and environment.node_rank() == 0

    @property
    def first_of_node(self) -> bool:
        """Whether it is the first of its machine."""
        return self._environment().local_rank() == 0

    def _environment(self) -> "ClusterEnvironment":
        from lightning.fabric.plugins.environments import LightningEnvironment

        return self.environment or LightningEnvironment()

    def counts(self, devices: int, nodes: int) -> tuple[int, int]:
        """Processes on each node, and nodes; those of the launcher, if there is one.

        Args:
            devices: by the configuration; 1 says nothing.
            nodes: likewise.

        Raises:
            InputError: the configuration says other counts than the launcher.
        """
        if not self.by:
            return devices, nodes
        for name, stated, given in (("devices", devices, self.devices), ("nodes", nodes, self.nodes)):
            if stated not in (1, given):
                raise InputError(
                    f"parallel.{name} is {stated}, but {self.by} started {self.devices} processes on each of "
                    f"{self.nodes} nodes: leave out parallel.devices and parallel.nodes, or start as many"
                )
        return self.devices, self.nodes


def find_launch() -> Launch:
    """What started this process and its peers, by the environment.

    Raises:
        InputError: nodes with different numbers of processes, or srun without `--ntasks-per-node`.
    """
    from lightning.fabric.plugins.environments import (
        LightningEnvironment,
        SLURMEnvironment,
        TorchElasticEnvironment,
    )

    if TorchElasticEnvironment.detect():
        devices, nodes = number("LOCAL_WORLD_SIZE"), number("GROUP_WORLD_SIZE")
        return even(Launch("torchrun", devices, nodes, TorchElasticEnvironment()))
    if {"RANK", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_SIZE"} <= os.environ.keys():
        # The launcher of DeepSpeed has the names of torchrun for everything else that Fabric asks.
        devices, nodes = number("LOCAL_SIZE"), number("CROSS_SIZE")
        return even(Launch("the deepspeed launcher", devices, nodes, TorchElasticEnvironment()))
    if "SLURM_NTASKS" not in os.environ:
        return Launch()
    if not ("SLURM_STEP_ID" in os.environ and number("SLURM_NTASKS") > 1 and SLURMEnvironment.detect()):
        return Launch(
            environment=LightningEnvironment()
        )  # a job or a shell of Slurm, but no task among others
    try:
        environment = SLURMEnvironment()
    except RuntimeError as error:
        raise InputError(f"srun does not say how many tasks a node has: {error}") from error
    nodes = number("SLURM_NNODES")
    return even(Launch("srun", environment.world_size() // nodes, nodes, environment))


def lost_peer(error: RuntimeError) -> str | None:
    """What an exchange between processes says that failed; None of any other error."""
    import torch.distributed as dist

    if not (isinstance(error, dist.DistError) or "/gloo/" in str(error)):
        return None
    first = str(error).strip().partition("\n")[0]
    return (
        f"this process has lost the others: {first}. One of them has stopped (its log says why), or the link "
        "to it is cut, or parallel.timeout is over. The same command goes on from the last checkpoint"
    )


def without_local_rank(arguments: Sequence[str]) -> list[str]:
    """A command line without what the launcher of DeepSpeed puts first, and says in the environment too."""
    return [word for word in arguments if not word.startswith("--local_rank=")]


def even(launch: Launch) -> Launch:
    """`launch`, if its nodes have as many processes each. Raises InputError otherwise."""
    world = launch.environment.world_size() if launch.environment else 1
    if launch.devices * launch.nodes != world:
        raise InputError(
            f"{launch.by} started {world} processes on {launch.nodes} nodes, {launch.devices} of them here: "
            "give every node as many"
        )
    return launch


def number(name: str) -> int:
    """A count from the environment."""
    try:
        return int(os.environ[name])
    except (KeyError, ValueError) as error:
        raise InputError(f"{name} is {os.environ.get(name)!r}, but a launcher sets it to a count") from error
