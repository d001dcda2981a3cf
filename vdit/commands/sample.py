"""Sample clips from a trained run, or from a model that was taken in.

    sample.py --run runs/demo --prompt "a small red circle moving left on a white background"
    sample.py --run runs/demo --prompts prompts.txt --seed 7 --guidance 4 --out clips
    sample.py --model models/wan_1_3b --prompt "two cats boxing"
    sample.py --model models/wan_i2v --first cat.png --prompt "the cat stretches"
    sample.py --model models/wan_flf2v --first bud.png --last flower.png --prompt "a flower opens"
    sample.py --run runs/room_conditions --first a.png --camera "pan left 15deg" --prompt "a red cube"

Writes an mp4 a clip, a contact sheet and the resolved settings.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.commands.options import (
    add_sampling_options,
    check_sampling_options,
    overridden,
    rows_and_columns,
)
from vdit.types import InputError

if TYPE_CHECKING:
    import torch

    from vdit.commands.trained import Opened
    from vdit.sample.sampler import Sampling
    from vdit.sample.timeline import Timeline

__all__ = ["main"]

AT_FRAMES = ("--keyframe", "--shot", "--cut")
FLOAT_BYTES = 4

LARGEST_SEED = 2**63 - 2**31
"""Below what torch takes, with room for one more a prompt."""


def main(arguments: Sequence[str]) -> int:
    """Sample; 0 when every clip is written."""
    options = _parser().parse_args(_joined(arguments))
    prompts = _prompts(options)
    timeline = _timeline(options)
    timeline.check()

    from rich.console import Console

    from vdit.progress import StageBars
    from vdit.sample.sheet import SHEET_CLIPS, contact_sheet
    from vdit.sample.video_file import write_video
    from vdit.sample.windows import sample_windows

    opened = _opened(options)
    if precision := _precision(options):
        opened.task.denoiser.backbone.lower(precision)
    sampling = _sized(opened.sampling, options)
    sampler, windows = opened.task.sampler(sampling), timeline.windows(sampling)
    _check_room(sampling, windows.length, min(options.batch, len(prompts)))
    wish = timeline.wish(sampling)
    seeds = [options.seed + i for i in range(len(prompts))]
    out = Path(options.out) if options.out else opened.path / "sampled"
    out.mkdir(parents=True, exist_ok=True)
    shown = []
    with StageBars(Console()) as bars:
        for start in range(0, len(prompts), options.batch):
            some = slice(start, start + options.batch)

            def show(done: int, steps: int, before: int = start, group: int = len(prompts[some])) -> None:
                bars.show("sampling", before * steps + group * done, len(prompts) * steps)

            asked = wish.of(len(prompts[some]))
            pixels = sample_windows(sampler, windows, prompts[some], seeds[some], show, asked)
            for clip, prompt, seed in zip(pixels, prompts[some], seeds[some], strict=True):
                facts = {
                    "prompt": prompt,
                    "seed": str(seed),
                    "model": opened.name,
                    **_texts(asdict(sampling)),
                }
                write_video(out / f"{seed:06d}.mp4", clip, sampling.fps, facts)
                if len(shown) < SHEET_CLIPS:
                    shown.append((clip, prompt))
    contact_sheet(shown, out / "sheet.png")
    settings = {
        "run": options.run or options.model,
        "model": opened.name,
        "timeline": timeline.said(),
        "sampling": asdict(sampling),
    }
    settings["clips"] = [
        {"file": f"{s:06d}.mp4", "prompt": p, "seed": s} for p, s in zip(prompts, seeds, strict=True)
    ]
    (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
    print(f"{len(prompts)} {'clip' if len(prompts) == 1 else 'clips'} in {out}")
    return 0


def _opened(options: Namespace) -> "Opened":
    from vdit.commands.trained import load_model, load_trained

    if options.model:
        return load_model(Path(options.model), options.device)
    return load_trained(Path(options.run), options.checkpoint, options.device)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--keyframe -1=c.png` as `--keyframe=-1=c.png`: argparse takes the former for two options."""
    joined: list[str] = []
    for said in arguments:
        if joined and joined[-1] in AT_FRAMES:
            joined[-1] += f"={said}"
        else:
            joined.append(said)
    return joined


def _check_room(sampling: "Sampling", length: int, clips: int) -> None:
    """Refuse clips whose pixels alone are more than this machine can hold."""
    needed = clips * 3 * length * sampling.height * sampling.width * FLOAT_BYTES
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        what = f"{length:,} frames of {sampling.height}x{sampling.width} pixels, clips at once: {clips},"
        raise InputError(
            f"{what} take {needed / 2**30:,.0f} GiB, and this "
            f"machine has {there / 2**30:.0f}: ask for fewer frames, or a smaller --size or --batch"
        )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="sample.py", description=__doc__.split("\n")[0] if __doc__ else "")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="folder of a trained run")
    source.add_argument("--model", help="folder of a model that `vdit import` wrote")
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
    parser.add_argument("--memory", type=float, help="GiB that decoding may take; larger clips go in pieces")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of matrix products; auto: bfloat16 for a --model on an accelerator",
    )
    parser.add_argument("--negative", help="the prompt that guidance leads away from")
    _add_timeline_options(parser)
    parser.add_argument("--out", help="folder to write to; default: sampled/ in that of the run or the model")
    return parser


