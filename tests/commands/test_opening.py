"""What opening a run or a model takes: its weights once, whatever they are made of."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vdit.commands.trained import load_trained
from vdit.config import build_part, load_run
from vdit.models.folder import save_backbone
from vdit.models.wan.dit import WanDiT
from vdit.train.checkpoint import Checkpoints
from vdit.train.flow_task import FlowTask
from vdit.train.manifest import MANIFEST, seal
from vdit.types import InputError
from vdit.weights.files import read_tensors, save_tensors


def changed(run: Path, **arguments: object) -> FlowTask:
    """The task of a run with other arguments, whose weights become the averaged ones of its checkpoint."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["task"]["init_args"] |= {"codec": str(run / "codec"), **arguments}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    task = build_part(load_run(run / "config.yaml"), "task")
    checkpoint = Checkpoints(run / "checkpoints", keep=1).latest()
    assert checkpoint is not None
    weights = {name: p for name, p in task.denoiser.named_parameters() if name not in task.borrowed}
    save_tensors(weights, checkpoint.average)
    (checkpoint.path / MANIFEST).unlink()
    seal(checkpoint.path, checkpoint.step)
    return task


def native(width: int, depth: int) -> dict[str, object]:
    arguments = {"text_width": 8, "width": width, "depth": depth, "heads": 4}
    return {"class_path": "vdit.models.native.dit.NativeDiT", "init_args": arguments}


def model(folder: Path, run: Path, width: int, depth: int) -> Path:
    """A model as `vdit import` writes it, of random weights, with the codec and the text of a run."""
    settings: dict[str, Any] = {"text_width": 8, "width": width, "hidden": 4 * width, "depth": depth}
    with torch.device("meta"):
        shapes = WanDiT(heads=8, **settings).state_dict()
    tensors = ((name, torch.randn(value.shape) * 0.02) for name, value in shapes.items())
    save_backbone(WanDiT, settings | {"heads": 8}, tensors, folder / "backbone")
    own = yaml.safe_load((run / "config.yaml").read_text())["task"]["init_args"]
    described = own | {"backbone": read(folder), "codec": str(run / "codec")}
    (folder / "model.yaml").write_text(yaml.safe_dump(described))
    return folder


def read(model: Path) -> dict[str, object]:
    arguments = {"folder": str(model / "backbone")}
    return {"class_path": "vdit.models.folder.read_backbone", "init_args": arguments}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks of memory")
def test_weights_are_in_memory_once(copied_run: Callable[[], Path], tmp_path: Path):
    """A native run, a model that was taken in, and a LoRA on it, each of 200 MB, in a process of its own."""
    run, folders = copied_run(), []
    for size, (width, depth) in {"small": (32, 1), "large": (896, 4)}.items():
        own, lora = (Path(shutil.copytree(run, tmp_path / size / name)) for name in ("run", "lora"))
        changed(own, backbone=native(width, depth))
        taken = model(tmp_path / size / "model", run, width, depth)
        changed(lora, backbone=read(taken), adapter={"rank": 2, "targets": ["*blocks.*attention.to_*"]})
        folders += [own, taken, lora]
    here = Path(__file__).parent
    ran = subprocess.run(
        [sys.executable, str(here / "opening_work.py"), *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])},
    )
    assert ran.returncode == 0, ran.stderr
    own, taken, lora = map(float, ran.stdout.split())
    assert max(own, taken, lora) < 1.15, ran.stdout  # the weights, and one tensor on its way


def test_a_run_is_sampled_with_its_averaged_weights_in_any_precision(copied_run: Callable[[], Path]):
    run = copied_run()
    [average] = run.glob("checkpoints/step_00000002/ema.safetensors")
    found = dict(load_trained(run, device="cpu").task.denoiser.named_parameters())
    stored = read_tensors(average)
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)


def test_weights_of_another_size_are_refused(copied_run: Callable[[], Path]):
    run = copied_run()
    changed(run, backbone=native(64, 1))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("width: 64\n", "width: 32\n"))
    with pytest.raises(InputError, match=r"ema\.safetensors does not fit the model: .*of another shape"):
        load_trained(run, device="cpu")
