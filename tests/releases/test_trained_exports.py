"""What a run trained is exported where it belongs; an export that changes nothing is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_training import trained

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.commands.sample import main as sample
from vdit.weights.source import open_weights

ADAPTER = "--task.init_args.adapter={rank: 2, alpha: 8}"
READ = "vdit.models.folder.read_backbone"
A14B = "wan_2_2_t2v_a14b"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only(model: Path, role: str) -> str:
    """The option that trains one transformer of a model."""
    one = {"class_path": READ, "init_args": {"folder": str(model / role)}}
    Path("one.yaml").write_text(yaml.safe_dump(one))
    return "--task.init_args.backbone=one.yaml"


def share_changed(model: Path, run: str, layout: str) -> dict[str, float]:
    """Export a run and import that again: the share of weights, by role, that are not those of the model."""
    shutil.rmtree("out", ignore_errors=True)
    shutil.rmtree("again", ignore_errors=True)
    assert run_command(export, ["--from", run, "--layout", layout, "--to", "out"]) == 0
    codec = str(model.parent / "codec.yaml")
    assert run_command(import_, ["--from", "out", "--to", "again", "--codec", codec]) == 0
    shares = {}
    for role in ("backbone", "high", "low"):
        if (model / role).is_dir():
            before = dict(open_weights(model / role).tensors())
            after = dict(open_weights(Path("again") / role).tensors())
            shares[role] = sum(not torch.equal(before[name], after[name]) for name in before) / len(before)
    return shares


@pytest.mark.parametrize(
    ("role", "adapter", "layout"),
    [("high", [], "diffusers"), ("low", [ADAPTER], "original")],
    ids=["full", "lora"],
)
def test_a_run_of_one_expert_goes_into_that_expert(
    role: str,
    adapter: list[str],
    layout: str,
    tiny: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
):
    model = tiny(A14B)
    assert trained(model, "run", only(model, role), *adapter) == 0
    shares = share_changed(model, "run", layout)
    assert shares.pop(role) > (0.1 if adapter else 0.9)
    assert set(shares.values()) == {0.0}
    assert f"trained: {role}; all else as in" in capsys.readouterr().out


def test_a_lora_of_a_run_is_added_to_what_that_run_trained(tiny: Callable[[str], Path]):
    model = tiny("wan_2_1_t2v")
    assert trained(model, "full") == 0
    assert trained(model, "lora", "--task.init_args.start_from", "full", ADAPTER) == 0
    assert share_changed(model, "lora", "diffusers")["backbone"] > 0.9  # norms and embeddings, too
    assert run_command(export, ["--from", "lora", "--to", "own"]) == 0
    own = dict(open_weights(Path("own/backbone")).tensors())
    again = dict(open_weights(Path("again/backbone")).tensors())
    assert all(torch.equal(own[name], again[name]) for name in again)


def test_a_lora_of_two_experts_goes_into_both(tiny: Callable[[str], Path]):
    model = tiny(A14B)
    assert trained(model, "run", ADAPTER, "--task.init_args.backbone.init_args.boundary=0.5") == 0
    shares = share_changed(model, "run", "diffusers")
    assert min(shares.values()) > 0.1
    assert max(shares.values()) < 0.6  # attention and feed-forward, no norm and no embedding
    assert run_command(export, ["--from", "run", "--to", "own"]) == 0
    assert {part.name for part in Path("own").iterdir()} == {"model.yaml", "high", "low", "codec", "text"}
    for role in ("high", "low"):
        own = dict(open_weights(Path("own") / role).tensors())
        assert all(torch.equal(own[n], v) for n, v in open_weights(Path("again") / role).tensors())
    assert run_command(sample, ["--model", "own", "--prompt", "a red star", "--out", "clips"]) == 0


@pytest.mark.parametrize(("variant", "more"), [("wan_2_1_t2v", []), (A14B, [ADAPTER])], ids=["full", "lora"])
def test_an_export_that_would_change_nothing_is_refused(
    variant: str, more: list[str], tiny: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    model = tiny(variant)
    assert trained(model, "run", "--optim.lr=1e-30", *more) == 0
    capsys.readouterr()
    assert run_command(export, ["--from", "run", "--layout", "original", "--to", "out"]) == 2
    assert f"step 2 of run has every weight of {model} as it was imported" in capsys.readouterr().err
    assert not Path("out").exists()


def test_what_has_no_place_in_the_model_is_refused(
    tiny: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    model = tiny("wan_2_1_t2v")
    read = {"class_path": READ, "init_args": {"folder": str(model / "backbone")}}
    experts = {"high": read, "low": read, "boundary": 0.5}
    two = {"class_path": "vdit.models.experts.SigmaExperts", "init_args": experts}
    Path("two.yaml").write_text(yaml.safe_dump(two))
    assert trained(model, "run", "--task.init_args.backbone=two.yaml") == 0
    capsys.readouterr()
    assert run_command(export, ["--from", "run", "--layout", "original", "--to", "out"]) == 2
    assert f"run trained high and low, and the model in {model} has no high/" in capsys.readouterr().err


def test_a_codec_that_a_run_did_not_change_is_not_exported(
    tiny: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    run, codec = Path("run"), tiny("wan_2_1_t2v") / "codec"
    line = ["--from", "run/codec", "--layout", "diffusers", "--to"]
    for place in ("start", "codec"):  # as a run of a codec that began with this one leaves them
        shutil.copytree(codec, run / place)
    assert run_command(export, [*line, "same"]) == 2
    assert "run/codec has every weight of the codec that run began with" in capsys.readouterr().err
    tensors = load_file(run / "codec/weights.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, run / "codec/weights.safetensors")
    assert run_command(export, [*line, "other"]) == 0
