#!/usr/bin/env python
"""Sampling: seeds, steps, solvers and guidance, on a model that is there or on one trained now.

    python docs/tutorials/04_sampling.py [--run runs/demo] [--out runs/tutorials]

You will learn
  1. that a clip is a function of (prompt, seed, settings), whatever else is in the batch;
  2. how many steps are enough, and that Heun's two evaluations a step do not always pay;
  3. what guidance does, and what too much of it does;
  4. what stands in an mp4 beside its pixels.

If `--run` holds a trained text-to-video run (after `make demo`, or any `train.py` on the built-in world), its
model is sampled. Otherwise a small one is trained here in under a minute, from the pieces of
03_one_step_by_hand.py: it knows eight captions and nothing else.
"""

import runpy
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdit.commands.trained import load_trained
from vdit.data.stack import stack
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.eval.psnr import psnr
from vdit.flow.noise import LogitNormal
from vdit.flow.objective import FlowMatching
from vdit.sample.sampler import Sampler, Sampling
from vdit.sample.sheet import contact_sheet
from vdit.sample.video_file import read_metadata, write_video
from vdit.train.optim import Optim, build_optimizer, learning_rate, set_learning_rate
from vdit.train.step import FlowStep
from vdit.types import Clip
from vdit.world.flat import Flat
from vdit.world.flat_scene import Background, FlatObject, FlatScene
from vdit.world.level import Level
from vdit.world.source import WorldSource

TRAINING_STEPS, BATCH = 300, 16
FRAMES, SIDE, FPS = 5, 32, 8.0
COLOURS, MOTIONS = ("red", "green", "blue", "yellow"), ("left", "right")


@dataclass(frozen=True)
class Subject:
    """A model to play with, and scenes whose captions it is asked for."""

    name: str
    sampler: Callable[[Sampling], Sampler]
    sampling: Sampling
    level: Level
    scenes: Sequence[Any]

    @property
    def prompts(self) -> list[str]:
        return [self.level.describe(scene).short for scene in self.scenes]


# ---- the model --------------------------------------------------------------------------------------------


def open_run(run: Path) -> Subject:
    """The averaged weights of a run's last checkpoint, and four scenes it was not trained on."""
    trained = load_trained(run)
    held_out = trained.data.held_out
    if not isinstance(held_out, WorldSource):
        raise SystemExit(f"{run} was not trained on the built-in world: give another --run")
    scenes = [held_out.scene(i) for i in range(4)]
    return Subject(trained.name, trained.task.sampler, trained.sampling, held_out.level, scenes)


def eight_scenes() -> list[FlatScene]:
    """A large circle in each of four colours, moving left or right on black."""
    return [
        FlatScene(
            (FlatObject(colour, "circle", "large", motion, 0.44, (0.5, 0.5), 0.38),), Background("black")
        )
        for colour in COLOURS
        for motion in MOTIONS
    ]


def train_small() -> Subject:
    """Codec, text encoder and denoiser of tutorial 03, trained on eight clips."""
    pieces = runpy.run_path(str(Path(__file__).with_name("03_one_step_by_hand.py")))
    level, scenes = Flat(), eight_scenes()
    clips = [
        Clip(str(i), level.render(scene, FRAMES, SIDE, SIDE).pixels, FPS, level.describe(scene).short)
        for i, scene in enumerate(scenes)
    ]
    codec = pieces["primed_codec"](clips)
    latents = [pieces["latent_clip"](clip, codec) for clip in clips]
    torch.manual_seed(0)
    denoiser: Denoiser = pieces["small_denoiser"](codec, drop=0.15)
    optim = Optim(lr=5e-3, warmup_steps=20)
    optimizer = build_optimizer(denoiser, optim)
    step = FlowStep(denoiser, FlowMatching(LogitNormal()))
    started = time.perf_counter()
    for number in range(TRAINING_STEPS):
        generator = torch.Generator().manual_seed(number)
        chosen = torch.randint(len(latents), (BATCH,), generator=generator).tolist()
        set_learning_rate(optimizer.param_groups, learning_rate(optim, number, TRAINING_STEPS))
        loss = step(denoiser, stack([latents[i] for i in chosen]), Draws(number)).loss.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if number % 100 == 0 or number == TRAINING_STEPS - 1:
            print(f"   step {number + 1:3}   loss {loss.item():.3f}")
    print(f"   trained {TRAINING_STEPS} steps in {time.perf_counter() - started:.0f} s")
    return Subject(
        "tutorial",
        lambda sampling: Sampler(denoiser, codec, sampling),
        Sampling(FRAMES, SIDE, SIDE, FPS, steps=16, guidance=3.0),
        level,
        scenes,
    )


