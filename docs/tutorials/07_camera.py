#!/usr/bin/env python
"""Cameras: from words to poses, from poses to what a model is told, and from a clip back to its cameras.

    python docs/tutorials/07_camera.py [--run runs/room_conditions] [--out runs/tutorials]

You will learn
  1. what a path in words is in numbers, and that other tools may mean another move by the same word;
  2. the two ways to tell a model: a ray for every pixel, or the pose of every frame;
  3. how a judge reads cameras back from pixels alone, how exact it is on true clips, and what it says of
     clips with other cameras: the two numbers without which an error of a model says nothing.

    vdit/camera/path.py           words -> poses
    vdit/camera/pose_file.py      files of poses
    vdit/conditions/camera.py     poses -> rays, or numbers
    vdit/world/pose_judge.py      pixels and the depth of the first frame -> poses

If `--run` holds a run that follows a camera, its clips are judged too. docs/reproduce/room_conditions is one,
in the repository, and takes another half a minute.
"""

import json
import math
from argparse import ArgumentParser
from pathlib import Path

import torch

from vdit.camera.path import PRESETS, read_path
from vdit.camera.pose_file import read_poses
from vdit.conditions.camera import CameraPoses, CameraRays
from vdit.eval.camera_score import CameraScore, score_cameras
from vdit.sample.sheet import contact_sheet
from vdit.types import Cameras, ClipBatch
from vdit.world.room import Room
from vdit.world.source import WorldSource

FRAMES, SIDE, FPS = 17, 64, 8.0
WORDS = "pan left 12deg, then dolly in 0.4 while tilting up 5deg"
CLIPS = 12


# ---- 1. words ---------------------------------------------------------------------------------------------


def in_numbers(out: Path) -> Cameras:
    """A path, where it is after each part, and the same from a file."""
    cameras = read_path(WORDS).cameras(FRAMES, FPS, SIDE, SIDE)
    print(f'   "{WORDS}"')
    for frame in (0, FRAMES // 2, FRAMES - 1):
        pose = cameras.c2w[frame]
        look, place = pose[:3, 2].tolist(), ", ".join(f"{x:5.2f}" for x in pose[:3, 3].tolist())
        pan, tilt = math.degrees(math.atan2(look[0], look[2])), math.degrees(math.asin(-look[1]))
        print(f"   frame {frame:2}   turned right {pan:5.1f}, up {tilt:4.1f} degrees, at ({place}) metres")
    file = out / "07_path.json"
    rows = {"c2w": cameras.c2w.tolist(), "intrinsics": cameras.intrinsics.tolist()}
    file.write_text(json.dumps(rows))
    again = read_poses(file, SIDE, SIDE)
    print(f"   written to {file.name} and read: {torch.allclose(again.c2w.float(), cameras.c2w, atol=1e-6)}")
    for preset in ("videox:pan_left", "recammaster:pan_left"):
        print(f"   {preset} means {PRESETS[preset]}")
    return cameras


# ---- 2. rays and poses ------------------------------------------------------------------------------------


def told(cameras: Cameras) -> None:
    """The signals of both conditions for one clip."""
    latents = torch.zeros(1, 32, 1 + (FRAMES - 1) // 4, SIDE // 8, SIDE // 8)
    both = Cameras(cameras.intrinsics[None], cameras.c2w[None])
    batch = ClipBatch(("path",), ("",), torch.ones(1), latents=latents, cameras=both)
    for condition in (CameraRays(), CameraPoses()):
        feature = torch.cat([both.intrinsics, both.c2w.flatten(2)], dim=-1)
        signal = condition.signal(
            ClipBatch(("path",), ("",), batch.fps, latents=latents, features={"camera": feature})
        )
        shape = "x".join(map(str, signal.shape))
        nothing = bool(condition.null(signal).any())
        print(f"   {type(condition).__name__:12} {shape:14} {signal.numel():7,} numbers", end="")
        print(f", all 0 where no camera is given: {not nothing}")


# ---- 3. and back ------------------------------------------------------------------------------------------


def report(name: str, score: CameraScore) -> None:
    for what, errors in (("", score.model), (", against other cameras", score.floor)):
        error = errors.median
        print(f"   {name + what:40} {error.rotation:6.2f} degrees {error.translation:6.3f} metres")


def judged(run: Path, out: Path) -> None:
    """Cameras of true clips and, if there is a run, of its own."""
    source = WorldSource(Room(), CLIPS, FRAMES, SIDE, SIDE, FPS, seed=5, held_out=True)
    clips = [source[i] for i in range(CLIPS)]
    pixels, paths = torch.stack([clip.pixels for clip in clips]), [clip.cameras for clip in clips]
    cameras = [path for path in paths if path is not None]
    report("true clips", score_cameras(pixels, pixels, pixels, cameras))
    report("in noise", score_cameras(noisy(pixels), pixels, pixels, cameras))
    rows = [(clip, source.scene(i).camera.word) for i, clip in enumerate(pixels[:4])]
    if (run / "config.yaml").is_file():
        made = sampled(run, source)
        report(run.name, score_cameras(made, pixels, pixels, cameras))
        rows += [(clip, f"{source.scene(i).camera.word}, by {run.name}") for i, clip in enumerate(made[:4])]
    contact_sheet(rows, out / "07_camera.png")


def noisy(pixels: torch.Tensor) -> torch.Tensor:
    """What a model that has not learnt enough makes of a clip, more or less."""
    return pixels + 0.2 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))


def sampled(run: Path, source: WorldSource) -> torch.Tensor:
    """Clips of a run that are told the camera of each scene, and nothing else but its caption."""
    from vdit.commands.trained import load_trained
    from vdit.sample.sampler import wish_of

    trained = load_trained(run)
    prompts = [source.caption(i) for i in range(CLIPS)]
    wish = wish_of([source[i] for i in range(CLIPS)], [], ["camera"])
    return trained.task.sampler(trained.sampling).sample(prompts, range(CLIPS), wish=wish)


def main() -> None:
    parser = ArgumentParser(description="Cameras in words, as conditions, and read back from clips.")
    parser.add_argument("--run", type=Path, default=Path("runs/room_conditions"))
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    print("1. A path")
    cameras = in_numbers(options.out)
    print("\n2. What a model is told of it")
    told(cameras)
    print(f"\n3. Cameras of {CLIPS} held-out clips, read back: the median of their mean errors")
    judged(options.run, options.out)
    print(
        "   The first line is what the judge itself is off by; a camera that is not followed looks like the"
    )
    print("   second. A model's error means something only between them.")
    print(f"\nThe picture: {options.out / '07_camera.png'}")


if __name__ == "__main__":
    main()
