"""Sampling from a run: what is checked before, kept meanwhile, and told after."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from letter_text import LetterText
from PIL import Image

import vdit.commands.sample as command
from vdit.commands.command import run_command
from vdit.commands.sample import main as sample
from vdit.data.decode import open_video
from vdit.sample import windows
from vdit.sample.sampler import Sampler
from vdit.sample.video_file import read_metadata
from vdit.types import InputError

PROMPTS = ["--prompt", "a", "--prompt", "b", "--prompt", "c"]


@pytest.fixture
def run(tiny_runs: Any) -> list[str]:
    return ["--run", str(tiny_runs.video)]


def settings(out: Path, name: str = "settings.json") -> dict[str, Any]:
    return json.loads((out / name).read_text())


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--size", "36x32"], "the nearest sizes that work are 32x32 and 48x32"),
        (["--frames", "8"], "use 5 or 9"),
        (["--length", "13", "--overlap", "1"], "this model takes none"),
        (["--memory", "1e-9"], "GiB are too little for this codec"),
        (["--camera", "pan left"], "this model follows no camera"),
        (["--shot", "5=b"], "a shot at frame 5 lies beyond the clip"),
        (["--first", "a.png"], "this model takes no images"),
        (["--fps", "2000"], "fps must lie above 0 and at most 1000, got 2000"),
        (["--fps", "0.0001"], "at most 1000, got 0.0001"),
        (["--prompts", "none.csv"], "does not exist"),
        (["--prompt", "caf\udce9"], "a --prompt is not UTF-8 text"),
    ],
)
def test_all_is_checked_before_weights_are_read(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], says: str
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("a.png")
    monkeypatch.setattr(command, "_opened", lambda _: pytest.fail("weights are read"))
    with pytest.raises(InputError) as refused:
        sample([*run, "--prompt", "a", "--out", "clips", *asked])
    assert says in str(refused.value)
    assert not Path("clips").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_weights_are_read(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(command, "_opened", lambda _: pytest.fail("weights are read"))
    assert run_command(sample, [*run, "--prompt", "a", "--out", str(tmp_path / "file" / "clips")]) == 2


def test_a_full_disk_is_refused_before_weights_are_read(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    monkeypatch.setattr(command, "_opened", lambda _: pytest.fail("weights are read"))
    with pytest.raises(InputError, match=r"will take about .* and the disk has 0 MiB left for .*clips"):
        sample([*run, "--prompt", "a", "--out", str(tmp_path / "clips")])
    assert not (tmp_path / "clips").exists()


def test_an_interrupted_call_keeps_what_is_done(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    solved: list[Any] = []
    latents = Sampler.latents

    def interrupted(self: Sampler, *asked: Any) -> torch.Tensor:
        solved.append(asked[0])
        if len(solved) == 3:
            raise KeyboardInterrupt
        return latents(self, *asked)

    monkeypatch.setattr(Sampler, "latents", interrupted)
    assert run_command(sample, [*run, *PROMPTS, "--batch", "1", "--out", str(tmp_path)]) == 130
    assert {file.name for file in tmp_path.iterdir()} == {
        *("000000.mp4", "000001.mp4", "sheet.png", "settings.json")
    }
    assert [clip["prompt"] for clip in settings(tmp_path)["clips"]] == ["a", "b"]


def test_a_clip_that_is_no_picture_costs_the_others_nothing(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    decoded = Sampler.decoded

    def second_lost(self: Sampler, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        for i, clip in enumerate(decoded(self, latents)):
            yield clip if i != 1 else clip * torch.nan

    monkeypatch.setattr(Sampler, "decoded", second_lost)
    assert run_command(sample, [*run, *PROMPTS, "--out", str(tmp_path)]) == 1
    assert "seed 1: pixels are not finite" in capsys.readouterr().err
    assert [clip["seed"] for clip in settings(tmp_path)["clips"]] == [0, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("you tried to")]
)
def test_too_many_clips_at_once_become_fewer(
    run: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: RuntimeError,
):
    tried: list[int] = []
    latents = Sampler.latents

    def small(self: Sampler, prompts: Any, *asked: Any) -> torch.Tensor:
        tried.append(len(prompts))
        if len(prompts) > 1:
            raise error
        return latents(self, prompts, *asked)

    monkeypatch.setattr(Sampler, "latents", small)
    line = [*run, *PROMPTS, "--out", str(tmp_path)]
    if not isinstance(error, torch.OutOfMemoryError):  # no matter of memory
        with pytest.raises(RuntimeError, match="you tried to"):
            sample(line)
        return
    assert run_command(sample, line) == 0
    assert tried == [3, 1, 1, 1]
    assert "3 clips at once take more memory than there is; going on with 1" in capsys.readouterr().out
    assert [clip["seed"] for clip in settings(tmp_path)["clips"]] == [0, 1, 2]


def test_one_clip_that_takes_too_much_memory_is_refused_in_a_sentence(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(*_: Any) -> torch.Tensor:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
        )

    monkeypatch.setattr(Sampler, "latents", full)
    assert run_command(sample, [*run, *PROMPTS, "--out", str(tmp_path / "clips")]) == 2
    assert "one clip takes more memory than there is" in capsys.readouterr().err
    assert not (tmp_path / "clips").exists()


def test_a_clip_is_made_again_from_what_its_file_says(run: list[str], tmp_path: Path):
    (tmp_path / "p.csv").write_text('prompt,seed\n"a, ""b""",9\nc,\n')
    line = [*run, "--prompts", str(tmp_path / "p.csv"), "--steps", "3", "--guidance", "2", "--negative", "z"]
    assert run_command(sample, [*line, "--out", str(tmp_path / "one")]) == 0
    told = read_metadata(tmp_path / "one/000009.mp4")
    name, *again = shlex.split(told["command"])
    assert name == "sample.py"
    assert run_command(sample, [*again, "--out", str(tmp_path / "two")]) == 0
    first, second = (open_video(tmp_path / out / "000009.mp4").read(0, 5) for out in ("one", "two"))
    assert torch.equal(first, second)
    kept = settings(tmp_path / "one")
    clip = kept["clips"][0]
    assert (clip["prompt"], clip["seed"]) == (told["prompt"], int(told["seed"]))
    for name, value in kept["sampling"].items():
        assert told[name] == str(value)
    for name in ("run", "model", "weights", "precision", "device", "batch"):
        assert told[name] == str(kept[name])
    assert json.loads(told["versions"]) == kept["versions"]
    assert kept["clips"][1]["seed"] == 1


