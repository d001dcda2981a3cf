import errno
import json
import os
import resource
import shutil
import signal
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from threading import Event, Thread, Timer
from typing import Any

import pytest
import torch

from vdit.train.checkpoint import Checkpoint, Checkpoints, Stuck
from vdit.train.saving import Writers
from vdit.train.snapshot import Snapshot
from vdit.train.state import TrainState
from vdit.types import InputError
from vdit.weights.files import DiskError

FILES = [
    "ema.safetensors",
    "manifest.json",
    "model.safetensors",
    "optimizer.json",
    "optimizer.safetensors",
    "progress.json",
]


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the program catches."""


def advance(state: TrainState, steps: int = 1) -> TrainState:
    """Some training: weights, moments, average and counters all move."""
    for _ in range(steps):
        state.module(torch.randn(3, 4)).square().mean().backward()
        state.stepper.optimizer.step()
        state.stepper.optimizer.zero_grad()
        state.ema.update(state.step)
        state.step += 1
        state.seconds += 0.5
        state.position = {"epoch": 1, "batch_in_epoch": state.step}
    return state


def put_back(checkpoint: Checkpoint, state: TrainState) -> None:
    checkpoint.verify()
    checkpoint.load(state.module)
    checkpoint.restore(state)


def saved(checkpoints: Checkpoints, state: TrainState) -> None:
    """A save, to its end."""
    checkpoints.save(state)
    checkpoints.wait()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_brings_everything_back(new_state, snapshot, tmp_path: Path):
    state, checkpoints = advance(new_state(), 3), Checkpoints(tmp_path, keep=2)
    checkpoints.save(state)
    saved, moved = snapshot(state), snapshot(advance(state))
    assert not equal(saved, moved)
    other = new_state()
    latest = checkpoints.latest()
    assert latest is not None
    put_back(latest, other)
    assert equal(snapshot(other), saved)
    assert (other.step, other.seconds) == (3, 1.5)
    assert other.position == {"epoch": 1, "batch_in_epoch": 3}
    torch.manual_seed(7)
    there = snapshot(advance(other))
    put_back(latest, state)
    torch.manual_seed(7)
    assert equal(snapshot(advance(state)), there)
    assert sorted(file.name for file in latest.path.iterdir()) == FILES


def test_no_checkpoint_is_none(tmp_path: Path):
    assert Checkpoints(tmp_path / "absent", keep=1).latest() is None


def test_only_the_newest_are_kept(new_state, tmp_path: Path):
    state, checkpoints = new_state(), Checkpoints(tmp_path, keep=2)
    for _ in range(4):
        checkpoints.save(advance(state))
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000003", "step_00000004"]


def test_of_older_ones_some_stay(new_state, tmp_path: Path):
    state, checkpoints = new_state(), Checkpoints(tmp_path, keep=1, keep_every=3)
    for _ in range(8):
        checkpoints.save(advance(state))
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [3, 6, 8]


def test_processes_that_do_not_write_only_read(new_state, tmp_path: Path):
    Checkpoints(tmp_path, keep=1, writes=False).save(advance(new_state()))
    assert list(tmp_path.iterdir()) == []


OPERATIONS = [
    "os.ftruncate",
    "os.pwrite",
    "os.fsync",
    "vdit.train.saving.sync",
    "vdit.train.manifest.sync",
    "vdit.train.manifest.digest",
    "shutil.rmtree",
    "pathlib.Path.mkdir",
    "pathlib.Path.write_text",
    "pathlib.Path.rename",
]


def killed_at(number: int, after: bool, save, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run `save`, killed before or after its `number`-th operation on the disk; false if there are fewer."""
    count = 0

    def wrapped(operation):
        def run(*arguments, **options):
            nonlocal count
            count += 1
            mine = count == number  # one operation may be made of others
            if mine and not after:
                raise Killed
            result = operation(*arguments, **options)
            if mine:
                raise Killed
            return result

        return run

    with monkeypatch.context() as patched:
        for name in OPERATIONS:
            patched.setattr(name, wrapped(resolve_name(name)))
        try:
            save()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_moment_there_is_a_whole_checkpoint(
    new_state, snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, background: bool
):
    """Also between the copy and the first byte, and between the manifest and the new name."""
    number, steps_found = 0, []
    while True:
        number += 1
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        torch.manual_seed(0)
        state, checkpoints = advance(new_state(), 1), Checkpoints(tmp_path, keep=1, background=background)
        checkpoints.save(state)
        checkpoints.wait()
        old = snapshot(state)
        new = snapshot(advance(state))
        killed = killed_at(number, after, lambda c=checkpoints, s=state: saved(c, s), monkeypatch)
        latest = Checkpoints(tmp_path, keep=1).latest()
        assert latest is not None, f"operation {number}"
        other = new_state()
        put_back(latest, other)
        assert equal(snapshot(other), old if latest.step == 1 else new), f"operation {number}"
        steps_found.append(latest.step)
        checkpoints = Checkpoints(tmp_path, keep=1, background=background)
        saved(checkpoints, state)  # the run goes on, and the next save sweeps up
        saved(checkpoints, advance(state))
        assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]
        if not killed:
            break
    assert number > 50  # every tensor is written, every file digested and flushed
    assert steps_found == sorted(steps_found)  # one moment divides old from new
    assert {1, 2} == set(steps_found)


