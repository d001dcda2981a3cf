#!/usr/bin/env python
"""The built-in world: clips of which everything is known.

    python docs/tutorials/02_the_world.py [--out runs/tutorials]

You will learn
  1. how a seed becomes a scene, a clip and three captions, and that nothing is stored;
  2. what truth comes with every pixel: masks, optical flow, depth, cameras;
  3. how a judge reads a clip back, and what it says of a clip that shows something else;
  4. why a score means nothing without its ceiling and its floor.

Two levels: `flat` moves shapes over a background; `room` puts solids and named characters into a textured
room under a camera. A model is trained on their clips and captions (`configs/data/`), and scored on scenes
that it has never seen (`python -m vdit score`).
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from vdit.sample.sheet import contact_sheet
from vdit.world.flat import Flat
from vdit.world.level import Rendering
from vdit.world.room import Room
from vdit.world.source import WorldSource
from vdit.world.words import COLOURS

FRAMES, SIDE = 17, 64


# ---- truth as pictures: every channel in [-1, 1], so that a contact sheet can show it -------------------


def show_masks(truth: Rendering) -> Tensor:
    """Object i in the i-th colour of the world's palette, background black."""
    palette = torch.tensor([(0.0, 0.0, 0.0), *COLOURS.values()])
    return palette[truth.masks].movedim(-1, 0) * 2 - 1


def show_flow(truth: Rendering) -> Tensor:
    """Red for motion to the right, green for motion down; grey stands still."""
    x, y = truth.flow.unbind(1)
    scaled = torch.stack([x, y, torch.zeros_like(x)]) / truth.flow.abs().max().clamp_min(1e-6)
    return torch.cat([scaled, scaled[:, -1:]], dim=1)  # the last frame has no next one: repeat


def show_depth(depth: Tensor) -> Tensor:
    """Near is white."""
    near = 1 - 2 * (depth - depth.min()) / (depth.max() - depth.min())
    return repeat(near, "t h w -> c t h w", c=3)


# ---- 1 and 2: scenes, captions, truth -------------------------------------------------------------------


def draw_flat(out: Path) -> None:
    print("1. The flat level: a seed gives a scene, a scene gives pixels and words")
    level = Flat(objects=(2, 2))
    scene = level.scene(np.random.default_rng(3), held_out=False)
    truth = level.render(scene, FRAMES, SIDE, SIDE)
    words = level.describe(scene)
    print(f"   pixels {tuple(truth.pixels.shape)}, from {truth.pixels.min():.2f} to {truth.pixels.max():.2f}")
    print(f"   short  {words.short}")
    print(f"   dense  {words.dense}")
    print(f"   JSON   {json.dumps(words.structured)}")
    again = level.render(level.scene(np.random.default_rng(3), held_out=False), FRAMES, SIDE, SIDE)
    print(f"   drawn again: equal {torch.equal(truth.pixels, again.pixels)}")

    source = WorldSource(Flat(), clips=8192, frames=9, height=SIDE, width=SIDE)
    started = time.perf_counter()
    clips = [source[i] for i in range(16)]
    each = (time.perf_counter() - started) / len(clips)
    print(f"   WorldSource: {len(source)} clips, none stored; {1000 * each:.1f} ms to draw one")
    print(f"   clip 5 is {clips[5].id}: {clips[5].caption}\n")
    rows = [(truth.pixels, words.short), (show_masks(truth), "masks"), (show_flow(truth), "flow")]
    contact_sheet(rows, out / "02_flat.png")


