"""Judge a trained run on prompts it has never seen, and write its report.

    python -m vdit score runs/demo
    python -m vdit score runs/demo --clips 256 --guidance 4
    python -m vdit score runs/demo --checkpoint 1000 --out runs/demo/at_1000
    python -m vdit score codec --help

Writes the clips, scores.json and report.html into the run folder, or the folder it is told.
"""

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdit.commands.options import add_sampling_options, check_sampling_options, overridden
from vdit.commands.score_codec import main as score_codec
from vdit.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vdit.commands.trained import Trained
    from vdit.eval.heard import Heard
    from vdit.eval.heard import Table as Rows
    from vdit.eval.world_score import WorldScore
    from vdit.flow.solver import Progress
    from vdit.sample.sampler import Sampler, Sampling
    from vdit.world.source import WorldSource

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Score a run; 0 when its report is written, whatever the score."""
    if arguments[:1] == ["codec"]:
        return score_codec(arguments[1:])
    options = _parser().parse_args(arguments)
    _check(options)

    from rich.console import Console

    from vdit.commands.trained import load_trained
    from vdit.eval.world_score import score_record

    started, console = time.perf_counter(), Console()
    with console.status(f"opening {options.run}"):
        trained = load_trained(Path(options.run), options.checkpoint, options.device)
        out = Path(options.out or options.run)
        sampling = overridden(trained.sampling, options, ["fps"])
        source = _unseen(trained, sampling, options)
        sampler = trained.task.sampler(sampling)
        trained.task.text.prepare([*(source.caption(i) for i in range(len(source))), ""])
    files = [f"clips/held_out_{i:04d}.mp4" for i in range(len(source))]
    score, heard = _scored(trained, sampler, source, out, files, options, console)
    settings = _settings(trained, sampler, options, time.perf_counter() - started)
    record = {**score_record(score, files, settings), **heard.record()}
    (out / "scores.json").write_text(json.dumps(record, indent=1) + "\n")
    _report(trained, sampler, score, heard, out, files, settings)
    _print_table(score, console)
    for rows in heard.tables():
        _print_rows(rows, console)
    console.print(f"{out / 'report.html'}  {out / 'scores.json'}", soft_wrap=True)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit score", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "run", help="folder of a text-to-video run trained on a world; or `codec`, to score a codec"
    )
    parser.add_argument("--clips", type=int, default=64, help="held-out prompts, each sampled once")
    parser.add_argument(
        "--give",
        nargs="*",
        default=[],
        choices=("first", "last", "keyframe", "prefix", "region", "camera", "references", "motion"),
        help="what clips are given of the true ones besides prompts: a keyframe is the middle one, "
        "a prefix the first half, a region all but the middle of the picture",
    )
    parser.add_argument("--length", type=int, help="frames of a clip, if more than the model's own: in parts")
    parser.add_argument("--overlap", type=int, default=5, help="frames that a part begins with (5)")
    parser.add_argument("--fps", type=float, help="frames per second, of a run that hears them")
    parser.add_argument("--seed", type=int, default=1000, help="of the scenes, and of the first clip's noise")
    add_sampling_options(parser, batch=16)
    parser.add_argument("--out", help="folder for what is written, if not the run's own")
    return parser


def _check(options: Namespace) -> None:
    if options.clips < 2:
        raise InputError(
            f"--clips is {options.clips}, but must be at least 2: the floor judges each clip against "
            "the scene of another"
        )
    check_sampling_options(options)


def _unseen(trained: "Trained", sampling: "Sampling", options: Namespace) -> "WorldSource":
    """Held-out scenes that neither training nor its validation has shown."""
    from vdit.world.source import WorldSource

    validated = trained.data.held_out
    if not isinstance(validated, WorldSource):
        raise InputError(
            f"{options.run} was trained on a {type(validated).__name__}, which knows no truth to judge clips "
            "by; score needs a run whose data.held_out is a WorldSource"
        )
    if options.fps and not validated.rates:
        raise InputError("--fps needs a run that was trained on clips of several rates (data.rates)")
    source = WorldSource(
        validated.level,
        options.clips,
        options.length or sampling.frames,
        sampling.height,
        sampling.width,
        validated.fps if validated.rates else sampling.fps,
        seed=options.seed,
        held_out=True,
        caption=validated.told,
        references=validated.references,
        rates=[sampling.fps] if validated.rates else (),
    )
    if source.scene(0) == validated.scene(0):
        raise InputError(f"--seed {options.seed} draws the clips this run was validated on: choose another")
    return source


def _scored(
    trained: "Trained",
    sampler: "Sampler",
    source: "WorldSource",
    out: Path,
    files: Sequence[str],
    options: Namespace,
    console: Any,
) -> tuple["WorldScore", "Heard"]:
    """Sample and judge under a progress bar, writing every clip as it comes."""
    import torch

    from vdit.codecs.tiling import TiledCodec
    from vdit.eval.asked import Asked
    from vdit.eval.world_score import score_world
    from vdit.progress import StageBars
    from vdit.sample.sheet import SHEET_CLIPS, contact_sheet
    from vdit.sample.video_file import write_video
    from vdit.sample.windows import Windows, window_clips

    (out / "clips").mkdir(parents=True, exist_ok=True)
    for old in (out / "clips").glob("held_out_*.mp4"):
        old.unlink()
    shown: list[tuple[Tensor, str]] = []
    sampled: list[Tensor] = []
    copies: list[Tensor] = []
    windows = Windows(options.length or sampler.sampling.frames, options.overlap)
    once, stride_t = sampler.sampling.frames, sampler.codec.stride_t
    codec = TiledCodec(sampler.codec, sampler.sampling.memory)
    asked = Asked.of(source, options.give, windows.length, once, stride_t)

    def keep(index: int, pixels: "Tensor") -> None:
        prompt, seed = source.caption(index), str(options.seed + index)
        facts = {"prompt": prompt, "seed": seed, "model": trained.name}
        facts |= {name: str(value) for name, value in asdict(sampler.sampling).items()}
        write_video(out / files[index], pixels, sampler.sampling.fps, facts)
        sampled.append(pixels)
        if index < SHEET_CLIPS:
            shown.append((pixels, prompt))

    @torch.inference_mode()
    def reconstruct(pixels: "Tensor") -> "Tensor":
        copies.append(codec.reconstruct(pixels))
        return copies[-1]

    def sample(prompts: Sequence[str], seeds: Sequence[int], progress: "Progress") -> "Tensor":
        wish = asked.wish([seed - options.seed for seed in seeds])
        return torch.stack(list(window_clips(sampler, windows, prompts, seeds, progress, wish)))

    with StageBars(console) as bars:
        score = score_world(source, sample, reconstruct, options.seed, options.batch, keep, bars.show)
    contact_sheet(shown, out / "clips" / "sheet.png")
    return score, asked.heard(sampled, torch.cat(copies))


def _settings(trained: "Trained", sampler: "Sampler", options: Namespace, seconds: float) -> dict[str, Any]:
    from vdit.train.run_folder import provenance

    here = provenance()
    return {
        "run": trained.folder.path.resolve().name,
        "step": trained.checkpoint.step,
        "seed": options.seed,
        "given": list(options.give),
        "length": options.length,
        "fps": options.fps,
        "sampling": asdict(sampler.sampling),
        "batch": options.batch,
        "hardware": f"{here['machine']}, on {sampler.device}",
        "vdit": here["vdit"],
        "torch": here["torch"],
        "seconds": round(seconds, 1),
    }


def _report(
    trained: "Trained",
    sampler: "Sampler",
    score: "WorldScore",
    heard: "Heard",
    out: Path,
    files: Sequence[str],
    settings: dict[str, Any],
) -> None:
    from vdit.codecs.folder import TRAINING
    from vdit.eval.curves import read_rows
    from vdit.eval.report import Report, write_report

    folder = trained.folder
    progress = json.loads((trained.checkpoint.path / "progress.json").read_text())
    told = folder.path / "provenance.json"
    training = json.loads(told.read_text()) if told.is_file() else {}
    training |= {"steps": settings["step"], "seed": trained.seed}
    training["time in steps"] = f"{progress['seconds']:.0f} s"
    scoring = {
        "command": f"python -m vdit score {folder.path} --clips {len(files)} --seed {settings['seed']} "
        f"--guidance {sampler.sampling.guidance:g} --steps {sampler.sampling.steps} "
        f"--checkpoint {settings['step']} --out {out}"
        + "".join(f" --{name} {settings[name]:g}" for name in ("length", "fps") if settings[name])
        + "".join(f" {word}" for word in ("--give", *settings["given"]) if settings["given"]),
        **{name: value for name, value in settings.items() if name not in ("run", "step", "sampling")},
        "seconds": f"{settings['seconds']:.0f}, sampling, judging and opening the run",
    }
    facts = {"Training": training, "Sampling": settings["sampling"], "Scoring": scoring}
    write_report(
        Report(
            run=settings["run"],
            score=score,
            videos=[out / file for file in files],
            size=(sampler.sampling.height, sampler.sampling.width),
            training_seconds=progress["seconds"],
            weights=sum(p.numel() for p in trained.task.denoiser.parameters() if p.requires_grad),
            heard=heard.tables(),
            training=read_rows(folder.metrics),
            codec_training=read_rows(folder.codec / TRAINING),
            facts={heading: {k: str(v) for k, v in rows.items()} for heading, rows in facts.items()},
        ),
        out / "report.html",
    )


def _print_table(score: "WorldScore", console: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{len(score.clips)} held-out prompts on the {score.level} world")
    table.add_column("")
    for name in ("model", "95%", "ceiling truth", "ceiling codec", "floor"):
        table.add_column(name, justify="right")
    for name, row in score.rows.items():
        low, high = row.model.interval
        shares = (row.ceiling_truth, row.ceiling_codec, row.floor)
        others = [f"{share.value:.0%}" for share in shares]
        table.add_row(name, f"{row.model.value:.0%}", f"{low:.0%} to {high:.0%}", *others)
    console.print(table)
    console.print(f"codec on the ground truth: {score.psnr:.1f} dB, worst clip {score.psnr_worst:.1f} dB")


def _print_rows(rows: "Rows", console: Any) -> None:
    from rich.table import Table

    table = Table(title=rows.title)
    for name in rows.columns:
        table.add_column(name, justify="right")
    for row in rows.rows:
        table.add_row(*row)
    console.print(table)
