"""Two nodes train together over a cable; where it is cut, a run ends and can be resumed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network import Cabled, Refused

from vdit.train.checkpoint import Checkpoint, Checkpoints
from vdit.weights.files import read_tensors

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
MEETING = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "node0:29400", "--rdzv-id", "run"]
DEEPSPEED = ["-m", "deepspeed.launcher.runner", "--no_ssh", "--master_addr", "node0"]
VARIABLES = {"GLOO_SOCKET_IFNAME": "wire", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
PATIENCE = 10  # seconds, of a collective
ENDED = 150  # seconds, after which neither node may be left

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cabled]:
    try:
        cabled = Cabled(tmp_path)
    except Refused as refusal:
        pytest.skip(str(refusal))
    yield cabled
    cabled.close()


@pytest.fixture
def train(nodes: Cabled, flow_config: Path, tmp_path: Path) -> Iterator[Callable]:
    """`train(launcher, *options)`: the processes of both nodes, killed at the end if they are left."""
    begun = []
    options = ["--config", str(flow_config), "--out", str(tmp_path / "run")]

    def begin(launched: Callable[[int], list[str]], *more: str):
        for node in (0, 1):
            command = [*launched(node), str(ROOT / "train.py"), *options, *more]
            begun.append(nodes.begin(node, command, {**VARIABLES, "PYTHONPATH": str(ROOT)}))
        return begun

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()


def launcher(way: str, folder: Path) -> Callable[[int], list[str]]:
    """What starts the process of a node, each by its own command."""
    file = folder / "hostfile"
    file.write_text("node0 slots=1\nnode1 slots=1\n")
    return {
        "c10d": lambda node: [*TORCHRUN, *MEETING],
        "static": lambda node: [*TORCHRUN, "--node-rank", str(node), "--master-addr", "node0"],
        "hostfile": lambda node: [*DEEPSPEED, "--hostfile", str(file), "--node_rank", str(node)],
    }[way]


def said(process) -> str:
    return process.communicate(timeout=ENDED)[0]


def newest(run: Path) -> Checkpoint | None:
    return Checkpoints(run / "checkpoints", keep=1).latest()


def off_by(ours: Path, theirs: Path) -> float:
    """The largest difference between the last weights of two runs."""
    pairs = [read_tensors(next(run.glob("checkpoints/*40/model.safetensors"))) for run in (ours, theirs)]
    assert pairs[0].keys() == pairs[1].keys()
    return max(float((pairs[0][name] - pairs[1][name]).abs().max()) for name in pairs[0])


@pytest.mark.parametrize("way", ["c10d", "hostfile"])
def test_two_nodes_train_as_one_process_does(train, flow_run: Path, tmp_path: Path, way: str):
    if way == "hostfile":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    first, second = train(launcher(way, tmp_path))
    words = said(first)
    assert (first.returncode, second.wait(ENDED)) == (0, 0), words + said(second)
    assert "2 processes on 2 nodes, started by" in words
    assert off_by(tmp_path / "run", flow_run) < 1e-5


@pytest.mark.parametrize("way", ["static", "hostfile"])
def test_a_cut_cable_ends_the_run_with_a_message_and_a_checkpoint(
    train, nodes: Cabled, flow_run: Path, flow_config: Path, begin, finish, tmp_path: Path, way: str
):
    """Where nodes meet by c10d, torchrun itself waits on a node that has lost the host of the meeting."""
    if way == "hostfile":
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    run, patience = tmp_path / "run", ("--parallel.timeout", str(PATIENCE))
    processes = train(launcher(way, tmp_path), *patience)
    while newest(run) is None and processes[0].poll() is None:
        time.sleep(0.005)
    nodes.cut()
    cut = time.monotonic()
    for process in processes:
        words = said(process)
        assert "parallel.timeout" in words, words
        assert "same command goes on from the last checkpoint" in words
        assert process.returncode not in (0, 3)
    print(f"{way}: both nodes ended {time.monotonic() - cut:.0f} s after the cable was cut")
    kept = newest(run)
    assert kept is not None
    assert kept.step < 40
    kept.verify()
    resumed = finish(begin(flow_config, run, *patience))
    assert f"after step {kept.step}" in " ".join(resumed.split())
    assert off_by(run, flow_run) < 1e-5