def _add_timeline_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what stands when, for models that can be told")
    group.add_argument("--first", metavar="IMAGE", help="the first frame")
    group.add_argument("--last", metavar="IMAGE", help="the last frame")
    group.add_argument("--loop", action="store_true", default=None, help="end with the first frame")
    group.add_argument(
        "--keyframe",
        action="append",
        default=[],
        metavar="FRAME=IMAGE",
        help="any frame; -1 is the last",
    )
    group.add_argument("--continue", dest="continued", metavar="VIDEO", help="begin with the end of a video")
    group.add_argument("--length", type=int, help="frames of the whole clip, sampled in parts that overlap")
    group.add_argument("--overlap", type=int, help="frames that a part, or what continues, begins with (5)")
    group.add_argument("--overlap-noise", type=float, help="sigma of noise that they are shown with (0)")
    for name, what in (("shot", "which goes on from the frames before"), ("cut", "which begins anew")):
        group.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="FRAME=PROMPT",
            help=f"another prompt from a frame on, {what}",
        )
    group.add_argument("--camera", metavar="WORDS", help='like "pan left 20deg, then dolly in 0.5"')
    group.add_argument("--camera-file", metavar="POSES", help="lines as RealEstate10K has them, or JSON")
    group.add_argument(
        "--reference", action="append", default=[], metavar="IMAGE", help="who or what shall be in the clip"
    )
    group.add_argument("--repaint", metavar="VIDEO", help="the clip is this one, but for what --mask says")
    group.add_argument("--mask", metavar="IMAGE", help="white is painted anew")
    group.add_argument("--motion", type=float, help="how much moves: 0 nothing; 0.2 a slow pan")
    group.add_argument("--timeline", metavar="YAML", help="all of these in a file")


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
    if options.model and options.checkpoint is not None:
        raise InputError("--checkpoint is of a run: a model that was taken in has one set of weights")
    if not 0 <= options.seed < LARGEST_SEED:
        raise InputError(f"--seed {options.seed} must be 0 or more, and below 2^63")
    return prompts


def _sized(sampling: "Sampling", options: Namespace) -> "Sampling":
    if options.size:
        height, width = rows_and_columns(options.size)
        sampling = replace(sampling, height=height, width=width)
    return overridden(sampling, options, ("frames", "fps", "memory", "negative"))


def _precision(options: Namespace) -> "torch.dtype | None":
    """What matrix products are computed in, unless it is what the weights are."""
    import torch

    from vdit.devices import available_device

    accelerated = bool(options.model) and available_device(options.device).type != "cpu"
    low = options.precision == "bfloat16" or (options.precision == "auto" and accelerated)
    return torch.bfloat16 if low else None


def _timeline(options: Namespace) -> "Timeline":
    """What stands at which time, from a file or from options."""
    from vdit.sample.timeline import Timeline, read_timeline
    from vdit.sample.windows import Shot

    keyframes = _at_frames("--keyframe", options.keyframe, "IMAGE, like 24=c.png")
    shots = _at_frames("--shot", options.shot, "PROMPT, like 24=a red cube")
    cuts = _at_frames("--cut", options.cut, "PROMPT, like 24=a red cube")
    if both := sorted(shots.keys() & cuts.keys()):
        raise InputError(f"frame {both[0]} has a --shot and a --cut: give one of them")
    said = {at: Shot(prompt) for at, prompt in shots.items()}
    said |= {at: Shot(prompt, cut=True) for at, prompt in cuts.items()}
    names = ("first", "last", "loop", "continued", "camera", "camera_file", "motion")
    names += ("length", "overlap", "overlap_noise", "repaint", "mask")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if {"overlap", "overlap_noise"} & given.keys() and options.continued is None and options.length is None:
        raise InputError("--overlap is of a clip to --continue, or of a --length: give one")
    timeline = Timeline(**given, keyframes=keyframes, references=tuple(options.reference), shots=said)
    if options.timeline is None:
        return timeline
    if timeline != Timeline():
        raise InputError("a --timeline says what stands when: leave out --first and the like, or the file")
    return read_timeline(Path(options.timeline))


def _at_frames(option: str, given: Sequence[str], like: str) -> dict[int, str]:
    """FRAME=VALUE of an option that may be given several times."""
    found: dict[int, str] = {}
    for said in given:
        at, equals, value = said.partition("=")
        if not (equals and value.strip() and at.strip().removeprefix("-").isdigit()):
            raise InputError(f"{option} {said} is not FRAME={like}")
        if int(at) in found:
            raise InputError(f"frame {int(at)} is given twice: {found[int(at)]} and {value}")
        found[int(at)] = value
    return found


def _texts(values: dict) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
