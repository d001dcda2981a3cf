"""Curves of a run as SVG that takes its text colour and font from the page it stands in."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

__all__ = ["Curve", "draw_curves", "read_rows"]

Rows = Sequence[Mapping[str, Any]]

# Drawn in this colour, then replaced by the page's own: matplotlib does not know `currentColor`.
_INK = "#010203"
_HUES = ("#4f8ae8", "#2ba3a0", "#7ca63c", "#d49a28", "#d8603c")
_AT_SIGMA = "loss_at_sigma_"


@dataclass(frozen=True)
class Curve:
    """One panel.

    Attributes:
        title: what is drawn.
        svg: an inline `<svg>` element without references to anything outside it.
    """

    title: str
    svg: str


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; none if there is no file. A line cut off by a crash is left out."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().split("\n")[:-1] if line.endswith("}")]


def draw_curves(training: Rows, codec: Rows) -> list[Curve]:
    """The panels that the rows of a run, and of its codec's run, have numbers for.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    sigmas = sorted({key for row in training for key in row if key.startswith(_AT_SIGMA)})
    panels = [
        ("Training loss", "loss", {"": _points(training, "train", "loss")}),
        (
            "Held-out loss at fixed noise levels σ",
            "loss",
            {f"σ {key.removeprefix(_AT_SIGMA)}": _points(training, "validation", key) for key in sigmas},
        ),
        (
            "Codec: reconstruction of held-out clips",
            "PSNR, dB",
            {
                "mean": _points(codec, "validation", "psnr"),
                "worst clip": _points(codec, "validation", "psnr_worst"),
            },
        ),
    ]
    return [
        Curve(title, _svg(title, unit, lines))
        for title, unit, lines in panels
        if any(map(len, lines.values()))
    ]


def _points(rows: Rows, kind: str, name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if row["kind"] == kind and name in row]


def _svg(title: str, unit: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Salted by the title, so that the ids of two panels in one page differ.
    inked = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}
    style |= dict.fromkeys(inked, _INK)
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.4, 2.7), layout="constrained")
        axes = figure.add_subplot()
        measured = [(label, points) for label, points in lines.items() if points]
        for (label, points), hue in zip(measured, cycle(_HUES), strict=False):
            steps, values = [p[0] for p in points], [p[1] for p in points]
            marker = "o" if len(points) < 12 else ""
            axes.plot(steps, values, color=hue, label=label, linewidth=1.8, marker=marker, markersize=3.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.ticklabel_format(useOffset=False)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#808080", alpha=0.25, linewidth=0.6)
        if len(measured) > 1:
            axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inline(out.getvalue(), title)


def _inline(svg: str, title: str) -> str:
    """The element alone: no prologue, metadata or namespaces, which HTML does not need."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    head = rf'<svg \1 role="img" aria-label="{title}">'
    element = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', head, element, count=1)
    return element.replace(_INK, "currentColor").strip()
