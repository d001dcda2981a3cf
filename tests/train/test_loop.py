import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vdit.draws import Draws
from vdit.parallel.mesh import Mesh
from vdit.train.checkpoint import Checkpoints, Stuck
from vdit.train.finite import FiniteWatch, NonFinite
from vdit.train.hooks.hook import Hook, due
from vdit.train.loop import Loop, fit, optimise
from vdit.train.optim import Optim, learning_rate
from vdit.train.requests import Requests, Wanted
from vdit.train.snapshot import Snapshot
from vdit.train.state import StepRecord, TrainState, step_draws
from vdit.train.step import StepOutput
from vdit.types import InputError

OPTIM = Optim(lr=0.05, warmup_steps=2)


class Watch(Hook):
    """Writes down when it is called."""

    def __init__(self, then: Callable[[int], None] = lambda step: None) -> None:
        self.calls: list[str] = []
        self.records: list[StepRecord] = []
        self.then = then

    def start(self, state: TrainState) -> None:
        self.calls.append(f"start {state.step}")

    def after_step(self, state: TrainState, record: StepRecord) -> None:
        self.calls.append(f"step {state.step}")
        self.records.append(record)
        self.then(state.step)

    def finish(self, state: TrainState) -> None:
        self.calls.append(f"finish {state.step}")


def test_a_session_calls_hooks_saves_and_learns(engine, loader, step, new_state, tmp_path: Path):
    watch, state, checkpoints = Watch(), new_state(), Checkpoints(tmp_path, keep=9)
    loop = Loop(steps=25, batch=4, save_every=10)
    with loader(4) as batches:
        left = fit(state, step, batches, engine, checkpoints, [watch], loop, OPTIM, seed=0)
        assert state.position == batches.state_dict()
    assert left is None
    assert watch.calls == ["start 0", *(f"step {i}" for i in range(1, 26)), "finish 25"]
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [10, 20, 25]
    assert [record.rate for record in watch.records] == [learning_rate(OPTIM, i, 25) for i in range(25)]
    assert watch.records[-1].loss < 0.5 * watch.records[0].loss
    assert all(record.clips == 4 for record in watch.records)