def test_remains_of_a_killed_save_are_swept_up(new_state, tmp_path: Path):
    (tmp_path / ".writing_step_00000007").mkdir(parents=True)
    (tmp_path / "step_00000009").mkdir()  # no manifest: not a checkpoint
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    checkpoints.save(advance(new_state()))
    assert not (tmp_path / ".writing_step_00000007").exists()
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [1]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_found_and_named(new_state, tmp_path: Path, name: str, damage: str):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(advance(new_state()))
    latest = checkpoints.latest()
    assert latest is not None
    file = latest.path / name
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0x40
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-3])
    else:
        file.unlink()
    # A manifest that can still be read blames the file that it describes wrongly.
    named = r"(\.json|safetensors)" if name == "manifest.json" else name
    with pytest.raises(InputError, match=rf"{named} is damaged.*delete .*step_00000001 to fall back"):
        put_back(latest, new_state())


@pytest.mark.parametrize("name", ["manifest.json", "optimizer.safetensors"])
def test_what_cannot_be_read_is_not_called_damaged(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(advance(new_state()))
    latest = checkpoints.latest()
    assert latest is not None
    stale, opened, read = OSError(errno.ESTALE, "Stale file handle"), os.open, Path.read_text

    def unless_stale(path: Path, *rest: Any, how: Any, **options: Any) -> Any:
        if Path(path).name == name:
            raise stale
        return how(path, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", partial(unless_stale, how=opened))
        patched.setattr(Path, "read_text", lambda path: unless_stale(path, how=read))
        with pytest.raises(DiskError, match=r"may be whole: rank 0 cannot read it: .*Stale file handle"):
            latest.verify()
    latest.verify()


def test_falling_back_means_deleting_the_damaged_one(new_state, snapshot, tmp_path: Path):
    state, checkpoints = advance(new_state()), Checkpoints(tmp_path, keep=2)
    checkpoints.save(state)
    first = snapshot(state)
    checkpoints.save(advance(state))
    shutil.rmtree(tmp_path / "step_00000002")
    latest, other = checkpoints.latest(), new_state()
    assert latest is not None
    put_back(latest, other)
    assert equal(snapshot(other), first)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    "operation",
    [
        "os.ftruncate",
        "os.pwrite",
        "os.fsync",
        "vdit.train.manifest.sync",
        "vdit.train.manifest.digest",
    ],
)
def test_a_full_disk_is_a_sentence_and_harms_nothing(
    new_state, snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, background: bool
):
    state, checkpoints = advance(new_state()), Checkpoints(tmp_path, keep=1, background=background)
    saved(checkpoints, state)
    before = snapshot(state)
    advance(state)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(operation, full)
        with pytest.raises(InputError, match=r"the disk is full: \d+ MiB left .*No checkpoint was harmed"):
            saved(checkpoints, state)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    latest, other = checkpoints.latest(), new_state()
    assert latest is not None
    put_back(latest, other)
    assert equal(snapshot(other), before)
    saved(checkpoints, state)
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [2]


def test_an_old_checkpoint_that_cannot_be_removed_ends_nothing(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints, state = Checkpoints(tmp_path, keep=1), new_state()
    checkpoints.save(advance(state))
    rename = Path.rename

    def stale(path: Path, to: Path) -> Path:
        if path.name == "step_00000001":
            raise OSError(errno.ESTALE, "Stale file handle")
        return rename(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stale)
        with pytest.warns(UserWarning, match="old checkpoint could not be removed: .*Stale file handle"):
            checkpoints.save(advance(state))
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [1, 2]
    checkpoints.save(advance(state))
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [3]


@pytest.mark.parametrize("limit", [300, 1000, 1300])
def test_files_the_system_cuts_short_are_a_sentence(new_state, tmp_path: Path, limit: int):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state := advance(new_state()))
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "step_00000001").iterdir()}
    assert sizes["optimizer.safetensors"] > 1300  # the largest: it alone meets the highest limit
    assert sizes["model.safetensors"] < 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=r"could not be written to: .*No checkpoint was harmed"):
            checkpoints.save(advance(state))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_the_manifest_states_every_file(new_state, tmp_path: Path):
    Checkpoints(tmp_path, keep=1).save(advance(new_state()))
    manifest = json.loads((tmp_path / "step_00000001/manifest.json").read_text())
    assert manifest["step"] == 1
    assert sorted(manifest["files"]) == sorted(set(FILES) - {"manifest.json"})


