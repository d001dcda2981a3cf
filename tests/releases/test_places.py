"""A run finds the model that it began with from any folder, and after both were moved."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_training import trained

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.sample import main as sample


@pytest.fixture
def project(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """`project(variant)`: a folder with a model and a run of it, begun there with a relative path."""

    def make(variant: str) -> Path:
        home = tmp_path / "home"
        home.mkdir()
        shutil.copytree(tiny(variant), home / "models/tiny")
        monkeypatch.chdir(home)
        assert trained(Path("models/tiny"), "runs/mine") == 0
        monkeypatch.chdir(tmp_path)
        return home

    return make


def sampled(run: Path, *more: str) -> int:
    return run_command(sample, ["--run", str(run), "--prompt", "a red star", "--out", "clips", *more])


def test_a_run_is_used_from_any_folder_and_after_a_move(
    project: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    home = project("wan_2_1_t2v")
    assert sampled(home / "runs/mine") == 0
    (home / "runs/mine").rename(tmp_path / "alone")
    assert sampled(tmp_path / "alone") == 0
    (tmp_path / "alone").rename(home / "runs/mine")
    home.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere/runs/mine"
    assert sampled(moved) == 0
    assert run_command(export, ["--from", str(moved), "--layout", "original", "--to", "out"]) == 0
    shutil.rmtree(tmp_path / "elsewhere/models")
    capsys.readouterr()
    assert sampled(moved) == 2
    told = capsys.readouterr().err
    assert f"the model in {home / 'models/tiny/backbone'} is not there: put it back, or a link" in told
    assert run_command(export, ["--from", str(moved), "--layout", "original", "--to", "out_2"]) == 2
    assert (
        f"began with is not in {home / 'models/tiny'} any more: put it back, or a link"
        in capsys.readouterr().err
    )


def test_a_run_goes_on_from_another_folder(
    project: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    home = project("wan_2_1_i2v")
    moved = home.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    assert trained(Path("models/tiny"), "runs/mine") == 0
    # Told with relative paths, as runs were before: from where it was begun it still opens.
    resolved = (moved / "runs/mine/config.yaml").read_text()
    assert str(moved) in resolved
    (moved / "runs/mine/config.yaml").write_text(resolved.replace(f"{moved}/", ""))
    assert trained(Path("models/tiny"), "runs/mine") == 0
