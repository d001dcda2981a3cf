"""The typed configuration of a run: YAML and command line in, objects out.

A configuration names classes by `class_path` and their arguments by `init_args`. Wherever a value is the
path of a YAML file, relative to the file that says so, that file stands in its place; on the command
line, relative to the working folder. Any other path is relative to the working folder, unless it begins
with `./` in a file: then it is one beside that file. Values on the command line come last and win. A key that
no class knows is refused.

A run is opened from any folder: what a task reads for good (arguments of type `Path`, such as the folder of a
model) stands as an absolute path in the resolved configuration. Where a run and what it reads were moved
together, it is found where it stands beside the run.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from vdit.codecs.codec import VideoCodec
from vdit.data.mixture import usual_format
from vdit.parallel.engine import Parallel, start_of
from vdit.sample.sampler import FORMAT, Sampling, SamplingSettings
from vdit.train.flow_task import FlowTask
from vdit.train.loop import Loop
from vdit.train.optim import Optim
from vdit.train.start import pinned_start
from vdit.train.task import HELD_OUT_SHARE, Data, Pace, Task
from vdit.types import InputError
from vdit.yaml_file import laid_over, read_expanded, read_settings

__all__ = [
    "Parsed",
    "Run",
    "build_codec",
    "build_flow",
    "build_part",
    "build_run",
    "load_run",
    "parse_run",
    "read_sampling",
    "recorded_run",
    "settled",
    "task_arguments",
]


Part = Literal["task", "data", "loop", "optim", "pace", "parallel"]
PARTS: Mapping[Part, type] = {
    "task": Task,
    "data": Data,
    "loop": Loop,
    "optim": Optim,
    "pace": Pace,
    "parallel": Parallel,
}


EARLIER: Mapping[str, Any] = asdict(Sampling())
"""Of samples of runs that were begun when these did not follow the clips."""


@dataclass(frozen=True)
class Run:
    """A training run.

    Args:
        out: the run folder; a run that is already there is continued.
        task: what is trained.
        data: the clips.
        loop: how long, and how often to save.
        optim: the optimiser and its schedule.
        pace: how often the run looks at itself.
        parallel: devices, processes and precision.
        seed: of weights, noise and order.
    """

    out: str
    task: Task
    data: Data
    loop: Loop
    optim: Optim = field(default_factory=Optim)
    pace: Pace = field(default_factory=Pace)
    parallel: Parallel = field(default_factory=Parallel)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}, but must be 0 or more, and below 2^63")


@dataclass(frozen=True)
class Parsed:
    """A configuration that is known to be valid, and has built nothing yet.

    Attributes:
        values: nested values, every default filled in.
        text: the same as YAML, without references to other files.
    """

    values: Namespace
    text: str


def parse_run(arguments: Sequence[str], description: str) -> Parsed:
    """Read a command line, and the files of its `--config` options, each over the one before.

    Raises:
        InputError: a file that is missing or is not YAML, unknown keys, wrong values.
        SystemExit: with status 0, after help that was asked for.
    """
    return _parsed(arguments, description, lambda path, _: path)


def load_run(file: Path) -> Parsed:
    """Read the resolved configuration of a run folder, which may have been moved. Raises as `parse_run`."""
    here = file.parent.absolute()

    def found(path: Path, out: Path) -> Path:
        moved = Path(os.path.normpath(here / os.path.relpath(path, out)))
        return moved if out.is_absolute() and moved.exists() and not path.exists() else path

    return _parsed(["--config", str(file)], "", found)


def _parsed(arguments: Sequence[str], description: str, found: Callable[[Path, Path], Path]) -> Parsed:
    """See `parse_run`; `found` says where a path stands now that the run of an `out` refers to."""
    parser = _parser(description)
    written, rest = _written(list(map(str, arguments)))
    whole = ["--config", yaml.safe_dump(written, sort_keys=False)] if written else []
    try:
        values = parser.parse_args([*whole, *rest])
    except ArgumentError as error:
        reason = " ".join(str(error).split())  # which stands on several lines
        raise InputError(f"{reason}. `python train.py --help` lists what can be set") from error
    out = Path(values.out)
    values.task = _located(values.task, lambda path: found(path, out))
    return Parsed(values, _text(parser, values))


def _text(parser: ArgumentParser, values: Namespace) -> str:
    """A configuration as YAML that means the same from any folder."""
    told = values.clone()
    told.out = str(Path(values.out).absolute())
    return parser.dump(told)


def _located(node: Any, found: Callable[[Path], Path]) -> Any:
    """A part of a configuration with absolute paths; what is not there stays as it is: a name on a hub."""
    if isinstance(node, Namespace):
        return Namespace({key: _located(value, found) for key, value in vars(node).items()})
    if isinstance(node, dict):
        return {key: _located(value, found) for key, value in node.items()}
    if isinstance(node, list):
        return [_located(value, found) for value in node]
    if not isinstance(node, Path):
        return node
    place = found(node)
    return Path(os.path.abspath(place)) if place.exists() else place


def recorded_run(file: Path) -> Parsed:
    """Read the configuration in a run folder.

    Where it leaves open how samples are drawn, an earlier version wrote it, which had sizes of its own.
    """
    parsed = load_run(file)
    return _with_sampling(parsed, EARLIER) if _sampling_of(parsed) is not None else parsed


def settled(parsed: Parsed, data: Data, recorded: Parsed | None = None) -> Parsed:
    """A configuration with what it leaves to its clips filled in: once, for a run keeps what it began with.

    Args:
        parsed: what the user says.
        data: the clips.
        recorded: what the run's folder says, where the run goes on.
    """
    if (asked := parsed.values.task.init_args.get("start_from")) is not None:
        known = None if recorded is None else recorded.values.task.init_args.get("start_from")
        parsed = _with(parsed, {"task.init_args.start_from": pinned_start(asked, known)})
    own = parsed.values.data
    if own.get("held_out") is None and own.get("held_out_share") is None:
        parsed = _with(parsed, {"data.held_out_share": HELD_OUT_SHARE})
    if _sampling_of(parsed) is None:
        return parsed
    before = None if recorded is None else _sampling_of(recorded)
    return _with_sampling(parsed, before or asdict(usual_format(data.train)))


def build_run(parsed: Parsed, data: Data | None = None) -> Run:
    """Build every object of a run; the weights are a function of the seed, and are where `start_of` says.

    Args:
        parsed: what it says; what it leaves open is as `settled` has it.
        data: its clips, where they are built already.

    Raises:
        InputError: values that a class refuses.
    """
    clips: Data = data or build_part(parsed, "data")
    parsed = settled(parsed, clips)
    parallel = build_part(parsed, "parallel")
    with start_of(parallel):
        task = build_part(parsed, "task")
    rest = {name: build_part(parsed, name) for name in ("loop", "optim", "pace")}
    return Run(parsed.values.out, task, clips, parallel=parallel, seed=parsed.values.seed, **rest)


def task_arguments(parsed: Parsed) -> dict[str, Any]:
    """The arguments of a run's task as plain tables and lists."""

    def plain(node: Any) -> Any:
        if isinstance(node, Namespace):
            return {key: plain(value) for key, value in vars(node).items()}
        if isinstance(node, dict):
            return {key: plain(value) for key, value in node.items()}
        return [plain(value) for value in node] if isinstance(node, list | tuple) else node

    return plain(parsed.values.task.init_args)


