"""What a call of sampling asks for, read and checked whole before any weights are read."""

import hashlib
import os
import shutil
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import vdit
from vdit.commands.described import Described, describe_model, describe_trained
from vdit.commands.options import check_sampling_options, overridden, rows_and_columns
from vdit.commands.sample_options import command_line, timeline_of
from vdit.devices import available_device, free_memory
from vdit.digests import file_digest
from vdit.plan.sampling import sampling_memory
from vdit.sample.notes import cut_prompts
from vdit.sample.prompts import LARGEST_SEED, Prompt, read_prompts
from vdit.sample.sampler import Sampler, Sampling, SamplingSettings, Wish
from vdit.sample.video_file import frame_rate
from vdit.sample.windows import Windows, check_windows
from vdit.types import InputError

__all__ = ["RequestedClip", "Call", "checked"]

FLOAT_BYTES = 4

PIXEL_BYTES_A_FILE_BYTE = 50
"""Clips of films at the quality that files are written with; noise takes ten times as much."""


@dataclass(frozen=True)
class RequestedClip:
    """One clip of a call.

    Attributes:
        prompt: what to show.
        seed: of its noise.
        notes: what it does not show of its prompt.
    """

    prompt: str
    seed: int
    notes: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """What is kept of it, beside what is kept of its call."""
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {"prompt": self.prompt, "seed": self.seed, **notes}


@dataclass(frozen=True)
class Call:
    """All that clips are made from.

    Attributes:
        clips: one a prompt.
        sampling: the settings.
        windows: the parts of a clip.
        wish: what is asked beside the prompt, of one clip.
        batch: clips sampled at once.
        precision: of matrix products, unless it is what the weights are.
        out: the folder for the clips.
        settings: what is kept of the call.
        notes: what no clip shows of what was given, and what was not read.
    """

    clips: tuple[RequestedClip, ...]
    sampling: Sampling
    windows: Windows
    wish: Wish
    batch: int
    precision: torch.dtype | None
    out: Path
    settings: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        """Of the clips."""
        return [clip.seed for clip in self.clips]

    def said(self) -> list[str]:
        """All notes, for a terminal."""
        return [*self.notes, *(f"seed {clip.seed}: {note}" for clip in self.clips for note in clip.notes)]


def checked(options: Namespace) -> Call:
    """What the options ask for.

    Raises:
        InputError: anything for which it could not be sampled to the end.
    """
    prompts, unread = _prompts(options)
    timeline = timeline_of(options)
    timeline.check()
    device, precision = available_device(options.device), _precision(options)
    run = Path(options.model or options.run)
    model = describe_model(run) if options.model else describe_trained(run, options.checkpoint)
    sampling = _sized(model.task.settings, options).whole()
    frame_rate(sampling.fps)
    sampler, windows = Sampler(model.task.denoiser, model.codec, sampling), timeline.windows(sampling)
    _check_room(sampling, windows.length, options.batch or 1)
    wish = timeline.wish(sampling)
    check_windows(sampler, windows, wish)
    notes = [*unread, *timeline.notes(sampling), *_cut_besides(model, sampling, windows)]
    name = run.absolute().name if model.step is None else f"{run.name} step {model.step}"
    precise = "float32" if precision is None else str(precision).removeprefix("torch.")
    fixed = Namespace(**{**vars(options), "checkpoint": model.step, "precision": precise})
    clips = _clips(prompts, options.seed, model)
    batch = options.batch or _fitting(model, sampling, windows, device, precision, len(prompts))
    settings = {
        "command": command_line(fixed),
        "run": str(run),
        "model": name,
        "weights": _weights(model.weights, run),
        "timeline": timeline.said(),
        "files": {file: file_digest(Path(file)) for file in dict.fromkeys(timeline.files())},
        "sampling": asdict(sampling),
        "precision": precise,
        "device": str(device),
        "batch": batch,
        "versions": {"vdit": vdit.__version__, "torch": str(torch.__version__)},
        "notes": notes,
    }
    out = Path(options.out) if options.out else run / "sampled"
    _check_disk(out, sampling, windows.length, len(clips))
    return Call(clips, sampling, windows, wish, batch, precision, out, settings, tuple(notes))