def test_what_clips_do_not_show_is_said_three_times_whenever_it_is_so(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(LetterText, "max_tokens", 9)
    monkeypatch.setattr(LetterText, "cut", lambda _, prompts: [prompt[9:] for prompt in prompts])
    long = 'the prompt is cut: it is longer than the 9 tokens that the model reads, and without "blue cube"'
    negative = (
        'the negative prompt is cut: it is longer than the 9 tokens that the model reads, and without "words"'
    )
    line = [*run, "--prompt", "a red or blue cube", "--prompt", "b", "--negative", "very bad words"]
    for call in ("", "_2"):  # the second time out of what was kept
        assert run_command(sample, [*line, "--out", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert f"note: seed 0: {long}" in said
        assert f"note: {negative}" in said
        kept = settings(tmp_path, f"settings{call}.json")
        assert kept["notes"] == [negative]
        assert [clip.get("notes") for clip in kept["clips"]] == [[long], None]
        for seed, notes in ((0, [negative, long]), (1, [negative])):
            told = read_metadata(tmp_path / f"{seed:06d}{call}.mp4")
            assert json.loads(told["notes"]) == notes


def test_as_many_clips_as_fit_are_sampled_at_once(
    run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    solved: list[int] = []
    made: Callable[..., Any] = windows.window_clips

    def watched(sampler: Any, parts: Any, prompts: Any, *asked: Any) -> Any:
        solved.append(len(prompts))
        return made(sampler, parts, prompts, *asked)

    monkeypatch.setattr(windows, "window_clips", watched)
    line = [*run, *PROMPTS, "--frames", "9", "--size", "64x64", "--out"]
    assert run_command(sample, [*line, str(tmp_path / "a")]) == 0
    monkeypatch.setattr("vdit.commands.sample_call.free_memory", lambda _: 0)
    assert run_command(sample, [*line, str(tmp_path / "b")]) == 0
    assert run_command(sample, [*line, str(tmp_path / "c"), "--batch", "2"]) == 0
    assert solved == [3, 1, 1, 1, 2, 1]
    assert [settings(tmp_path / name)["batch"] for name in "abc"] == [3, 1, 2]
