"""What a release says of its own sampling is used, or told where it is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.commands.trained import load_model
from vdit.releases.settings import RECIPE

SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def given_out(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`given_out(variant, layout, name)`: a copy of a release that is called so, here."""
    made: dict[tuple[str, str], Path] = {}

    def make(variant: str, layout: str, name: str = "release") -> Path:
        if (variant, layout) not in made:
            out = made[variant, layout] = tmp_path_factory.mktemp(variant) / layout
            line = ["--from", str(tiny(variant)), "--layout", layout, "--to", str(out)]
            assert run_command(export, line) == 0
            for more in ("configuration.json", RECIPE):  # which say more than releases do
                (out / more).unlink(missing_ok=True)
        return Path(shutil.copytree(made[variant, layout], name))

    return make


def edited(file: Path, **changes: Any) -> None:
    table = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(table))


def taken_in(release: Path, codec: Path, *more: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model.yaml and the import.json of an import."""
    shutil.rmtree("out", ignore_errors=True)
    line = ["--from", str(release), "--to", "out", "--codec", str(codec.parent / "codec.yaml"), *more]
    assert run_command(import_, line) == 0
    return yaml.safe_load(Path("out/model.yaml").read_text()), json.loads(Path("out/import.json").read_text())


def test_boundary_and_shift_of_a_release_reach_sampling_training_and_the_experts(
    tiny: Callable[[str], Path], given_out: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    release, codec = given_out("wan_2_2_t2v_a14b", "diffusers"), tiny("wan_2_2_t2v_a14b")
    edited(release / "model_index.json", boundary_ratio=0.8)
    edited(release / SCHEDULER, flow_shift=7.0)
    model, report = taken_in(release, codec)
    assert (model["sampling"]["boundary"], model["sampling"]["shift"]) == (0.8, 7.0)
    assert model["backbone"]["init_args"]["boundary"] == 0.8
    assert model["levels"]["init_args"]["shift"] == 7.0
    assert report["sampling"]["boundary"] == {"value": 0.8, "from": "model_index.json"}
    told = capsys.readouterr().out
    assert f"shift is 7.0, as {SCHEDULER} says; the authors' recipe has 12.0." in told
    assert "boundary is 0.8, as model_index.json says; the authors' recipe has 0.875." in told
    assert load_model(Path("out")).sampling.shift == 7.0

    authors = ["--recipe", str(Path(__file__).parents[2] / "configs/sample/wan_2_2_t2v_a14b.yaml")]
    model, _ = taken_in(release, codec, *authors)
    assert (model["sampling"]["boundary"], model["sampling"]["shift"]) == (0.875, 12.0)
    assert f"{SCHEDULER} says shift 7.0, and 12.0 is taken, as you ask." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("layout", "name", "shift", "more", "expected"),
    [
        ("original", "Wan2.1-I2V-14B-480P", None, [], (480, 3.0)),
        ("original", "Wan2.1-I2V-14B-720P", None, [], (720, 5.0)),
        ("original", "models--Wan-AI--Wan2.1-I2V-14B-720P/snapshots/3f5a", None, [], (720, 5.0)),
        ("original", "mine", None, [], (480, 3.0)),
        ("original", "mine", None, ["--resolution", "720p"], (720, 5.0)),
        ("original", "Wan2.1-I2V-14B-480P", None, ["--resolution", "720p"], (720, 5.0)),
        ("diffusers", "mine", 3.0, [], (480, 3.0)),
        ("diffusers", "mine", 5.0, [], (720, 5.0)),
        ("diffusers", "Wan2.1-I2V-14B-720P-Diffusers", 5.0, [], (720, 5.0)),
        ("diffusers", "Wan2.1-I2V-14B-720P-Diffusers", 4.0, [], (720, 4.0)),
        ("diffusers", "mine", 3.0, ["--resolution", "720p"], (720, 5.0)),
    ],
)
def test_both_releases_of_image_to_video_are_told_apart(
    layout: str,
    name: str,
    shift: float | None,
    more: list[str],
    expected: tuple[int, float],
    tiny: Callable[[str], Path],
    given_out: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
):
    release = given_out("wan_2_1_i2v", layout, name)
    if shift is not None:
        edited(release / SCHEDULER, flow_shift=shift)
    model, _ = taken_in(release, tiny("wan_2_1_i2v"), *more)
    assert (model["sampling"]["height"], model["sampling"]["shift"]) == expected
    assert model["sampling"]["width"] == {480: 832, 720: 1280}[expected[0]]
    assert model["levels"]["init_args"]["shift"] == expected[1]
    told = capsys.readouterr().out
    unsaid = layout == "original" and name == "mine" and not more
    assert ("It does not say for which size it is: 480p; --resolution 720p changes that." in told) == unsaid


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        (
            SCHEDULER,
            {"_class_name": "LCMScheduler"},
            "is of a LCMScheduler; known are UniPCMultistepScheduler",
        ),
        (SCHEDULER, {"use_karras_sigmas": True}, "says use_karras_sigmas True, which is not followed."),
        (SCHEDULER, {"prediction_type": "epsilon"}, "says prediction_type epsilon, which is not followed"),
        (SCHEDULER, {"solver_order": 3}, "says solver_order 3, which is not followed: here it is 2."),
        (SCHEDULER, {"shift_terminal": 0.1}, "says shift_terminal 0.1, which is not followed."),
        ("model_index.json", {"_class_name": "WanDMDPipeline"}, "is of a WanDMDPipeline, which is not known"),
        ("model_index.json", {"is_distilled": True}, "says is_distilled True, which is not followed."),
        (
            "model_index.json",
            {"expand_timesteps": True},
            "says expand_timesteps True, and wan_2_1_t2v has False",
        ),
        (
            "model_index.json",
            {"boundary_ratio": 0.9},
            "says boundary_ratio 0.9, and there is one transformer",
        ),
    ],
)
def test_what_is_not_followed_is_told(
    file: str,
    changes: dict[str, Any],
    told: str,
    tiny: Callable[[str], Path],
    given_out: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
):
    release = given_out("wan_2_1_t2v", "diffusers")
    _, report = taken_in(release, tiny("wan_2_1_t2v"))
    before = set(report["notes"])
    edited(release / file, **changes)
    _, report = taken_in(release, tiny("wan_2_1_t2v"))
    (note,) = {note for note in report["notes"] if note.startswith(file)} - before
    assert told in note
    assert note in capsys.readouterr().out


def test_another_solver_is_taken_and_settings_that_say_nothing_are_not_told(
    tiny: Callable[[str], Path], given_out: Callable[..., Path]
):
    release = given_out("wan_2_1_t2v", "diffusers")
    published = {"beta_start": 0.0001, "sample_max_value": 1.0, "dynamic_thresholding_ratio": 0.995}
    edited(release / SCHEDULER, flow_shift=5.0, thresholding=False, solver_p=None, **published)
    assert not taken_in(release, tiny("wan_2_1_t2v"))[1]["notes"]
    (release / SCHEDULER).write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 8.0}')
    model, report = taken_in(release, tiny("wan_2_1_t2v"))
    assert (model["sampling"]["solver"], model["sampling"]["shift"]) == ("euler", 8.0)
    assert len(report["notes"]) == 2


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("model_index.json", {"boundary_ratio": "high"}, "says boundary_ratio high, which is no number"),
        ("model_index.json", {"boundary_ratio": 1.5}, "must lie between 0 and 1, not at 1.5"),
        (SCHEDULER, {"flow_shift": 0}, "sampling.shift is 0, but must be a number above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    file: str,
    changes: dict[str, Any],
    told: str,
    given_out: Callable[..., Path],
    tiny: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
):
    release = given_out("wan_2_2_t2v_a14b", "diffusers")
    edited(release / file, **changes)
    codec = str(tiny("wan_2_2_t2v_a14b").parent / "codec.yaml")
    assert run_command(import_, ["--from", str(release), "--to", "out", "--codec", codec]) == 2
    assert told in capsys.readouterr().err


def test_a_release_without_its_second_expert_is_no_other_model(
    given_out: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    release = given_out("wan_2_2_t2v_a14b", "diffusers")
    shutil.rmtree(release / "transformer_2")
    assert run_command(import_, ["--from", str(release), "--to", "out"]) == 2
    assert "it lacks transformer_2/" in capsys.readouterr().err


def test_settings_beside_the_weights_of_the_authors_layout_are_used(
    tiny: Callable[[str], Path], given_out: Callable[..., Path]
):
    release = given_out("wan_2_2_t2v_a14b", "original")
    told = {"boundary": 0.7, "sample_shift": 9.0, "sample_steps": 8, "sample_guide_scale": [1.0, 1.5]}
    (release / "configuration.json").write_text(json.dumps({"task": "text-to-video", **told}))
    edited(release / "high_noise_model/config.json", eps=1e-5)
    model, report = taken_in(release, tiny("wan_2_2_t2v_a14b"))
    expected = {"boundary": 0.7, "shift": 9.0, "steps": 8, "guidance": 1.5, "low_guidance": 1.0}
    assert {name: model["sampling"][name] for name in expected} == expected
    assert model["backbone"]["init_args"]["boundary"] == 0.7
    assert report["sampling"]["steps"] == {"value": 8, "from": "configuration.json"}
    assert "config.json says eps 1e-05, and 1e-06 is computed." in report["notes"]


@pytest.mark.parametrize("variant", ["wan_2_1_t2v", "wan_2_2_i2v_a14b"])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("theirs", [True, False], ids=["files of the layout", "all"])
def test_how_a_model_is_sampled_survives(
    variant: str, layout: str, theirs: bool, tiny: Callable[[str], Path], given_out: Callable[..., Path]
):
    own = yaml.safe_load((tiny(variant) / "model.yaml").read_text())
    changed = {"shift": 4.5, "boundary": 0.6, "solver": "dpm++"}
    if layout == "original" or not theirs:
        changed |= {"steps": 7, "guidance": 2.5, "low_guidance": 1.5}
        changed |= {"frames": 9, "fps": 12.0, "negative": "blue"}
    if not theirs:
        changed |= {"height": 48, "width": 64, "first": 0.5}
    own["sampling"] |= changed
    shutil.copytree(tiny(variant), "changed")
    if two := variant.endswith("a14b"):
        own["backbone"]["init_args"]["boundary"] = 0.6
    Path("changed/model.yaml").write_text(yaml.safe_dump(own))
    assert run_command(export, ["--from", "changed", "--layout", layout, "--to", "release"]) == 0
    if theirs:
        Path("release", RECIPE).unlink()
    model, _ = taken_in(Path("release"), tiny(variant))
    kept = {name: value for name, value in changed.items() if two or name not in ("boundary", "low_guidance")}
    assert {name: model["sampling"][name] for name in kept} == kept
    assert model["levels"]["init_args"]["shift"] == 4.5


def test_what_others_wrote_into_a_folder_that_was_given_out_comes_first(tiny: Callable[[str], Path]):
    line = ["--from", str(tiny("wan_2_1_t2v")), "--layout", "diffusers", "--to", "release"]
    assert run_command(export, line) == 0
    edited(Path("release") / SCHEDULER, flow_shift=7.0)
    model, _ = taken_in(Path("release"), tiny("wan_2_1_t2v"))
    assert (model["sampling"]["shift"], model["sampling"]["height"]) == (7.0, 32)
    model, _ = taken_in(Path("release"), tiny("wan_2_1_t2v"), "--resolution", "720p")
    assert model["sampling"]["height"] == 720


def test_a_solver_of_the_authors_layout_that_is_not_known_is_told(
    tiny: Callable[[str], Path], given_out: Callable[..., Path]
):
    release = given_out("wan_2_1_t2v", "original")
    (release / "configuration.json").write_text(json.dumps({"sample_solver": "lcm"}))
    model, report = taken_in(release, tiny("wan_2_1_t2v"))
    assert model["sampling"]["solver"] == "unipc"
    assert any("sample_solver lcm" in note for note in report["notes"])


@pytest.mark.parametrize(("layout", "place"), [("original", "google/umt5-xxl"), ("diffusers", "tokenizer")])
def test_a_tokenizer_without_its_words_is_refused(
    layout: str, place: str, given_out: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    release = given_out("wan_2_1_t2v", layout)
    (release / place / "tokenizer.json").unlink()
    assert run_command(import_, ["--from", str(release), "--to", "out"]) == 2
    assert f"it lacks {place}/tokenizer.json or spiece.model" in capsys.readouterr().err
