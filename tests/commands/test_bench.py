import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vdit.commands.bench import main as bench
from vdit.commands.step_race import StepRace
from vdit.config import build_run, parse_run
from vdit.parallel.engine import Engine
from vdit.train import loop
from vdit.train.state import StepRecord
from vdit.types import InputError


def test_a_step_is_measured_without_codec_or_text_model(tiny_runs, capsys: pytest.CaptureFixture[str]):
    assert bench(["step", "--config", str(tiny_runs.video_config), "--pairs", "3"]) == 0
    printed = capsys.readouterr().out
    assert "latents 4x16x2x4x4, cpu" in printed
    found = re.search(r"ratio ([\d.]+) \(95% ([\d.]+) to ([\d.]+), 3 pairs\)", printed)
    assert found
    ratio, low, high = map(float, found.groups())
    assert 0 < low <= ratio <= high


def test_both_ways_train_the_same_weights_and_only_the_loop_averages_them(tiny_runs):
    run = build_run(parse_run(["--config", str(tiny_runs.video_config)], ""))
    with StepRace(run) as race:
        weight = race.denoiser.backbone.get_parameter("patch_out.weight")

        def snapshot() -> tuple[torch.Tensor, torch.Tensor]:
            return weight.detach().clone(), race.state.ema.average["backbone.patch_out.weight"].clone()

        start = snapshot()
        race.bare()
        after_bare = snapshot()
        assert not torch.equal(after_bare[0], start[0])
        assert torch.equal(after_bare[1], start[1])
        race.run(2)
        after_turns = snapshot()
        assert race.state.step == race.turn + 2 * race.pair
        assert not torch.equal(after_turns[0], after_bare[0])
        assert not torch.equal(after_turns[1], after_bare[1])


class Ticks:
    """A clock that an optimiser step of the loop moves by 3 seconds, and a bare one by 2."""

    def __init__(self, race: StepRace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.taken, self.averaged = 0.0, "", []
        step, optimise, update = race.optimizer.step, loop.optimise, race.state.ema.update
        bare = race.bare
        self._kind = ""

        def stepped(*args: object) -> object:
            self.now += {"L": 3, "B": 2}[self._kind]
            self.taken += self._kind
            return step(*args)

        def optimised(*args: Any) -> StepRecord:
            self._kind = "L"
            return optimise(*args)

        def taken_bare(steps: int = 1) -> None:
            self._kind = "B"
            bare(steps)

        def averaged(step: int) -> None:
            before = race.state.ema.average["backbone.patch_out.weight"].clone()
            update(step)
            self.averaged.append(not torch.equal(before, race.state.ema.average["backbone.patch_out.weight"]))

        monkeypatch.setattr(race.optimizer, "step", stepped)
        monkeypatch.setattr(loop, "optimise", optimised)
        monkeypatch.setattr(race, "bare", taken_bare)
        monkeypatch.setattr(race.state.ema, "update", averaged)

    def __call__(self) -> float:
        return self.now


def test_steps_of_one_loop_and_bare_ones_alternate(tiny_runs, monkeypatch: pytest.MonkeyPatch):
    options = ["--config", str(tiny_runs.video_config), "--loop.steps", "30", "--loop.ema_every", "4"]
    told = []
    with StepRace(build_run(parse_run(options, ""))) as race:
        assert (race.turn, race.pair) == (1, 4)
        clock = Ticks(race, monkeypatch)
        measured = race.run(3, lambda done, total: told.append((done, total)), clock)
    assert clock.taken == "BL" + 6 * "LBBL"
    assert (measured.full, measured.bare) == ((12.0,) * 3, (8.0,) * 3)
    assert measured.ratio == 1.5
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert clock.averaged == [*3 * [False, False, False, True], False]  # once a pair


def test_where_the_host_runs_ahead_a_turn_is_a_pair_of_ten_steps_and_whole_averages(tiny_runs, monkeypatch):
    options = ["--config", str(tiny_runs.video_config), "--loop.steps", "30", "--loop.ema_every", "4"]
    monkeypatch.setattr(Engine, "runs_ahead", True)
    told = []
    with StepRace(build_run(parse_run(options, ""))) as race:
        assert (race.turn, race.pair) == (12, 12)
        clock = Ticks(race, monkeypatch)
        measured = race.run(2, lambda done, total: told.append((done, total)), clock)
    turns = [clock.taken[first : first + 12] for first in range(0, len(clock.taken), 12)]
    assert turns == [12 * kind for kind in "BLLBBL"]
    assert (measured.full, measured.bare) == ((36.0,) * 2, (24.0,) * 2)
    assert told == [(1, 2), (2, 2)]
    assert clock.averaged == 9 * [False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pairs", "1"], "--pairs is 1, but must be at least 2"),
        (["--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_options_that_cannot_be_used_are_refused(arguments: list[str], told: str):
    with pytest.raises(InputError, match=told):
        bench(["step", *arguments])


def test_a_codec_configuration_is_refused(tiny_runs):
    with pytest.raises(InputError, match="trains a codec"):
        bench(["step", "--config", str(tiny_runs.codec_config)])


def test_saves_are_timed_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench(["save", "--mb", "40", "--pairs", "2", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = re.search(
        r"of (\d+) MB, cpu, 2 pairs: training waits ([\d.]+) ms .* and ([\d.]+) ms .* after ([\d.]+)", printed
    )
    assert found
    size, blocked, waited, whole = map(float, found.groups())
    assert 25 < size <= 40
    assert waited > 0
    assert 0 < blocked <= whole
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_wan_codec_is_raced_against_diffusers(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("diffusers")
    assert bench(["codec", "--size", "tiny", "--pairs", "2"]) == 0
    printed = capsys.readouterr().out
    for what in ("decode", "encode"):
        found = re.search(what + r" tiny .* ([\d.]+) times as fast \(([\d.]+) to ([\d.]+)\)", printed)
        assert found
        ratio, low, high = map(float, found.groups())
        assert 0 < low <= ratio <= high


def test_a_race_needs_its_opponent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"compares with diffusers: pip install 'vdit-video\[oracle\]'"):
        bench(["codec"])
