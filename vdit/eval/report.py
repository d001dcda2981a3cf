"""The page a scored run leaves: numbers, curves, and every clip beside its prompt and the judge's verdict.

One HTML file without a reference to anything outside it: it opens from a disk, a mail or a static server.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from vdit.eval.curves import draw_curves
from vdit.eval.heard import Table
from vdit.eval.world_score import ALL, AttributeScore, JudgedClip, Share, WorldScore

__all__ = ["Report", "write_report"]

_PAGE = Path(__file__).with_name("report_page.html")

# A phone's browser gives no player to more; the page's script hands the others theirs as they come into view.
_PLAYED_AT_ONCE = 24


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        run: name of the run.
        score: what it scored.
        videos: the mp4 of each clip of the score.
        size: height and width of the clips in pixels.
        training_seconds: time spent in training steps.
        weights: how many were trained.
        heard: tables on what the clips were given besides their prompts.
        training: rows of the run's metrics file.
        codec_training: rows of the metrics file of the codec's run, where known.
        facts: heading -> name -> value: how the run came about and how it was scored.
    """

    run: str
    score: WorldScore
    videos: Sequence[Path]
    size: tuple[int, int]
    training_seconds: float
    weights: int
    heard: Sequence[Table] = ()
    training: Sequence[Mapping[str, Any]] = ()
    codec_training: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def write_report(report: Report, file: Path) -> None:
    """Write the page, whole or not at all."""
    score = report.score
    clips = zip(score.clips, report.videos, strict=True)
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(f"What {report.run} learnt"),
        lead=escape(
            f"{len(score.clips)} prompts it has never seen, each sampled once and judged on the "
            f"“{score.level}” world by a judge that looks at nothing but the pixels."
        ),
        aspect=f"{report.size[1]} / {report.size[0]}",
        tiles=_tiles(report),
        scores_text=escape(_legend(score.rows[ALL].model)),
        rows="\n".join(_row(name, row) for name, row in score.rows.items()),
        heard="\n".join(map(_table, report.heard)),
        curves=_curves(report),
        clips="\n".join(_clip(i, clip, video) for i, (clip, video) in enumerate(clips)),
        facts="\n".join(_facts(heading, values) for heading, values in report.facts.items()),
    )
    aside = file.with_name(f".{file.name}.writing")
    aside.write_text(page, encoding="utf-8")
    aside.replace(file)


def _legend(everything: Share) -> str:
    return (
        f"Everything is right in {everything.right} of {everything.of} clips. The bar is the model's share "
        "of right clips, with its interval; the upright mark is the codec's ceiling, the red one the floor. "
        "Ceiling: the same judge on ground-truth renders, and on the codec's reconstructions of them. "
        "Floor: the model's clips judged against the scenes of other prompts, which is what it would score "
        "without listening."
    )


def _percent(share: Share) -> str:
    return f"{100 * share.value:.0f}%"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.0f}–{100 * high:.0f}%"


def _tiles(report: Report) -> str:
    everything = report.score.rows[ALL]
    held_out = [r for r in report.training if r["kind"] == "validation" and "loss" in r]
    trained = [r for r in report.training if r["kind"] == "train"]
    tiles = [
        (_percent(everything.model), f"of clips have all right ({_interval(everything.model)})"),
        (_percent(everything.ceiling_codec), "is the most its codec allows"),
        (_percent(everything.floor), "would be right without listening"),
        (f"{report.score.psnr:.1f} dB", f"PSNR of the codec (worst clip {report.score.psnr_worst:.1f})"),
    ]
    if held_out:
        tiles.append((f"{held_out[-1]['loss']:.3f}", "held-out loss, the mean over noise levels"))
    steps = f"for {trained[-1]['step']:,} steps " if trained else ""
    weights = f"{report.weights / 1e6:.1f} M" if report.weights >= 100_000 else f"{report.weights:,}"
    told = f"of training {steps}({weights} weights)"
    tiles.append((_duration(report.training_seconds), told))
    return "\n".join(
        f'<div class="tile card"><b>{escape(number)}</b><span>{escape(text)}</span></div>'
        for number, text in tiles
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _row(name: str, row: AttributeScore) -> str:
    low, high = row.model.interval
    track = (
        f'<i style="width:{100 * row.model.value:.1f}%"></i>'
        f'<u style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u>'
        f'<s style="left:calc({100 * row.ceiling_codec.value:.1f}% - 1px)"></s>'
        f'<s class="floor" style="left:calc({100 * row.floor.value:.1f}% - 1px)"></s>'
    )
    label = "all of them" if name == ALL else name
    return (
        f"<tr{' class=all' if name == ALL else ''}><th>{escape(label)}</th>"
        f'<td class="track"><div>{track}</div></td>'
        f"<td>{_percent(row.model)}<br><small>{_interval(row.model)}</small></td>"
        f"<td>{_percent(row.ceiling_truth)}</td><td>{_percent(row.ceiling_codec)}</td>"
        f"<td>{_percent(row.floor)}</td></tr>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in table.rows
    )
    return (
        f'<h3 class="soft">{escape(table.title)}</h3><div class="card scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _curves(report: Report) -> str:
    try:
        curves = draw_curves(report.training, report.codec_training)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return (
            "<p>The curves are left out, for matplotlib is not installed: "
            "<code>pip install 'vdit-video[report]'</code> and score again.</p>"
        )
    if not curves:
        return "<p>The run left no metrics to draw.</p>"
    figures = (
        f'<figure class="card"><figcaption>{escape(curve.title)}</figcaption>{curve.svg}</figure>'
        for curve in curves
    )
    return '<div class="curves">\n' + "\n".join(figures) + "\n</div>"


def _clip(index: int, clip: JudgedClip, video: Path) -> str:
    data = f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"
    source = f'src="{data}"' if index < _PLAYED_AT_ONCE else f'data-src="{data}"'
    marks = "".join(
        f'<li class="right">✓ {escape(name)}</li>'
        if right
        else f'<li class="wrong">✗ {escape(name)}: {escape(clip.verdict.seen[name])}</li>'
        for name, right in clip.verdict.right.items()
    )
    return (
        f'<figure class="card"><video {source} autoplay loop muted playsinline></video>'
        f'<figcaption>{escape(clip.prompt)}</figcaption><ul class="marks">{marks}</ul></figure>'
    )


def _facts(heading: str, values: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in values.items())
    return f'<div><h3 class="soft">{escape(heading)}</h3><dl class="card">{rows}</dl></div>'
