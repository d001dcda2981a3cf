"""Counts come from what started the processes; the configuration may agree or say nothing."""

import os
from collections.abc import Callable

import pytest
import torch

from vdit.parallel.launch import Launch, find_launch, lost_peer, without_local_rank
from vdit.types import InputError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "run",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
}
DEEPSPEED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"} | {
    "LOCAL_SIZE": "2",
    "CROSS_SIZE": "2",
    "CROSS_RANK": "1",
}
SRUN = {
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
Given = Callable[..., Launch]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Given:
    """`launched(variables, **others)`: what is found where the environment has these and no others."""

    def find(variables: dict[str, str], **others: str) -> Launch:
        for name in os.environ:
            if name.startswith(("SLURM", "TORCHELASTIC", "LOCAL_", "CROSS_", "RANK", "WORLD_")):
                monkeypatch.delenv(name)
        for name, value in {**variables, **others}.items():
            monkeypatch.setenv(name, value)
        return find_launch()

    return find


@pytest.mark.parametrize(
    ("by", "variables"), [("torchrun", TORCHRUN), ("the deepspeed launcher", DEEPSPEED), ("srun", SRUN)]
)
def test_every_launcher_says_how_many_processes_there_are(launched: Given, by: str, variables):
    found = launched(variables)
    assert (found.by, found.devices, found.nodes) == (by, 2, 2)
    assert found.environment is not None
    assert found.environment.creates_processes_externally
    assert (found.environment.world_size(), found.environment.global_rank()) == (4, 3)
    assert found.environment.local_rank() == 1
    assert found.counts(1, 1) == found.counts(2, 1) == found.counts(2, 2) == (2, 2)
    assert not found.first
    assert launched({**variables, "RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}).first


def test_the_first_of_the_processes_that_start_one_another_is_that_of_the_first_node(launched: Given):
    assert launched({}).first
    assert not launched({"LOCAL_RANK": "1"}).first
    assert not launched({"NODE_RANK": "1"}).first


def test_without_a_launcher_the_configuration_counts(launched: Given):
    found = launched({})
    assert (found.by, found.counts(8, 4)) == ("", (8, 4))


@pytest.mark.parametrize(
    "variables",
    [
        {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"},
        {**SRUN, "SLURM_JOB_NAME": "interactive"},
        {**SRUN, "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1"},
    ],
)
def test_a_job_of_slurm_alone_starts_nothing(launched: Given, variables):
    """A batch script without srun, a shell, one task that is to start the others."""
    found = launched(variables)
    assert (found.by, found.counts(8, 1)) == ("", (8, 1))
    assert found.environment is not None
    assert not found.environment.creates_processes_externally


def test_torchrun_inside_srun_counts(launched: Given):
    assert launched({**SRUN, **TORCHRUN}).by == "torchrun"


@pytest.mark.parametrize(("devices", "nodes", "said"), [(4, 1, "devices is 4"), (1, 3, "nodes is 3")])
def test_other_counts_in_the_configuration_are_one_sentence(launched: Given, devices, nodes, said):
    with pytest.raises(InputError, match=rf"{said}, but torchrun started 2 processes on each of 2 nodes"):
        launched(TORCHRUN).counts(devices, nodes)


def test_uneven_nodes_and_missing_counts_are_refused(launched: Given):
    with pytest.raises(InputError, match="torchrun started 3 processes on 2 nodes, 2 of them here"):
        launched(TORCHRUN, WORLD_SIZE="3")
    with pytest.raises(InputError, match="GROUP_WORLD_SIZE is 'two'"):
        launched(TORCHRUN, GROUP_WORLD_SIZE="two")
    with pytest.raises(InputError, match="ntasks-per-node"):
        launched({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})


def test_what_deepspeed_puts_before_the_arguments_goes():
    assert without_local_rank(["--local_rank=1", "--config", "c.yaml"]) == ["--config", "c.yaml"]


def test_only_an_exchange_that_failed_is_a_lost_peer():
    gloo = "[/x/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer\nmore"
    said = lost_peer(RuntimeError(gloo)) or ""
    assert "Connection closed by peer. One of them has stopped" in said
    assert lost_peer(torch.distributed.DistBackendError("NCCL error: remote process exited")) is not None
    assert lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
