"""What the driver says of GPUs, by a program that answers in its place."""

import os
from pathlib import Path

import pytest
import torch
from machine import only

from configs import write_config
from vdit.config import load_run
from vdit.doctor.finding import Finding
from vdit.doctor.gpus import check_gpus, listed_gpus
from vdit.doctor.launch import planned

ROW = "{}, GPU-{}, NVIDIA H100 80GB HBM3, 81559, {}, {}, 570.86.15"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`driver(rows, apps)` puts an nvidia-smi on the path that tells these; torch sees as many GPUs."""

    def put(rows: list[str], apps: list[str] | None = None, seen: int | None = None) -> None:
        (tmp_path / "gpus").write_text("".join(f"{row}\n" for row in rows))
        (tmp_path / "apps").write_text("".join(f"{app}\n" for app in apps or []))
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\ncase "$1" in --query-gpu=*) cat {tmp_path}/gpus;; *) cat {tmp_path}/apps;; esac\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(rows) if seen is None else seen)
        monkeypatch.setattr("vdit.doctor.gpus.nccl.version", lambda: (2, 27, 3))
        monkeypatch.setattr(torch.version, "cuda", "12.8")

    return put


def launch(folder: Path, **parallel: object):
    return planned(load_run(write_config(folder, parallel=parallel)))


def test_idle_gpus_are_well(driver):
    driver([ROW.format(0, "a", 4, "9.0"), ROW.format(1, "b", 4, "9.0")])
    assert [gpu.total for gpu in listed_gpus()] == [81559, 81559]
    found = check_gpus(None)
    assert [finding.state for finding in found] == ["ok"] * 3
    assert only(found, "CUDA").sentence.endswith("CUDA 12.8, NCCL 2.27.3, driver 570.86.15, and sees 2 GPUs")
    assert only(found, "GPU 1").sentence == (
        "NVIDIA H100 80GB HBM3, 79.6 of 79.6 GiB free, compute capability 9 with bfloat16"
    )


def test_another_process_on_a_gpu_is_named(driver):
    driver([ROW.format(0, "a", 4, "9.0"), ROW.format(1, "b", 40000, "9.0")], ["GPU-b, 4711, python3"])
    found = check_gpus(None)
    assert [finding.state for finding in found] == ["ok", "ok", "warning"]
    assert "in use by python3 (4711)" in only(found, "GPU 1").sentence


def test_memory_in_use_by_somebody_unseen_is_told(driver):
    driver([ROW.format(0, "a", 40000, "9.0")])
    found = only(check_gpus(None), "GPU 0")
    assert found.state == "warning"
    assert "39.1 GiB are in use by somebody who is not seen" in found.sentence


def test_an_old_gpu_and_bfloat16_do_not_go_together(driver, tmp_path: Path):
    driver([ROW.format(0, "a", 4, "7.5")])
    assert only(check_gpus(launch(tmp_path, precision="32-true")), "GPU 0").state == "ok"
    found = only(check_gpus(launch(tmp_path, precision="bf16-mixed")), "GPU 0")
    assert (found.state, found.remedy) == ("warning", "--parallel.precision 32-true")


def test_gpus_that_torch_does_not_see_are_wrong(driver, monkeypatch: pytest.MonkeyPatch):
    driver([ROW.format(0, "a", 4, "9.0")], seen=0)
    found = only(check_gpus(None), "CUDA")
    assert (found.state, found.remedy) == ("wrong", "a newer driver, or a torch for an older CUDA")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built for CPUs alone" in only(check_gpus(None), "CUDA").sentence
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert only(check_gpus(None), "CUDA").state == "warning"


def test_fewer_gpus_than_the_run_wants_are_wrong(driver, tmp_path: Path):
    driver([ROW.format(0, "a", 4, "9.0")])
    found = only(check_gpus(launch(tmp_path, accelerator="cuda", devices=8)), "GPUs")
    assert found == Finding(
        "GPUs",
        "wrong",
        "the run wants 8 GPUs of each machine, and torch sees 1 here",
        "--parallel.devices 1, or show it more of them",
    )


def test_a_driver_that_does_not_count_memory_is_understood(driver):
    driver(["0, GPU-a, NVIDIA GB10, [N/A], [N/A], 12.1, 580.1"])
    assert "memory not told" in only(check_gpus(None), "GPU 0").sentence


def test_a_driver_that_fails_is_wrong(tmp_path: Path, driver):
    driver([])
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed; exit 9\n")
    [found] = check_gpus(None)
    assert (found.state, found.sentence) == ("wrong", "nvidia-smi does not answer: NVIDIA-SMI has failed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_wrong_only_for_a_run_that_wants_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert [finding.state for finding in check_gpus(None)] == ["skipped"]
    assert [finding.state for finding in check_gpus(launch(tmp_path, accelerator="cpu"))] == ["skipped"]
    assert [finding.state for finding in check_gpus(launch(tmp_path, accelerator="cuda"))] == ["wrong"]