def test_the_watchdog_looks_away_while_a_hook_measures_and_never_else(
    engine, loader, step, new_state, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A hook that only writes waits for what the device has not done yet: a hang would show there."""

    class Measures(Watch):
        lengthy = True

    places: list[tuple[str, bool]] = []

    def at(step: int, what: str, watched: bool = True) -> None:
        places.append((what, watched))

    monkeypatch.setattr(engine.watchdog, "at", at)
    seen: dict[str, tuple[str, bool]] = {}
    measures = Measures(then=lambda _: seen.update(measures=places[-1]))
    writes = Watch(then=lambda _: seen.update(writes=places[-1]))
    with loader(4) as batches:
        loop, checkpoints = Loop(steps=1, batch=4), Checkpoints(tmp_path, keep=1)
        fit(new_state(), step, batches, engine, checkpoints, [measures, writes], loop, OPTIM, 0)
    assert seen == {"measures": ("measuring or drawing", False), "writes": ("writing what steps found", True)}
    assert [what for what, watched in places if not watched] == ["measuring or drawing", "saving"]


def test_a_disk_that_does_not_answer_is_not_written_to_once_more(
    engine, loader, step, new_state, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def stands(*_: object) -> None:
        raise Stuck("it does not answer")

    watch, checkpoints = Watch(), Checkpoints(tmp_path, keep=1)
    monkeypatch.setattr(checkpoints, "save", stands)
    with loader(4) as batches, pytest.raises(Stuck):
        fit(new_state(), step, batches, engine, checkpoints, [watch], Loop(steps=1, batch=4), OPTIM, 0)
    assert watch.calls == ["start 0", "step 1"]


def test_a_finished_run_does_nothing(engine, loader, step, new_state, snapshot, tmp_path: Path):
    state = new_state()
    state.step = 5
    before = snapshot(state)
    with loader(4) as batches:
        loop = Loop(steps=5, batch=4)
        fit(state, step, batches, engine, Checkpoints(tmp_path, 1), [], loop, OPTIM, 0)
    assert all(torch.equal(before[name], value) for name, value in snapshot(state).items())


@pytest.mark.parametrize(("batch", "accumulate"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    engine, loader, step, new_state, batch: int, accumulate: int
):
    """By plain gradient descent with rate 1, so that the weights moved by the gradient itself."""
    moved = {}
    for size, micro in ((8, 1), (batch, accumulate)):
        state = new_state(lr=1.0, optimizer="SGD", limit=1e6)
        before = [p.detach().clone() for p in state.module.parameters()]
        with loader(size) as batches:
            loop = Loop(steps=1, batch=size, accumulate=micro)
            record = optimise(
                state, step, batches, engine, Checkpoints(Path(), 1), loop, 0, FiniteWatch(engine)
            )
        gradients = [a - p.detach() for a, p in zip(before, state.module.parameters(), strict=True)]
        moved[size, micro] = [*gradients, record.loss, record.gradient_norm]
        assert record.clips == 8
    for whole, parts in zip(moved[8, 1], moved[batch, accumulate], strict=True):
        assert whole.abs().max() > 1e-3
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_metrics_of_a_step_are_means_over_its_micro_batches(engine, loader, step, new_state):
    with loader(2) as batches:
        apart = [
            step(new_state().stepper.module, next(batches), Draws(0)).metrics["largest"] for _ in range(2)
        ]
    state = new_state()
    with loader(2) as batches:
        loop = Loop(steps=1, batch=2, accumulate=2)
        record = optimise(state, step, batches, engine, Checkpoints(Path(), 1), loop, 0, FiniteWatch(engine))
    assert apart[0] != apart[1]
    torch.testing.assert_close(record.metrics["largest"], sum(apart) / 2)


def test_gradients_are_clipped_to_the_limit(engine, loader, step, new_state):
    state = new_state(lr=1.0, optimizer="SGD", limit=0.01)
    before = torch.nn.utils.parameters_to_vector(state.module.parameters()).detach().clone()
    with loader(8) as batches:
        loop = Loop(steps=1)
        record = optimise(state, step, batches, engine, Checkpoints(Path(), 1), loop, 0, FiniteWatch(engine))
    after = torch.nn.utils.parameters_to_vector(state.module.parameters()).detach()
    assert record.gradient_norm > 0.1
    assert (before - after).norm().item() == pytest.approx(0.01, rel=1e-3)


def assert_stopped_before_the_step(state, step, batches, engine, snapshot, says: str, tmp_path: Path) -> str:
    watch, checkpoints = Watch(), Checkpoints(tmp_path, keep=1)
    before: list[dict] = []

    def watched(module: nn.Module, batch, draws, done) -> StepOutput:
        before[:] = [snapshot(state)]
        return step(module, batch, draws, done)

    loop = Loop(steps=8, batch=4)
    with pytest.raises(NonFinite, match=says) as stopped:
        fit(state, watched, batches, engine, checkpoints, [watch], loop, OPTIM, 0)
    after = snapshot(state)
    assert before[0].keys() == after.keys()
    assert all(torch.equal(before[0][name], after[name]) for name in after)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert watch.calls[-1] == f"finish {state.step}"
    assert checkpoints.all() == []
    return str(stopped.value)


def test_a_loss_that_is_not_a_number_stops_before_the_step_and_names_the_clips(
    engine, loader, step, new_state, snapshot, tmp_path: Path
):
    state = new_state()
    with loader(4, wrong=[5, 11]) as batches:
        said = assert_stopped_before_the_step(
            state, step, batches, engine, snapshot, "non-finite loss or gradient at step", tmp_path
        )
    blamed = said.partition("clips with a non-finite loss: ")[2].partition(";")[0].split(", ")
    assert set(blamed) <= {"clip-5", "clip-11"}
    assert blamed != [""]
    batch = said.partition("clips of the batch: ")[2].partition(". The weights")[0].split(", ")
    assert len(batch) == 4
    assert set(blamed) < set(batch)
    assert f"The weights are those of step {state.step}" in said


def test_a_gradient_that_is_not_a_number_stops_as_well(engine, loader, new_state, snapshot, tmp_path: Path):
    def flat(module: nn.Module, batch, draws, done) -> StepOutput:
        return StepOutput((module(batch.latents.flatten(1)) * 0).abs().sum(1).sqrt())  # sqrt' at 0

    with loader(4) as batches:
        says = "every loss is finite, the gradient is not"
        state = new_state()
        said = assert_stopped_before_the_step(state, flat, batches, engine, snapshot, says, tmp_path)
    assert said.count("clip-") == 4


@pytest.mark.parametrize("background", [False, True])
def test_a_signal_ends_the_step_saves_and_leaves(
    engine, loader, step, new_state, snapshot, tmp_path: Path, background: bool
):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    watch = Watch(then=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 3 else None)
    state, checkpoints = new_state(), Checkpoints(tmp_path, keep=1, background=background)
    with loader(4) as batches:
        loop = Loop(steps=9, batch=4)
        left = fit(state, step, batches, engine, checkpoints, [watch], loop, OPTIM, 0)
    assert left == "SIGTERM"
    assert watch.calls[-2:] == ["step 3", "finish 3"]
    latest, other = checkpoints.latest(), new_state()
    assert latest is not None
    latest.load(other.module)
    latest.restore(other)
    assert all(torch.equal(value, snapshot(state)[name]) for name, value in snapshot(other).items())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_no_step_changes_what_is_still_being_copied(
    engine, loader, step, new_state, snapshot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Every copy takes longer than a step."""
    there, copy = {}, Snapshot.fill
    monkeypatch.setattr(Snapshot, "fill", lambda self: time.sleep(0.1) or copy(self))
    state, checkpoints = new_state(), Checkpoints(tmp_path, keep=9, background=True)
    watch = Watch(then=lambda done: there.update({done: snapshot(state)}))
    with loader(4) as batches:
        fit(
            state, step, batches, engine, checkpoints, [watch], Loop(steps=3, batch=4, save_every=1), OPTIM, 0
        )
    for checkpoint in checkpoints.all():
        other = new_state()
        checkpoint.load(other.module)
        checkpoint.restore(other)
        found = snapshot(other)
        assert all(torch.equal(value, found[name]) for name, value in there.pop(checkpoint.step).items())
    assert there == {}


@pytest.mark.parametrize(("name", "left", "saved"), [("stop", "the file stop", [3]), ("save", None, [3, 9])])
def test_a_file_asks_to_save_or_to_stop(
    engine,
    loader,
    step,
    new_state,
    monkeypatch,
    tmp_path: Path,
    name: str,
    left: str | None,
    saved: list[int],
):
    monkeypatch.setattr("vdit.train.requests.LOOK_EVERY", 0.0)
    watch = Watch(then=lambda done: (tmp_path / name).touch() if done == 3 else None)
    state, checkpoints = new_state(), Checkpoints(tmp_path / "checkpoints", keep=9)
    with loader(4) as batches:
        loop = Loop(steps=9, batch=4, save_every=0)
        assert fit(state, step, batches, engine, checkpoints, [watch], loop, OPTIM, 0) == left
    assert [checkpoint.step for checkpoint in checkpoints.all()] == saved
    assert not (tmp_path / name).exists()


def test_files_are_looked_for_once_a_second_by_who_looks(tmp_path: Path):
    for looks, wanted in ((False, Wanted.NOTHING), (True, Wanted.SAVE)):
        (tmp_path / "save").touch()
        requests = Requests(tmp_path, looks)
        assert requests.wanted() == wanted
    (tmp_path / "save").touch()
    assert requests.wanted() == Wanted.NOTHING
    assert (tmp_path / "save").exists()


def test_a_second_interrupt_does_not_wait(tmp_path: Path):
    with Requests(tmp_path, looks=True) as requests:
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.reason == "SIGINT"
        assert requests.wanted() == Wanted.LEAVE
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_after_another_request_is_the_first(tmp_path: Path):
    (tmp_path / "stop").touch()
    with Requests(tmp_path, looks=True) as requests:
        assert requests.wanted() == Wanted.LEAVE
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.reason == "the file stop"


@pytest.mark.parametrize("background", [False, True])
def test_going_on_from_a_checkpoint_is_going_on(
    engine, loader, step, new_state, snapshot, tmp_path: Path, background: bool
):
    def session(steps: int, restore: bool) -> TrainState:
        state, checkpoints = new_state(), Checkpoints(tmp_path / "b", keep=1, background=background)
        with loader(3) as batches:
            if restore and (latest := checkpoints.latest()):
                latest.load(state.module)
                latest.restore(state)
                batches.load_state_dict(state.position)
            loop = Loop(steps=14, batch=3, save_every=5)
            watch = Watch(then=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == steps else None)
            saves = checkpoints if restore else Checkpoints(tmp_path / "a", keep=1)
            fit(state, step, batches, engine, saves, [watch], loop, OPTIM, seed=0)
        return state

    whole = snapshot(session(steps=99, restore=False))
    for steps in (4, 5, 11):
        assert session(steps, restore=True).step == steps
    parts = snapshot(session(steps=99, restore=True))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_randomness_is_a_function_of_seed_and_step_and_of_the_rank_beside_the_draws():
    def draw(seed: int, step: int, rank: int) -> tuple[float, float]:
        draws = step_draws(seed, step, Mesh(rank, 5, 1), torch.device("cpu"))
        return draws.uniform(1).item(), torch.rand(()).item()

    places = [(seed, step, rank) for seed in range(3) for step in range(40) for rank in range(5)]
    drawn = [draw(*place) for place in places]
    assert len(set(drawn)) == len(places)
    assert [draw(*place) for place in places] == drawn


@pytest.mark.parametrize(
    ("step", "every", "expected"), [(10, 5, True), (9, 5, False), (12, 5, True), (3, 0, False), (12, 0, True)]
)
def test_due(step: int, every: int, expected: bool):
    assert due(step, every, last=12) is expected


@pytest.mark.parametrize("name", ["steps", "batch", "accumulate", "keep"])
def test_counts_below_one_are_refused(name: str):
    with pytest.raises(InputError, match=rf"loop\.{name} is 0, but must be at least 1"):
        Loop(**({"steps": 1} | {name: 0}))  # pyright: ignore[reportArgumentType]


def test_a_kept_step_is_one_that_saves():
    with pytest.raises(InputError, match="keep_every is 1000, but must be a multiple of save_every, 300"):
        Loop(steps=3000, save_every=300, keep_every=1000)
    assert Loop(steps=3000, save_every=0, keep_every=1000).kept == 1


@pytest.mark.parametrize(
    ("steps", "save_every", "keep", "keep_every"),
    [(2000, 500, 2, 1000), (3000, 300, 2, 900), (2000, 100, 2, 200), (950, 100, 3, 0), (100, 60, 9, 60)],
)
def test_as_many_are_kept_as_are_foretold(
    new_state, tmp_path: Path, steps: int, save_every: int, keep: int, keep_every: int
):
    loop = Loop(steps=steps, save_every=save_every, keep=keep, keep_every=keep_every)
    checkpoints, state, saves = Checkpoints(tmp_path, keep, keep_every), new_state(), 0
    for state.step in range(1, steps + 1):
        if due(state.step, save_every, steps):
            checkpoints.save(state)
            saves += 1
    assert (loop.saves, loop.kept) == (saves, len(checkpoints.all()))


@pytest.mark.parametrize(
    ("ema", "steps", "given", "expected"),
    [
        (0.999, 100_000, None, 10),  # it remembers 1,000 steps
        (0.998, 15_000, None, 5),
        (0.9999, 2000, None, 20),  # a hundred updates in a run
        (0.99, 2000, None, 1),
        (0.5, 2000, None, 1),
        (0.0, 2000, None, 1),
        (0.999, 40, None, 1),
        (0.999, 40, 4, 4),
        (0.99, 2000, 7, 7),
    ],
)
def test_the_average_is_updated_a_hundred_times_in_what_it_remembers(
    ema: float, steps: int, given: int | None, expected: int
):
    assert Loop(steps=steps, ema=ema, ema_every=given).averages_every == expected