def _sampling_of(parsed: Parsed) -> dict[str, Any] | None:
    """How samples are drawn, as far as it is said; None of a run that draws none."""
    arguments = parsed.values.task.init_args
    if "sampling" not in arguments:
        return None
    said = arguments.sampling
    return asdict(SamplingSettings()) if said is None else said.as_dict()


def _with_sampling(parsed: Parsed, clips: Mapping[str, Any]) -> Parsed:
    """The same with length, size and rate of samples as clips have them, where it does not set them."""
    said = _sampling_of(parsed) or {}
    open_ = {name: clips[name] for name in FORMAT if said[name] is None}
    return _with(parsed, {"task.init_args.sampling": Namespace({**said, **open_})}) if open_ else parsed


def _with(parsed: Parsed, values: Mapping[str, Any]) -> Parsed:
    changed = parsed.values.clone()
    for name, value in values.items():
        changed[name] = value
    return Parsed(changed, _text(_parser(""), changed))


def build_part(parsed: Parsed, name: Part) -> Any:
    """Build one part of a run, such as the task without the clips it learnt from. Raises as `build_run`."""
    torch.manual_seed(parsed.values.seed)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=PARTS[name])
    return _instantiated(parser, Namespace({name: parsed.values[name]}))[name]


def build_codec(file: Path) -> VideoCodec:
    """The codec that a file of `configs/codec` describes, with random weights.

    Raises:
        InputError: a file that is missing, that is no codec's, or values that the class refuses.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--codec", type=VideoCodec)
    try:
        values = parser.parse_args(["--codec", yaml.safe_dump(read_expanded(file), sort_keys=False)])
    except ArgumentError as error:
        raise InputError(f"{file} is no configuration of a codec: {' '.join(str(error).split())}") from error
    return _instantiated(parser, values)["codec"]


def build_flow(file: Path, shapes_only: bool = False) -> FlowTask:
    """A text-to-video model from a file with the arguments of a `FlowTask`, its weights included.

    Args:
        file: the arguments.
        shapes_only: build it on `meta`, and read no weights.

    Raises:
        InputError: a file that says something else, or parts that cannot be built.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--task", type=Task)
    whole = {"class_path": f"{FlowTask.__module__}.{FlowTask.__qualname__}", "init_args": read_settings(file)}
    try:
        values = parser.parse_args(["--task", yaml.safe_dump(whole, sort_keys=False)])
    except ArgumentError as error:
        raise InputError(f"{file} does not describe a model: {' '.join(str(error).split())}") from error
    with torch.device("meta") if shapes_only else nullcontext():
        return _instantiated(parser, values)["task"]