def _prompts(options: Namespace) -> tuple[list[Prompt], list[str]]:
    """The prompts, and what of their file is not read."""
    prompts, unread = [Prompt(text) for text in options.prompt], []
    if options.prompts:
        found = read_prompts(Path(options.prompts))
        prompts += found.prompts
        unread = [f"column {name!r} of {options.prompts} is not read" for name in found.unread]
    if not all(prompt.text.strip() for prompt in prompts):
        raise InputError("a --prompt is empty: say what to show")
    if any(_half(prompt.text) for prompt in prompts):
        raise InputError("a --prompt is not UTF-8 text: write it anew, or set the terminal to UTF-8")
    if not prompts:
        raise InputError("nothing to sample: give --prompt TEXT or --prompts FILE")
    check_sampling_options(options)
    if options.model and options.checkpoint is not None:
        raise InputError("--checkpoint is of a run: a model that was taken in has one set of weights")
    if not 0 <= options.seed < LARGEST_SEED:
        raise InputError(f"--seed {options.seed} must be 0 or more, and below 2^63")
    return prompts, unread


def _half(text: str) -> bool:
    """Whether a text has half a character, which is how a shell passes on bytes that are no text."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _clips(prompts: Sequence[Prompt], first: int, model: Described) -> tuple[RequestedClip, ...]:
    seeds = [first + i if prompt.seed is None else prompt.seed for i, prompt in enumerate(prompts)]
    texts = [prompt.text for prompt in prompts]
    cut = cut_prompts(model.task.text, texts)
    return tuple(
        RequestedClip(text, seed, (note,) if note else ())
        for text, seed, note in zip(texts, seeds, cut, strict=True)
    )


def _cut_besides(model: Described, sampling: Sampling, windows: Windows) -> list[str]:
    """What is not read of the negative prompt, and of those of shots."""
    texts = {"the negative prompt": sampling.negative}
    texts |= {f"the prompt from frame {at} on": shot.prompt for at, shot in windows.shots.items()}
    found = [cut_prompts(model.task.text, [text], what)[0] for what, text in texts.items()]
    return [note for note in found if note]


def _check_room(sampling: Sampling, length: int, clips: int) -> None:
    """Refuse clips whose pixels alone are more than this machine can hold."""
    needed = clips * 3 * length * sampling.height * sampling.width * FLOAT_BYTES
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        what = f"{length:,} frames of {sampling.height}x{sampling.width} pixels, clips at once: {clips},"
        raise InputError(
            f"{what} take {needed / 2**30:,.0f} GiB, and this "
            f"machine has {there / 2**30:.0f}: ask for fewer frames, or a smaller --size or --batch"
        )


def _check_disk(out: Path, sampling: Sampling, length: int, clips: int) -> None:
    """Refuse clips that the disk has no place for, by what H.264 usually makes of pixels."""
    needed = clips * 3 * length * sampling.height * sampling.width / PIXEL_BYTES_A_FILE_BYTE
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"the clips will take about {needed / 2**20:,.0f} MiB, and the disk has {free / 2**20:,.0f} MiB "
            f"left for {out}: make room, or give another --out"
        )


def _fitting(
    model: Described,
    sampling: Sampling,
    windows: Windows,
    device: torch.device,
    precision: torch.dtype | None,
    clips: int,
) -> int:
    """How many clips fit into memory at once, by an estimate."""
    if clips == 1:
        return 1
    memory = sampling_memory(model.task, model.codec, sampling, precision)
    fit = min(clips, memory.clips(free_memory(device)))
    if windows.length > sampling.frames:  # the parts of all clips wait for those that follow
        pixels = 3 * windows.length * sampling.height * sampling.width * FLOAT_BYTES
        fit = min(fit, max(1, free_memory(torch.device("cpu")) // (3 * pixels)))
    return fit


def _sized(sampling: SamplingSettings, options: Namespace) -> SamplingSettings:
    if options.size:
        height, width = rows_and_columns(options.size)
        sampling = replace(sampling, height=height, width=width)
    return overridden(sampling, options, ("frames", "fps", "memory", "negative"))


def _precision(options: Namespace) -> torch.dtype | None:
    """What matrix products are computed in, unless it is what the weights are."""
    accelerated = bool(options.model) and available_device(options.device).type != "cpu"
    low = options.precision == "bfloat16" or (options.precision == "auto" and accelerated)
    return torch.bfloat16 if low else None


def _weights(files: Sequence[Path], run: Path) -> str:
    """One digest of all weights of a model, of each file by `file_digest`.

    It tells models apart that were trained, not files altered by a few bytes: of each file above
    256 MiB it sees the size and 64 MiB, so that a call need not read all of a large model twice.
    """
    there = [file for file in files if file.is_file()]
    lines = "\n".join(f"{os.path.relpath(file, run)} {file_digest(file)}" for file in there)
    return hashlib.sha256(lines.encode()).hexdigest()
