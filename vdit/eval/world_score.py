"""Score a model on a level of the world: held-out prompts in, the judge's verdicts out.

A share of right clips means little alone, so each is printed with what brackets it: the ceiling (the judge
on ground-truth renders, and on what the codec makes of them: the best that any model on that codec can
show) and the floor (the model's own clips judged against the scenes of other prompts: what it would score
if it did not listen).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.eval.interval import wilson
from vdit.eval.psnr import psnr
from vdit.types import InputError
from vdit.world.level import Verdict
from vdit.world.source import WorldSource

__all__ = [
    "ALL",
    "AttributeScore",
    "JudgedClip",
    "Share",
    "WorldScore",
    "derangement",
    "score_record",
    "score_world",
]

ALL = "all"
"""The row of clips in which every attribute is right."""

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, in all)."""


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval."""
        return wilson(self.right, self.of)


@dataclass(frozen=True)
class AttributeScore:
    """One row of the table.

    Attributes:
        model: sampled clips.
        ceiling_truth: ground-truth renders of the same scenes.
        ceiling_codec: the codec's reconstructions of them.
        floor: the sampled clips, judged against other scenes.
    """

    model: Share
    ceiling_truth: Share
    ceiling_codec: Share
    floor: Share


@dataclass(frozen=True)
class JudgedClip:
    """A sampled clip and what the judge says of it."""

    prompt: str
    seed: int
    verdict: Verdict


@dataclass(frozen=True)
class WorldScore:
    """What a model scores on a level.

    Attributes:
        level: name of the level.
        rows: attribute -> score, and `ALL` last.
        clips: one a held-out scene, in the order of the source.
        psnr: decibels of the codec on the ground-truth renders, the mean over clips.
        psnr_worst: of the worst clip.
    """

    level: str
    rows: Mapping[str, AttributeScore]
    clips: tuple[JudgedClip, ...]
    psnr: float
    psnr_worst: float


class Sample(Protocol):
    """Clips from prompts, as `Sampler.sample` gives them."""

    def __call__(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Callable[[int, int], None]
    ) -> Float[Tensor, "b 3 t h w"]: ...


Reconstruct = Callable[[Float[Tensor, "b 3 t h w"]], Float[Tensor, "b 3 t h w"]]
Keep = Callable[[int, Float[Tensor, "3 t h w"]], None]


def derangement(count: int) -> tuple[int, ...]:
    """For each of `count` things another one: a turn by half, which leaves none in its place.

    Raises:
        InputError: fewer than two things.
    """
    if count < 2:
        raise InputError(f"{count} clips cannot be paired with others: score at least 2")
    return tuple((i + count // 2) % count for i in range(count))


def score_world(
    source: WorldSource,
    sample: Sample,
    reconstruct: Reconstruct,
    seed: int,
    batch: int = 16,
    keep: Keep = lambda index, pixels: None,
    progress: Progress = lambda stage, done, total: None,
) -> WorldScore:
    """Judge a model on every clip of `source`.

    Args:
        source: held-out scenes; their captions are the prompts.
        sample: the model.
        reconstruct: the codec, to pixels and back.
        seed: of the first clip's noise; each next clip takes the next.
        batch: clips at once.
        keep: given every sampled clip with its index, to write it somewhere.
        progress: called with (stage, done, in all) as stages go on.

    Raises:
        InputError: fewer than two clips, or clips the judge cannot look at.
    """
    others = derangement(len(source))
    truth, codec, decibels = _ceilings(source, reconstruct, batch, progress)
    clips: list[JudgedClip] = []
    floor: list[Verdict] = []
    for group in _groups(len(source), batch):
        prompts, seeds = [source.caption(i) for i in group], [seed + i for i in group]

        def sampled(done: int, total: int, group: range = group) -> None:
            clips_done = group.start + len(group) * done / total
            progress("sampling", round(clips_done * total), len(source) * total)

        pixels = sample(prompts, seeds, sampled)
        for i, clip, prompt in zip(group, pixels, prompts, strict=True):
            clips.append(JudgedClip(prompt, seed + i, source.level.judge(clip, source.scene(i))))
            floor.append(source.level.judge(clip, source.scene(others[i])))
            keep(i, clip)
    model = [clip.verdict for clip in clips]
    rows = {
        name: AttributeScore(*(_share(name, verdicts) for verdicts in (model, truth, codec, floor)))
        for name in (*source.level.attributes, ALL)
    }
    return WorldScore(source.level.name, rows, tuple(clips), decibels.mean().item(), decibels.min().item())


def score_record(score: WorldScore, files: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A score as JSON-serialisable values.

    Args:
        score: the score.
        files: where each clip was written.
        settings: what else a reader must know to repeat it.
    """
    return {
        **settings,
        "level": score.level,
        "clips_judged": len(score.clips),
        "scores": {name: _row_record(row) for name, row in score.rows.items()},
        "codec_psnr": {"mean": score.psnr, "worst": score.psnr_worst},
        "clips": [
            {
                "file": file,
                "prompt": clip.prompt,
                "seed": clip.seed,
                "right": dict(clip.verdict.right),
                "seen": dict(clip.verdict.seen),
            }
            for file, clip in zip(files, score.clips, strict=True)
        ],
    }


def _row_record(row: AttributeScore) -> dict[str, Any]:
    return {
        "model": row.model.value,
        "model_interval_95": list(row.model.interval),
        "ceiling_truth": row.ceiling_truth.value,
        "ceiling_codec": row.ceiling_codec.value,
        "floor": row.floor.value,
    }


def _ceilings(
    source: WorldSource, reconstruct: Reconstruct, batch: int, progress: Progress
) -> tuple[list[Verdict], list[Verdict], Float[Tensor, "n"]]:
    """Verdicts on ground-truth renders and on their reconstructions, and the decibels between them."""
    truth: list[Verdict] = []
    codec: list[Verdict] = []
    decibels: list[Tensor] = []
    for group in _groups(len(source), batch):
        pixels = torch.stack([source[i].pixels for i in group])
        again = reconstruct(pixels)
        decibels.append(psnr(again, pixels))
        for i, clip, copy in zip(group, pixels, again, strict=True):
            truth.append(source.level.judge(clip, source.scene(i)))
            codec.append(source.level.judge(copy, source.scene(i)))
        progress("judging the ground truth", group.stop, len(source))
    return truth, codec, torch.cat(decibels)


def _groups(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _share(name: str, verdicts: Sequence[Verdict]) -> Share:
    right = [v.all_right if name == ALL else v.right[name] for v in verdicts]
    return Share(sum(right), len(right))
