"""What a configuration names, against what is there."""

from pathlib import Path

import pytest

from vdit.config import parse_run
from vdit.doctor.finding import Finding
from vdit.doctor.launch import check_task, planned

ROOT = Path(__file__).parents[2]


def found(*options: str) -> Finding:
    [finding] = check_task(
        planned(parse_run(["--config", "configs/train/flat_dit.yaml", *options], ""))
    ).findings
    return finding


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_codec_that_is_missing_is_told(tmp_path: Path):
    assert found("--out", str(tmp_path)).state == "ok"
    absent = str(tmp_path / "none")
    told = found("--out", str(tmp_path), "--task.init_args.codec", absent)
    assert (told.state, f"{absent} holds no codec" in told.sentence) == ("wrong", True)


def test_the_copy_of_a_run_that_goes_on_will_do(tmp_path: Path):
    (tmp_path / "codec").symlink_to(ROOT / "configs/codec/flat_24")
    assert found("--out", str(tmp_path), "--task.init_args.codec", str(tmp_path / "none")).state == "ok"
