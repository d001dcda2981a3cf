import io

import pytest
from rich.console import Console

import vdit.progress
from vdit.progress import StageBars


def shown(terminal: bool, reports: list[tuple[str, int, int]]) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=80, legacy_windows=False)
    with StageBars(console) as bars:
        for report in reports:
            bars.show(*report)
    return text.getvalue()


def test_a_log_gets_the_end_of_each_stage():
    reports = [("reading", 1, 3), ("reading", 2, 3), ("reading", 3, 3), ("encoding", 4, 4)]
    assert shown(False, reports).splitlines() == ["reading: 3 of 3", "encoding: 4 of 4"]


def test_a_log_gets_a_line_now_and_then_while_a_stage_lasts(monkeypatch: pytest.MonkeyPatch):
    now = iter([0.0, 10.0, 16.0, 16.0, 20.0, 32.0, 32.0])
    monkeypatch.setattr(vdit.progress.time, "monotonic", lambda: next(now))
    reports = [("reading", done, 9) for done in (1, 2, 3, 4)]
    assert shown(False, reports).splitlines() == ["reading: 2 of 9", "reading: 4 of 9"]


def test_a_terminal_gets_a_bar_for_each_stage():
    text = shown(True, [("reading", 1, 2), ("encoding", 1, 4)])
    assert "reading" in text
    assert "50%" in text
    assert "encoding" in text
    assert "25%" in text
    assert "of 4" not in text
