"""The command line of sampling: its options, and what of a clip they say stands when."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.commands.options import add_sampling_options
from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.sample.timeline import Timeline

__all__ = ["command_line", "sampling_options", "timeline_of"]

AT_FRAMES = ("--keyframe", "--shot", "--cut")

OF_ALL_CLIPS = ("prompt", "prompts", "seed", "out", "batch")
"""Options that say nothing of one clip, or that a command for it alone says anew."""


def sampling_options(arguments: Sequence[str], description: str) -> Namespace:
    """The options on a command line. Raises SystemExit where argparse cannot read it."""
    return _parser(description).parse_args(_joined(arguments))


def command_line(options: Namespace) -> str:
    """The command that makes clips of a call again, without prompts and seed, as a shell reads it."""
    said = ["sample.py"]
    for name, value in vars(options).items():
        flag = "--continue" if name == "continued" else f"--{name.replace('_', '-')}"
        if name in OF_ALL_CLIPS or value is None or value is False:
            continue
        if value is True:
            said.append(flag)
            continue
        said += [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
    return shlex.join(said)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--keyframe -1=c.png` as `--keyframe=-1=c.png`: argparse takes the former for two options."""
    joined: list[str] = []
    for said in arguments:
        if joined and joined[-1] in AT_FRAMES:
            joined[-1] += f"={said}"
        else:
            joined.append(said)
    return joined


def _parser(description: str) -> ArgumentParser:
    parser = ArgumentParser(prog="sample.py", description=description)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="folder of a trained run")
    source.add_argument("--model", help="folder of a model that `vdit import` wrote")
    parser.add_argument(
        "--prompt", action="append", default=[], help="what to show; may be given several times"
    )
    parser.add_argument(
        "--prompts", help="a .txt with one prompt a line, or a .csv, .tsv or .jsonl with a column of them"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first clip; each next clip takes the next"
    )
    add_sampling_options(parser, batch=None)
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


def timeline_of(options: Namespace) -> "Timeline":
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
