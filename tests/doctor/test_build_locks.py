"""A lock that nobody holds is found, with its age and its path; it is left where it is."""

import os
import sys
import time
from pathlib import Path

import pytest
import torch.utils.cpp_extension
from torch.utils.file_baton import FileBaton

from vdit.doctor.build_locks import check_build_locks, extensions_folders


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    return tmp_path


def lock(cache: Path, name: str, minutes: float) -> Path:
    file = cache / name / "lock"
    file.parent.mkdir()
    file.touch()
    os.utime(file, (time.time() - 60 * minutes,) * 2)
    return file


def test_no_lock_is_well(cache: Path):
    (cache / "fused_adam").mkdir()
    (cache / "fused_adam" / "fused_adam.so").touch()
    assert [finding.state for finding in check_build_locks()] == ["ok"]


def test_an_old_lock_is_wrong_and_named(cache: Path):
    left = lock(cache, "deepspeed_shm_comm", 95)
    [found] = check_build_locks()
    assert (found.state, found.remedy) == ("wrong", f"rm {left}")
    assert f"{left} is 95 minutes old" in found.sentence
    assert left.exists()


def test_a_young_lock_may_be_a_build_elsewhere(cache: Path):
    lock(cache, "fused_adam", 2)
    [found] = check_build_locks()
    assert found.state == "warning"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only there open files can be seen")
def test_a_build_that_is_running_is_not_a_fault(cache: Path):
    (cache / "fused_adam").mkdir()
    file = cache / "fused_adam" / "lock"
    baton = FileBaton(str(file))
    assert baton.try_acquire()  # as torch does for the time of a build
    os.utime(file, (0, 0))
    [found] = check_build_locks()
    assert (found.state, found.sentence) == ("ok", f"fused_adam is being built now, by process {os.getpid()}")
    baton.release()


def test_the_usual_place_is_where_torch_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setattr(torch.utils.cpp_extension, "get_default_build_root", lambda: str(tmp_path))
    place = Path(torch.utils.cpp_extension._get_build_directory("thing", verbose=False)).parent
    other = tmp_path / f"py2{sys.version_info.minor}_cpu"
    other.mkdir()
    assert extensions_folders() == [place]