def draw_room(out: Path) -> None:
    print("2. The room level: the same, with depth and cameras")
    level = Room()
    rng = np.random.default_rng(1)
    scene = level.scene(rng, held_out=False)
    while scene.guest is None or scene.camera.word != "orbit right":
        scene = level.scene(rng, held_out=False)
    truth = level.render(scene, FRAMES, SIDE, SIDE)
    assert truth.depth is not None
    assert truth.cameras is not None
    words = level.describe(scene)
    print(f"   short  {words.short}")
    print(f"   dense  {words.dense}")
    for i, name in enumerate(["the room", *(f"thing {i + 1}" for i in range(len(scene.things)))]):
        print(f"   mask {i} is {name}: {(truth.masks == i).float().mean():.1%} of all pixels")
    print(f"   flow up to {truth.flow.abs().max():.1f} pixels a frame")
    print(f"   depth from {truth.depth.min():.2f} to {truth.depth.max():.2f} metres")
    pose = truth.cameras.c2w[-1]
    print(f"   first pose is the identity: {torch.equal(truth.cameras.c2w[0], torch.eye(4))}")
    print(f"   last camera stands at {[round(value, 2) for value in pose[:3, 3].tolist()]} metres (x y z)")
    fx, fy, cx, cy = truth.cameras.intrinsics[0].tolist()
    print(f"   intrinsics over width and height: fx {fx:.2f} fy {fy:.2f} cx {cx:.2f} cy {cy:.2f}\n")
    rows = [
        (truth.pixels, words.short),
        (show_masks(truth), "masks"),
        (show_flow(truth), "flow"),
        (show_depth(truth.depth), "depth"),
    ]
    contact_sheet(rows, out / "02_room.png")


# ---- 3 and 4: judging -----------------------------------------------------------------------------------


def listed(right: Mapping[str, bool]) -> str:
    return "  ".join(f"{name} {'yes' if value else 'NO'}" for name, value in right.items())


def judge_one() -> None:
    print("3. The judge looks at pixels, then compares with what was asked")
    level = Flat()
    rng = np.random.default_rng(0)
    scene = level.scene(rng, held_out=False)
    while scene.objects[0].motion != "left":
        scene = level.scene(rng, held_out=False)
    pixels = level.render(scene, 9, SIDE, SIDE).pixels
    print(f"   asked     {level.describe(scene).short}")
    print(f"   as drawn  {listed(level.judge(pixels, scene).right)}")
    backwards = level.judge(pixels.flip(1), scene)
    print(f"   backwards {listed(backwards.right)}   (it saw: moving {backwards.seen['motion']})")
    negative = level.judge(-pixels, scene)
    print(f"   negative  {listed(negative.right)}   (it saw: {negative.seen['colour']})\n")


def ceiling_and_floor(level: Flat | Room, clips: int) -> None:
    """How the judge scores perfect clips, and clips of another scene."""
    source = WorldSource(level, clips, frames=9, height=SIDE, width=SIDE, seed=1, held_out=True)
    pixels = [source[i].pixels for i in range(clips)]
    truth = [level.judge(pixels[i], source.scene(i)).right for i in range(clips)]
    other = [level.judge(pixels[i], source.scene((i + 1) % clips)).right for i in range(clips)]
    print(f"   {level.name}, {clips} held-out clips{'':14} ceiling   floor")
    for name in level.attributes:
        high, low = (sum(right[name] for right in judged) / clips for judged in (truth, other))
        print(f"   {name:36} {high:8.0%}{low:8.0%}")
    high, low = (sum(all(right.values()) for right in judged) / clips for judged in (truth, other))
    print(f"   {'all at once':36} {high:8.0%}{low:8.0%}")


def main() -> None:
    parser = ArgumentParser(description="The built-in world.")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    out = parser.parse_args().out
    draw_flat(out)
    draw_room(out)
    judge_one()
    print("4. Ceiling: the truth through the judge. Floor: the truth, judged by the scene of another clip")
    ceiling_and_floor(Flat(), 32)
    ceiling_and_floor(Room(), 8)
    print("   A model's score says something only between the two. `vdit score` prints all three, and a")
    print("   second ceiling: the truth through the codec, which no model that uses it can pass.")
    print(f"\nThe pictures: {out / '02_flat.png'} and {out / '02_room.png'}")


if __name__ == "__main__":
    main()
