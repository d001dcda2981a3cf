"""Sample clips from a trained run.

    sample.py --run runs/demo --prompt "a small red circle moving left on a white background"
    sample.py --run runs/demo --prompts prompts.txt --seed 7 --guidance 4 --out clips

Writes an mp4 a clip, a contact sheet and the resolved settings.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from vdit.commands.options import add_sampling_options, check_sampling_options, rows_and_columns
from vdit.types import InputError

__all__ = ["main"]

LARGEST_SEED = 2**63 - 2**31
"""Below what torch takes, with room for one more a prompt."""


def main(arguments: Sequence[str]) -> int:
    """Sample; 0 when every clip is written."""
    options = _parser().parse_args(arguments)
    prompts = _prompts(options)

    from rich.console import Console

    from vdit.commands.trained import load_trained
    from vdit.progress import StageBars
    from vdit.sample.video_file import SHEET_CLIPS, contact_sheet, write_video

    trained = load_trained(Path(options.run), options.checkpoint, options.device)
    sampling = _overridden(trained.sampling, options)
    sampler = trained.task.sampler(sampling)
    seeds = [options.seed + i for i in range(len(prompts))]
    out = Path(options.out) if options.out else Path(options.run) / "sampled"
    out.mkdir(parents=True, exist_ok=True)
    shown = []
    with StageBars(Console()) as bars:
        for start in range(0, len(prompts), options.batch):
            some = slice(start, start + options.batch)

            def show(done: int, steps: int, before: int = start, group: int = len(prompts[some])) -> None:
                bars.show("sampling", before * steps + group * done, len(prompts) * steps)

            pixels = sampler.sample(prompts[some], seeds[some], show)
            for clip, prompt, seed in zip(pixels, prompts[some], seeds[some], strict=True):
                facts = {
                    "prompt": prompt,
                    "seed": str(seed),
                    "model": trained.name,
                    **_texts(asdict(sampling)),
                }
                write_video(out / f"{seed:06d}.mp4", clip, sampling.fps, facts)
                if len(shown) < SHEET_CLIPS:
                    shown.append((clip, prompt))
    contact_sheet(shown, out / "sheet.png")
    settings = {"run": options.run, "model": trained.name, "sampling": asdict(sampling)}
    settings["clips"] = [
        {"file": f"{s:06d}.mp4", "prompt": p, "seed": s} for p, s in zip(prompts, seeds, strict=True)
    ]
    (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
    print(f"{len(prompts)} {'clip' if len(prompts) == 1 else 'clips'} in {out}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="sample.py", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--run", required=True, help="folder of a trained run")
    parser.add_argument(
        "--prompt", action="append", default=[], help="what to show; may be given several times"
    )
    parser.add_argument("--prompts", help="text file with one prompt a line")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first clip; each next clip takes the next"
    )
    add_sampling_options(parser)
    parser.add_argument("--frames", type=int, help="pixel frames: 1 + 4n for a 4x8x8 codec")
    parser.add_argument("--size", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--fps", type=float)
    parser.add_argument("--shift", type=float, help="moves the steps towards noise")
    parser.add_argument("--solver", choices=("euler", "heun", "unipc", "dpm++"))
    parser.add_argument("--memory", type=float, help="GiB that decoding may take; larger clips go in pieces")
    parser.add_argument("--out", help="folder to write to; default RUN/sampled")
    return parser


def _prompts(options: Namespace) -> list[str]:
    prompts = list(options.prompt)
    if options.prompts:
        file = Path(options.prompts)
        if not file.is_file():
            what = "is a folder: give a text file" if file.is_dir() else "does not exist"
            raise InputError(f"prompt file {file} {what}")
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"prompt file {file} is not UTF-8 text: save it as UTF-8") from error
        prompts += [line for line in lines if line]
        if not any(lines):
            raise InputError(f"prompt file {file} is empty: write one prompt a line")
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("a --prompt is empty: say what to show")
    if not prompts:
        raise InputError("nothing to sample: give --prompt TEXT or --prompts FILE")
    check_sampling_options(options)
    if not 0 <= options.seed < LARGEST_SEED:
        raise InputError(f"--seed {options.seed} must be 0 or more, and below 2^63")
    return prompts


def _overridden(sampling, options: Namespace):
    changed = {}
    if options.size:
        height, width = rows_and_columns(options.size)
        changed = {"height": height, "width": width}
    for name in ("frames", "fps", "steps", "guidance", "shift", "solver", "memory"):
        if (value := getattr(options, name)) is not None:
            changed[name] = value
    return replace(sampling, **changed)


def _texts(values: dict) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