# ---- the lesson -------------------------------------------------------------------------------------------


def show_seeds(subject: Subject, rows: list[tuple[Tensor, str]]) -> None:
    print("1. Seeds")
    sampler, prompt = subject.sampler(subject.sampling), subject.prompts[0]
    together = sampler.sample([prompt] * 3, seeds=[0, 1, 2])
    alone = sampler.sample([prompt], seeds=[2])
    same = (together[2] - alone[0]).abs().max().item()
    other = (together[1] - together[2]).abs().max().item()
    print(f"   seed 2 in a batch and alone differ by at most {same:.6f} of a range of 2")
    print(f"   seed 1 and seed 2 differ by up to {other:.2f}\n")
    rows += [(clip, f"seed {seed}: {prompt}") for seed, clip in enumerate(together)]


def compare(subject: Subject, rows: list[tuple[Tensor, str]]) -> None:
    """Every setting on every prompt, from the same noise: how near to the exact end, how often right."""
    plain = replace(subject.sampling, guidance=1.0, solver="euler", steps=16)
    seeds = range(len(subject.prompts))
    exact = subject.sampler(replace(plain, solver="heun", steps=32)).sample(subject.prompts, seeds)
    print("2. Steps and solvers, without guidance. dB: nearness to 32 Heun steps from the same noise")
    print(f"   {'setting':20}{'evaluations':>12}{'dB':>8}{'colour':>9}{'motion':>9}")
    for solver, steps in (("euler", 2), ("euler", 4), ("euler", 8), ("euler", 16), ("heun", 4), ("heun", 8)):
        clips = subject.sampler(replace(plain, solver=solver, steps=steps)).sample(subject.prompts, seeds)
        near = psnr(clips, exact).mean().item()
        evaluations = steps if solver == "euler" else 2 * steps - 1
        print(f"   {f'{solver} {steps}':20}{evaluations:12}{near:8.1f}{judged(subject, clips)}")
        rows.append((clips[0], f"{solver}, {steps} steps, no guidance"))
    print()
    print(f"3. Guidance, {plain.solver} with {plain.steps} steps; 0 does not hear the prompt")
    print(f"   {'scale':20}{'evaluations':>12}{'contrast':>10}{'colour':>9}{'motion':>9}")
    for scale in (0.0, 1.0, 3.0, 8.0):
        clips = subject.sampler(replace(plain, guidance=scale)).sample(subject.prompts, seeds)
        evaluations = plain.steps if scale == 1 else 2 * plain.steps
        print(f"   {scale:<20g}{evaluations:12}{clips.std():10.2f}{judged(subject, clips)}")
        rows.append((clips[0], f"guidance {scale:g}, {plain.steps} steps"))
    print()


def judged(subject: Subject, clips: Tensor) -> str:
    """Share of clips whose colour and motion are those of their caption; a level without a motion: camera."""
    right = [
        subject.level.judge(clip, scene).right for clip, scene in zip(clips, subject.scenes, strict=True)
    ]
    last = "motion" if "motion" in subject.level.attributes else "camera"
    return "".join(f"{sum(r[name] for r in right) / len(right):9.0%}" for name in ("colour", last))


def write(subject: Subject, folder: Path) -> None:
    print("4. Files")
    clips = subject.sampler(subject.sampling).sample(subject.prompts, range(len(subject.prompts)))
    for seed, (clip, prompt) in enumerate(zip(clips, subject.prompts, strict=True)):
        facts = {"prompt": prompt, "seed": str(seed), "model": subject.name}
        facts |= {name: str(value) for name, value in asdict(subject.sampling).items()}
        write_video(folder / f"{seed:06d}.mp4", clip, subject.sampling.fps, facts)
    print(f"   {len(clips)} clips in {folder}; the first says of itself")
    for name, value in read_metadata(folder / "000000.mp4").items():
        print(f"   {name:20} {value}")


def main() -> None:
    parser = ArgumentParser(description="Sampling.")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()
    if (options.run / "checkpoints").is_dir():
        print(f"0. The model of {options.run}")
        subject = open_run(options.run)
    else:
        print(f"0. {options.run} holds no trained run: training a small model now")
        subject = train_small()
    print()
    rows: list[tuple[Tensor, str]] = []
    show_seeds(subject, rows)
    compare(subject, rows)
    write(subject, options.out / "04_clips")
    contact_sheet(rows, options.out / "04_sampling.png")
    print(f"\nThe picture: {options.out / '04_sampling.png'}")


if __name__ == "__main__":
    main()