def read_sampling(file: Path) -> dict[str, Any]:
    """Settings of samples, by a file of `configs/sample`. Raises InputError where it is none."""
    try:
        return asdict(SamplingSettings(**read_settings(file)))
    except TypeError as error:
        raise InputError(f"{file} is no recipe: {error}") from error


def _instantiated(parser: ArgumentParser, values: Namespace) -> Namespace:
    try:
        return parser.instantiate(values)
    except InputError:
        raise
    except ValueError as error:  # for an optional value, an InputError arrives as one of several reasons
        raise InputError(f"the configuration cannot be built: {_reasons(error)}") from error


def _reasons(error: ValueError) -> str:
    """Why none of the types an optional value may have would take it, without "it is not None"."""
    given = re.findall(r"^  - (.*)$", str(error), re.MULTILINE)
    return "; ".join(reason for reason in given if "NoneType" not in reason) or str(error)


def _parser(description: str) -> ArgumentParser:
    parser = ArgumentParser(prog=Path(sys.argv[0]).name, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file; may be given several times")
    parser.add_class_arguments(Run, None, as_group=False)
    return parser


def _written(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What the files of a command line say together, and the arguments that name no file.

    The files of `--config` lie each over the one before. A file that is the value of another option stands
    there whole, and nothing stays of what stood there before.
    """
    written: dict[str, Any] = {}
    instead: list[tuple[str, Any]] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        key, equals, value = argument.partition("=")
        apart = key.startswith("--") and not equals and bool(left) and not left[0].startswith("--")
        if apart:
            value = left.pop(0)
        if key == "--config" and value:
            written = laid_over(written, read_settings(Path(value)))
        elif key.startswith("--") and value.endswith(".yaml"):
            instead.append((key.removeprefix("--"), read_expanded(Path(value))))
        else:
            rest += [key, value] if apart else [argument]
    for key, content in instead:
        *parents, last = key.split(".")
        place = written
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = content
    return written, rest
