"""Sample clips from a trained run, or from a model that was taken in.

    sample.py --run runs/demo --prompt "a small red circle moving left on a white background"
    sample.py --run runs/demo --prompts prompts.txt --seed 7 --guidance 4 --out clips
    sample.py --model models/wan_1_3b --prompt "two cats boxing"
    sample.py --model models/wan_i2v --first cat.png --prompt "the cat stretches"
    sample.py --model models/wan_flf2v --first bud.png --last flower.png --prompt "a flower opens"
    sample.py --run runs/room_conditions --first a.png --camera "pan left 15deg" --prompt "a red cube"

Writes an mp4 a clip, a contact sheet and the settings that would make them again. Everything is
checked before weights are read; each clip is written when it is done.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.commands.sample_options import sampling_options
from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.commands.sample_call import Call
    from vdit.commands.trained import Opened
    from vdit.progress import StageBars
    from vdit.sample.outputs import Outputs

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Sample; 0 when every clip is written, 1 when some are no pictures."""
    options = sampling_options(arguments, __doc__.split("\n")[0] if __doc__ else "")

    from rich.console import Console

    from vdit.commands.sample_call import checked
    from vdit.progress import StageBars
    from vdit.sample.outputs import Outputs

    call = checked(options)
    for sentence in call.said():
        print(f"note: {sentence}")
    with Outputs(call.out, call.seeds, call.settings) as outputs:
        opened = _opened(options)
        if call.precision is not None:
            opened.task.denoiser.backbone.lower(call.precision)
        with StageBars(Console()) as bars:
            lost = _sample(call, opened, outputs, bars)
    for seed in lost:
        print(f"seed {seed}: pixels are not finite, and no clip is written; was it trained?", file=sys.stderr)
    done = len(outputs.clips)
    print(f"{done} {'clip' if done == 1 else 'clips'} in {call.out}")
    return 1 if lost else 0


def _opened(options: Namespace) -> "Opened":
    from vdit.commands.trained import load_model, load_trained

    if options.model:
        return load_model(Path(options.model), options.device)
    return load_trained(Path(options.run), options.checkpoint, options.device)


def _sample(call: "Call", opened: "Opened", outputs: "Outputs", bars: "StageBars") -> list[int]:
    """Write the clips of a call; the seeds of those that are no pictures."""
    import torch

    from vdit.devices import out_of_memory
    from vdit.sample.windows import window_clips

    sampler, batch, at, lost = opened.task.sampler(call.sampling), call.batch, 0, []
    while at < len(call.clips):
        some, full = call.clips[at : at + batch], False

        def show(done: int, steps: int, before: int = at, group: int = len(some)) -> None:
            bars.show("sampling", before * steps + group * done, len(call.clips) * steps)

        prompts, seeds = [clip.prompt for clip in some], [clip.seed for clip in some]
        try:
            made = window_clips(sampler, call.windows, prompts, seeds, show, call.wish.of(len(some)))
            for clip, pixels in zip(some, made, strict=True):
                if torch.isfinite(pixels).all():
                    outputs.add(at, pixels, call.sampling.fps, clip.told())
                else:
                    lost.append(clip.seed)
                at += 1
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            full = True
        if full:  # here, where nothing of what was tried is held any more
            batch = _smaller(len(some))
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
    return lost


def _smaller(clips: int) -> int:
    """So many clips are tried after as many as `clips` took too much memory. Raises InputError after one."""
    if clips == 1:
        raise InputError(
            "one clip takes more memory than there is: ask for fewer --frames, a smaller --size, or a "
            "smaller --memory for what decoding may take"
        )
    print(f"note: {clips} clips at once take more memory than there is; going on with {clips // 2}")
    return clips // 2