def restored(checkpoint: Checkpoint | None, new_state, snapshot) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    put_back(checkpoint, other := new_state())
    return snapshot(other)


def test_training_goes_on_while_what_was_there_is_written(
    new_state, snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The thread is held before its first byte; the weights, moments and averages that it writes move on."""
    checkpoints, go = Checkpoints(tmp_path, keep=1, background=True), Event()
    state = advance(new_state())
    before = snapshot(state)
    monkeypatch.setattr("vdit.train.saving.sweep", lambda *_: go.wait(20))
    checkpoints.save(state)
    checkpoints.settle()
    moved = snapshot(advance(state, 2))
    assert not any(torch.equal(moved[name], before[name]) for name in before)
    assert checkpoints.all() == []
    go.set()
    checkpoints.wait()
    assert equal(restored(checkpoints.latest(), new_state, snapshot), before)
    assert checkpoints.all()[0].step == 1


def test_the_state_may_change_once_it_is_copied(
    new_state, snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints, go, state = Checkpoints(tmp_path, keep=1, background=True), Event(), advance(new_state())
    before, copy = snapshot(state), Snapshot.fill
    monkeypatch.setattr(Snapshot, "fill", lambda self: go.wait(20) and copy(self))
    checkpoints.save(state)
    free = Thread(target=checkpoints.settle)
    free.start()
    free.join(0.3)
    assert free.is_alive()
    go.set()
    free.join(20)
    advance(state)
    checkpoints.wait()
    assert equal(restored(checkpoints.latest(), new_state, snapshot), before)


def test_two_saves_in_a_row_are_both_right_and_share_their_memory(
    new_state, snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second copies nothing before the first is on the disk. Blocks are so small that slices are cut."""
    monkeypatch.setattr("vdit.train.snapshot.BLOCK", 40)
    checkpoints, state = Checkpoints(tmp_path, keep=9, background=True), new_state()
    expected, blocks = [], set()
    for _ in range(4):
        checkpoints.save(advance(state))
        expected.append(snapshot(state))
        checkpoints.settle()
        blocks.add(tuple(block.data_ptr() for block in checkpoints._snapshot._blocks))
    checkpoints.wait()
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [1, 2, 3, 4]
    assert len(blocks) == 1
    assert len(next(iter(blocks))) > 10
    for checkpoint, there in zip(checkpoints.all(), expected, strict=True):
        assert equal(restored(checkpoint, new_state, snapshot), there)


def test_what_a_background_save_met_is_told_at_the_next_one(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints, state = Checkpoints(tmp_path, keep=1, background=True), advance(new_state())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        checkpoints.save(state)
        with pytest.raises(InputError, match=r"the disk is full: .*No checkpoint was harmed"):
            checkpoints.save(advance(state))
    assert list(tmp_path.iterdir()) == []
    saved(checkpoints, state)
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [2]


@pytest.mark.parametrize("leaves", [None, ValueError, KeyboardInterrupt])
def test_leaving_waits_for_a_save_unless_it_is_interrupted(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: type[BaseException] | None
):
    checkpoints, go = Checkpoints(tmp_path, keep=1, background=True), Event()
    monkeypatch.setattr(
        "vdit.train.saving.sweep", lambda *_: go.wait(0.2 if leaves in (None, ValueError) else 20)
    )
    with nullcontext() if leaves is None else pytest.raises(leaves), checkpoints:
        checkpoints.save(advance(new_state()))
        if leaves is not None:
            raise leaves
    assert len(checkpoints.all()) == (leaves is not KeyboardInterrupt)
    go.set()
    checkpoints.wait()


def test_an_old_checkpoint_is_forgotten_as_a_whole(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A kill between its files leaves none that looks like a damaged one."""
    checkpoints, state = Checkpoints(tmp_path, keep=1), new_state()
    checkpoints.save(advance(state))

    def half(folder: Path, **_: object) -> None:
        if (file := folder / "model.safetensors").is_file():
            file.unlink()
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("vdit.train.checkpoint.shutil.rmtree", half)
        with pytest.raises(Killed):
            checkpoints.save(advance(state))
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [2]
    checkpoints.save(advance(state))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]


def test_a_checkpoint_of_an_earlier_version_is_refused_for_training(new_state, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(advance(new_state()))
    latest = checkpoints.latest()
    assert latest is not None
    latest.require_state()
    (latest.path / "optimizer.json").rename(latest.path / "optimizer.pt")
    with pytest.raises(
        InputError, match=r"step_00000001 has its optimiser in optimizer.pt, as earlier versions"
    ):
        latest.require_state()


@pytest.fixture
def heard() -> Iterator[None]:
    """Interrupts, which a shell has what it starts in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_save_that_training_waits_for_is_given_up_when_interrupted(
    new_state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What ends a run may put other weights in place, and the thread reads those that are there."""
    checkpoints, go = Checkpoints(tmp_path, keep=1), Event()
    monkeypatch.setattr("vdit.train.saving.sweep", lambda *_: go.wait(20))
    Timer(0.2, interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(advance(new_state()))
    go.set()
    with pytest.raises(InputError, match="step_00000001 was given up when the process was interrupted"):
        checkpoints.wait()
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_wrote_is_waited_for(new_state, tmp_path: Path):
    """As on a shared disk, which shows an older state for a while; without end, it is another disk."""
    here, there = Checkpoints(tmp_path / "here", keep=1), Checkpoints(tmp_path / "there", keep=1)
    there.save(advance(new_state(), 3))
    later = Timer(0.5, lambda: there.folder.rename(here.folder))
    later.start()
    assert here.seen(3) == Checkpoint(here.folder / "step_00000003", 3)
    later.join()
    with pytest.raises(InputError, match=r"does not see .*step_00000004, which rank 0 goes on from"):
        here.seen(4, patience=0)


def test_a_disk_that_does_not_answer_is_not_waited_for(new_state, tmp_path: Path, monkeypatch):
    answers = Event()
    monkeypatch.setattr("os.fsync", lambda file: answers.wait())
    checkpoints = Checkpoints(tmp_path, keep=1, writers=Writers(patience=0.1), background=True)
    checkpoints.save(advance(new_state(), 3))
    with pytest.raises(Stuck, match="step_00000003 does not end: rank 0 still writes its part"):
        checkpoints.wait()
    checkpoints.wait()  # what nobody can end is forgotten
    answers.set()


def test_an_error_is_told_while_a_disk_does_not_answer(new_state, tmp_path: Path, monkeypatch):
    answers = Event()
    monkeypatch.setattr("os.fsync", lambda file: answers.wait())

    def work() -> None:
        with Checkpoints(tmp_path, 1, writers=Writers(patience=0.1), background=True) as checkpoints:
            checkpoints.save(advance(new_state(), 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    answers.set()
