import re
from pathlib import Path

from vdit.eval.curves import draw_curves, read_rows


def training() -> list[dict]:
    rows = [{"step": s, "kind": "train", "loss": 2 / s} for s in range(1, 40)]
    sigmas = {"loss": 0.5, "loss_at_sigma_0.1": 0.4, "loss_at_sigma_0.9": 0.6}
    return rows + [{"step": s, "kind": "validation", **sigmas} for s in (20, 39)]


CODEC = [{"step": 10, "kind": "validation", "psnr": 25.0, "psnr_worst": 20.0}]


def test_there_is_a_panel_for_what_was_measured_and_none_else():
    assert [c.title.split()[0] for c in draw_curves(training(), CODEC)] == ["Training", "Held-out", "Codec:"]
    assert len(draw_curves(training(), [])) == 2
    assert draw_curves([], []) == []


def test_every_sigma_has_its_label_and_its_line():
    svg = draw_curves(training(), [])[1].svg
    assert re.findall(r">(σ [\d.]+)<", svg) == ["σ 0.1", "σ 0.9"]


def test_more_lines_than_hues_are_all_drawn():
    rows = [{"step": 1, "kind": "validation", **{f"loss_at_sigma_0.{i}": i for i in range(1, 9)}}]
    assert len(re.findall(r">σ [\d.]+<", draw_curves(rows, [])[0].svg)) == 8


def test_panels_refer_to_nothing_outside_and_do_not_share_what_they_refer_to():
    panels = [curve.svg for curve in draw_curves(training(), CODEC)]
    defined = [set(re.findall(r'id="([^"]+)"', svg)) for svg in panels]
    used = [set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) for svg in panels]
    for svg, here, wanted in zip(panels, defined, used, strict=True):
        assert "http" not in svg
        assert "currentColor" in svg
        assert svg.startswith("<svg viewBox=")
        assert wanted
        assert wanted <= here
    assert not used[0] & used[1] | used[1] & used[2] | used[0] & used[2]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    assert read_rows(file) == []
    file.write_text('{"step": 1, "kind": "train"}\n{"step": 2, "ki')
    assert read_rows(file) == [{"step": 1, "kind": "train"}]
