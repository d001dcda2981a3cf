import io
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from vdit.eval.curves import read_rows
from vdit.parallel.engine import Engine
from vdit.train.checkpoint import Checkpoints
from vdit.train.hooks.health import ENOUGH, Health, leaps
from vdit.train.hooks.metrics import Journal
from vdit.train.loop import Loop, fit
from vdit.train.optim import Optim
from vdit.train.run_folder import RunFolder
from vdit.train.sessions import Sessions
from vdit.train.state import Own, StepRecord
from vdit.train.step import StepOutput
from vdit.train.stopwatch import Stopwatch

NOISE = [1 + 0.05 * random.Random(0).gauss(0, 1) for _ in range(200)]


def test_a_leap_stands_out_of_the_spread_of_the_losses_before():
    drawn = random.Random(1)
    usual = [1 + 0.05 * drawn.gauss(0, 1) for _ in range(500)]
    before = [1 + 0.05 * drawn.gauss(0, 1) for _ in range(200)]
    assert leaps(usual, before, 8.0) == [0.0] * 500
    assert leaps([1.0, 2.0, 0.1], before, 8.0) == [0.0, pytest.approx(20, rel=0.3), 0.0]
    assert leaps([2.0], [*before[:190], *[50.0] * 10], 8.0)[0] > 8  # earlier leaps do not hide it
    assert leaps([2.0], before, 0) == [0.0]
    assert leaps([2.0], before[: ENOUGH - 1], 8.0) == [0.0]


@pytest.fixture
def place(tmp_path: Path) -> SimpleNamespace:
    folder, out = RunFolder(tmp_path / "run"), io.StringIO()
    folder.claim("seed: 0\n")
    return SimpleNamespace(folder=folder, out=out, console=Console(file=out, width=300))


def health(place: SimpleNamespace, engine: Engine, every: int, steps: int) -> Health:
    journal = Journal(place.folder, 0)
    sessions = Sessions(place.folder.sessions, writes=True, began=time.time())
    return Health(engine, journal, place.console, place.folder.spikes, sessions, every, steps, 8.0)


def test_a_leap_is_written_down_with_its_clips_worst_first(
    place: SimpleNamespace, engine, loader, new_state, step
):
    """One clip of a step late in the run is a hundred times as far off as all others."""

    def leaping(module, batch, draws, done):
        output = step(module, batch, draws, done)
        far = torch.tensor([100.0 if done == 70 and name == batch.ids[2] else 1.0 for name in batch.ids])
        return StepOutput(1 + output.loss * 0.01 + (far - 1), output.metrics)

    loop, checkpoints = Loop(steps=75, batch=4), Checkpoints(place.folder.checkpoints, 1)
    with loader(4) as batches:
        hooks = [health(place, engine, 10, 75)]
        fit(new_state(), leaping, batches, engine, checkpoints, hooks, loop, Optim(), 0)
    (file,) = place.folder.spikes.iterdir()
    seen = json.loads(file.read_text())
    assert file.name == "step_00000071.json"
    assert seen["step"] == 71
    assert seen["loss"] == pytest.approx(1 + 99 / 4, rel=0.05)
    assert len(seen["clips"]) == 4
    losses = [clip["loss"] for clip in seen["clips"]]
    assert losses == [pytest.approx(100, rel=0.05), *[pytest.approx(1, rel=0.1)] * 3]
    assert len(seen["before"]) == 20
    assert max(seen["before"]) < 2
    assert "the loss leapt to" in place.out.getvalue()
    rows = [row for row in read_rows(place.folder.metrics) if row["kind"] == "health"]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60, 70, 75]
    assert all(0 < row["goodput"] <= 1 and row["forward_seconds"] > 0 for row in rows)
    (session,) = json.loads(place.folder.sessions.read_text())
    assert session["seen"] > session["began"]


class Four:
    """An engine of four ranks whose last one takes twice as long."""

    def __init__(self, engine: Engine) -> None:
        self.parallel, self.main, self.watchdog = engine.parallel, True, engine.watchdog
        self.mesh = SimpleNamespace(world=4)
        self.lag = 2.0

    def mean(self, value):
        return value

    def rows(self, values):
        return [[1.0, 0.1, 2**30], [1.1, 0.1, 3 * 2**30], [0.9, 0.5, 2**30], [self.lag, 0.1, 2**30]]

    def take_peak(self):
        return 2**30

    def gathered(self, said):
        return ["a", "b", "c", "d"]


def test_a_rank_that_lags_is_named_once(place: SimpleNamespace, engine, new_state):
    four = Four(engine)
    hook, state = health(place, four, 1, 99), new_state()  # pyright: ignore
    hook.start(state)
    one = torch.tensor(1.0)
    for step in range(1, 9):
        state.step = step
        four.lag = 1.0 if step == 2 else 2.0
        own = Own(("clip",), one[None], Stopwatch(engine.device), 0.0)
        hook.after_step(state, StepRecord(step, one, one, 0.1, 0.5, 8, {}, own))
    said = place.out.getvalue()
    assert said.count("is slow") == 1
    assert "step 5: rank 3 (d) is slow: 2 s for a forward pass that takes 1.05 s elsewhere" in said
    row = read_rows(place.folder.metrics)[-1]
    assert (row["slowest_rank"], row["forward_seconds_slowest"], row["wait_seconds_slowest"]) == (3, 2.0, 0.5)
    assert row["wait_seconds"] == pytest.approx(0.2)
    assert row["memory_gib_most"] == 3


def test_time_spent_counts_all_sessions_but_not_what_lies_between(tmp_path: Path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("vdit.train.sessions.time", SimpleNamespace(time=lambda: now))
    for began, seen in ((1000.0, 1060.0), (5000.0, 5030.0)):
        sessions = Sessions(tmp_path / "sessions.json", writes=True, began=began)
        now = began + 20  # what comes before the first step counts too
        sessions.begin(3, 2, "ddp")
        now = seen
        sessions.seen()
    assert sessions.spent() == 90
    assert [row["processes"] for row in json.loads((tmp_path / "sessions.json").read_text())] == [2, 2]
