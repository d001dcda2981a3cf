import base64
import re
import sys
from html import unescape
from pathlib import Path

import pytest
import torch

from vdit.eval.heard import Table
from vdit.eval.report import Report, write_report
from vdit.eval.world_score import ALL, AttributeScore, JudgedClip, Share, WorldScore
from vdit.sample.video_file import write_video
from vdit.world.level import Verdict

NASTY = '<script>alert("gone")</script> & a "red" circle'


def report(folder: Path, clips: int = 3, **changes) -> Report:
    """A scored run in which colours are right and shapes are wrong."""
    videos = []
    for i in range(clips):
        videos.append(folder / f"{i}.mp4")
        pixels = torch.full((3, 2, 16, 16), i / clips)
        write_video(videos[-1], pixels, 8)
    verdict = Verdict({"colour": True, "shape": False}, {"colour": "re<d", "shape": "squ<are"})
    judged = tuple(JudgedClip(f"{NASTY} number {i}", i, verdict) for i in range(clips))
    full, none = Share(clips, clips), Share(0, clips)
    rows = {
        "colour": AttributeScore(full, full, full, none),
        "shape": AttributeScore(none, full, full, none),
        ALL: AttributeScore(none, full, full, none),
    }
    given = {
        "run": "ru<n",
        "score": WorldScore("flat", rows, judged, 27.04, 22.0),
        "videos": videos,
        "size": (16, 32),
        "training_seconds": 75.0,
        "weights": 12_200_000,
        "training": [{"step": 1200, "kind": "train", "loss": 1.0}],
        "heard": [Table("cam<eras", ("error", "mod<el"), [("deg<rees", "0.1")])],
        "facts": {"Training": {"command": "train.py --x '<y>'"}},
    }
    return Report(**(given | changes))


def page(made: Report, folder: Path) -> str:
    write_report(made, folder / "report.html")
    return (folder / "report.html").read_text()


def test_the_page_needs_nothing_outside_itself(tmp_path: Path):
    text = page(report(tmp_path), tmp_path)
    assert "http" not in text
    sources = re.findall(r'\b(?:src|href|poster|action)="([^"]*)"', text)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"@import|<link|url\((?!#)", text)


def test_texts_are_escaped_wherever_they_stand(tmp_path: Path):
    text = page(report(tmp_path), tmp_path)
    assert "<title>What ru&lt;n learnt</title>" in text
    assert '<script>alert("gone")' not in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption><ul", text)
    assert [unescape(caption) for caption in captions] == [f"{NASTY} number {i}" for i in range(3)]
    assert '<h3 class="soft">cam&lt;eras</h3>' in text
    assert "<th>mod&lt;el</th>" in text
    assert "<tr><th>deg&lt;rees</th><td>0.1</td></tr>" in text
    assert "train.py --x &#x27;&lt;y&gt;&#x27;" in text


def test_every_clip_is_embedded_as_it_is_and_plays_by_itself(tmp_path: Path):
    made = report(tmp_path, clips=30)
    text = page(made, tmp_path)
    videos = re.findall(r'<video (src|data-src)="data:video/mp4;base64,([^"]+)" ([^>]*)>', text)
    assert [base64.b64decode(data) for _, data, _ in videos] == [file.read_bytes() for file in made.videos]
    assert {flags for _, _, flags in videos} == {"autoplay loop muted playsinline"}
    # A browser plays only so many at once: the page's script starts the others.
    assert [name for name, _, _ in videos] == ["src"] * 24 + ["data-src"] * 6
    assert "aspect-ratio: 32 / 16" in text


def test_a_wrong_attribute_says_what_was_seen_and_a_right_one_does_not(tmp_path: Path):
    text = page(report(tmp_path), tmp_path)
    assert text.count('<li class="right">✓ colour</li>') == 3
    assert text.count('<li class="wrong">✗ shape: squ&lt;are</li>') == 3
    assert "re&lt;d" not in text


def test_the_headline_and_the_table_say_the_score(tmp_path: Path):
    text = page(report(tmp_path), tmp_path)
    tiles = dict(re.findall(r"<b>(.*?)</b><span>(.*?)</span>", text))
    assert tiles["75 s"] == "of training for 1,200 steps (12.2 M weights)"
    assert tiles["27.0 dB"] == "PSNR of the codec (worst clip 22.0)"
    assert "<b>0%</b><span>of clips have all right (0–56%)</span>" in text
    assert re.search(r"<th>colour</th>.*?<td>100%<br><small>44–100%</small></td><td>100%</td>", text)
    assert "Everything is right in 0 of 3 clips" in text


def test_without_matplotlib_the_page_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert page(report(tmp_path), tmp_path).count("<svg") == 1
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = page(report(tmp_path), tmp_path)
    assert "<svg" not in text
    assert "pip install 'vdit-video[report]'" in text


def test_a_run_without_metrics_has_a_page_all_the_same(tmp_path: Path):
    assert "left no metrics" in page(report(tmp_path, training=[]), tmp_path)
