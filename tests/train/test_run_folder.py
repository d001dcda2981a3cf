import errno
import json
from pathlib import Path

import pytest
import torch

from vdit.eval.curves import read_rows
from vdit.train.hooks.metrics import Journal, Metrics
from vdit.train.run_folder import RunFolder
from vdit.train.state import Own, StepRecord
from vdit.train.stopwatch import Stopwatch
from vdit.types import InputError
from vdit.weights.files import TRIAL

CONFIG = "out: runs/a\noptim:\n  lr: 0.001\nseed: 0\n"


def test_a_run_is_claimed_once_and_found_again(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.claim(CONFIG) is False
    assert folder.claim(CONFIG) is True
    assert folder.config.read_text() == CONFIG
    assert folder.require() is folder
    provenance = json.loads((folder.path / "provenance.json").read_text())
    assert provenance["torch"] == torch.__version__
    assert provenance["command"]
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "provenance.json"]


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG)
    with pytest.raises(InputError) as refused:
        folder.claim(CONFIG.replace("0.001", "0.002"))
    said = str(refused.value)
    assert "-  lr: 0.001" in said
    assert "+  lr: 0.002" in said
    assert "seed" not in said
    assert "another --out" in said
    assert folder.config.read_text() == CONFIG


def test_a_folder_is_checked_without_a_trace(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.check(CONFIG)
    assert not folder.path.exists()
    folder.claim(CONFIG)
    with pytest.raises(InputError, match="another configuration"):
        folder.check(CONFIG.replace("0.001", "0.002"))
    other = RunFolder(tmp_path)
    with pytest.raises(InputError, match="holds no run"):
        other.check(CONFIG)


def test_a_run_is_known_again_by_what_its_record_means_today(tmp_path: Path):
    """A setting that came later has its default in the record as it is told now."""
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG)
    later = CONFIG + "until: 0.0\n"
    with pytest.raises(InputError, match="another configuration"):
        folder.claim(later)
    assert folder.claim(later, recorded=later) is True
    with pytest.raises(InputError, match="another configuration"):
        folder.claim(later.replace("0.001", "0.002"), recorded=later)


def test_how_a_run_is_carried_out_may_change(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    carried = "loop:\n  steps: 9\n  save_every: 5\ndata:\n  workers: 1\nparallel:\n  devices: 2\n"
    folder.claim(CONFIG + carried)
    other = carried.replace("5", "50").replace("workers: 1", "workers: 4").replace("devices: 2", "devices: 4")
    assert folder.claim(CONFIG + other) is True
    assert folder.config.read_text() == CONFIG + other
    with pytest.raises(InputError, match=r"-  steps: 9\n  \+  steps: 8"):
        folder.claim(CONFIG + other.replace("steps: 9", "steps: 8"))
    assert folder.config.read_text() == CONFIG + other
    assert folder.claim(CONFIG.replace("runs/a", "moved/b") + other) is True


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run: give another --out"):
        RunFolder(tmp_path).claim(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_and_one_of_a_killed_start_can_be_claimed(tmp_path: Path):
    (tmp_path / ".writing_config").write_text("out: ru")
    (tmp_path / f"{TRIAL}killed").mkdir()
    assert RunFolder(tmp_path).claim(CONFIG) is False
    assert RunFolder(tmp_path).config.read_text() == CONFIG


def test_a_place_that_is_no_folder_and_a_full_disk_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="could not be written to"):
            RunFolder(path).claim(CONFIG)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"the disk is full.*The run was not begun"):
        RunFolder(tmp_path / "run").claim(CONFIG)


def test_a_run_whose_disk_has_become_read_only_is_refused_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG)

    def closed(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", closed)
    with pytest.raises(InputError, match=r"run could not be written to: .*Read-only file system"):
        folder.check(CONFIG)


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no run: it has no config\.yaml; train one with train\.py"):
        RunFolder(tmp_path).require()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.claim(CONFIG)
    return folder


def test_rows_come_back_as_they_were_written(folder: RunFolder):
    journal = Journal(folder, resumed_at=0)
    journal.write(10, "train", {"loss": 0.5, "rate": 1e-3})
    journal.write(10, "validation", {"psnr": 20})
    assert read_rows(folder.metrics) == [  # before it is closed: a killed run keeps its rows
        {"step": 10, "kind": "train", "loss": 0.5, "rate": 1e-3},
        {"step": 10, "kind": "validation", "psnr": 20.0},
    ]
    journal.close()


def test_rows_after_the_resumed_step_are_dropped_with_a_line_cut_by_a_crash(folder: RunFolder):
    journal = Journal(folder, resumed_at=0)
    for step in (10, 20, 30):
        journal.write(step, "train", {"loss": step / 10})
    journal.close()
    with folder.metrics.open("a") as file:
        file.write('{"step": 40, "ki')
    assert [row["step"] for row in read_rows(folder.metrics)] == [10, 20, 30]
    again = Journal(folder, resumed_at=20)
    assert [row["step"] for row in read_rows(folder.metrics)] == [10, 20]
    again.write(30, "train", {"loss": 7.0})
    again.close()
    assert [(row["step"], row["loss"]) for row in read_rows(folder.metrics)] == [
        (10, 1.0),
        (20, 2.0),
        (30, 7.0),
    ]


def test_a_run_without_metrics_has_no_rows(tmp_path: Path):
    assert read_rows(RunFolder(tmp_path).metrics) == []


def own(loss: torch.Tensor) -> Own:
    return Own(("clip",), loss[None], Stopwatch(loss.device), 0.0)


def record(step: int, loss: float) -> StepRecord:
    value = torch.tensor(loss)
    return StepRecord(step, value, 2 * value, 0.1 * step, 0.5, 8, {"kl": 3 * value}, own(value))


def test_metrics_are_means_since_the_last_row(folder: RunFolder, new_state):
    hook = Metrics(Journal(folder, 0), every=2, steps=5)
    hook.start(new_state())
    for step in range(1, 6):
        hook.after_step(new_state(), record(step, float(step)))
    hook.finish(new_state())
    rows = read_rows(folder.metrics)
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert [row["loss"] for row in rows] == [1.5, 3.5, 5.0]
    assert [row["gradient_norm"] for row in rows] == [3.0, 7.0, 10.0]
    assert [row["kl"] for row in rows] == [4.5, 10.5, 15.0]
    assert [row["rate"] for row in rows] == pytest.approx([0.2, 0.4, 0.5])
    assert {row["step_seconds"] for row in rows} == {0.5}


def test_one_process_writes_what_all_of_them_measured(folder: RunFolder, new_state):
    quiet = Journal(folder, 0, writes=False)
    quiet.write(1, "train", {"loss": 1.0})
    quiet.close()
    assert not folder.metrics.exists()
    hook = Metrics(Journal(folder, 0), every=2, steps=4, mean=lambda value: value + 10)
    hook.start(new_state())
    for step in range(1, 4):
        hook.after_step(new_state(), record(step, float(step)))
    hook.finish(new_state())
    # The last row has no full share of steps: others may have gone, so none is asked.
    assert [row["loss"] for row in read_rows(folder.metrics)] == [11.5, 3.0]


def test_steps_since_the_last_row_are_kept_when_a_session_ends_early(folder: RunFolder, new_state):
    hook = Metrics(Journal(folder, 0), every=10, steps=100)
    hook.start(new_state())
    for step in range(1, 4):
        hook.after_step(new_state(), record(step, float(step)))
    hook.finish(new_state())
    assert [(row["step"], row["loss"]) for row in read_rows(folder.metrics)] == [(3, 2.0)]
