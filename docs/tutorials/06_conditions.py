#!/usr/bin/env python
"""Conditions: frames that a clip must show, from an exact identity to a number that says they are heard.

    python docs/tutorials/06_conditions.py [--out runs/tutorials]

You will learn
  1. how a known first frame enters a model: clean latents whose sigma is 0, no loss on them, kept to the bit;
  2. why a last frame enters otherwise (a causal codec has no latents of it alone), and where it is put;
  3. that a model which has not learnt a condition yet is exactly the model without it;
  4. how to tell that a condition is heard: decibels of the frames, between a floor and the codec's ceiling.

    vdit/conditions/known.py      which frames, and what is made of them in training and in sampling
    vdit/conditions/shown.py      images beside the clip: as tokens, or as channels
    vdit/denoiser.py              conditions -> one DenoiserInput
    vdit/eval/frame_score.py      decibels and seams

The model is that of 03_one_step_by_hand.py with one more condition, trained on the flat world in 90 s.
The same at a size where it matters: configs/train/room_conditions.yaml, docs/guides/conditions.md.
"""

import runpy
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.caption import Caption
from vdit.conditions.known import KnownFrames
from vdit.data.stack import LatentClip, stack
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.eval.frame_score import score_frames
from vdit.flow.noise import LogitNormal
from vdit.flow.objective import FlowMatching
from vdit.models.native.dit import NativeDiT
from vdit.sample.sampler import Sampler, Sampling, wish_of
from vdit.sample.sheet import contact_sheet
from vdit.train.optim import Optim, build_optimizer, learning_rate, set_learning_rate
from vdit.train.step import FlowStep
from vdit.types import Clip
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

FRAMES, SIDE, FPS = 9, 32, 8.0
CLIPS, UNSEEN, STEPS, BATCH = 512, 32, 700, 16
LAST = FRAMES - 1

pieces = runpy.run_path(str(Path(__file__).with_name("03_one_step_by_hand.py")))


def build(codec: TiledCodec) -> tuple[Denoiser, KnownFrames]:
    """A DiT that hears captions and frames; 5 channels more than latents: 4 of a mask, and an image's own."""
    channels, words = codec.codec.latent_channels, pieces["HashedWords"]()
    frames = KnownFrames({"none": 1.0, "first": 1.0, "first_and_last": 2.0}, shown_as="channels")
    backbone = NativeDiT(
        latent_channels=channels,
        text_width=words.width,
        width=96,
        depth=3,
        heads=3,
        patch=(1, 1, 1),
        rope_theta=8.0,
        extra_channels=codec.codec.stride_t + channels,
    )
    return Denoiser(backbone, [Caption(words), frames]), frames


def kept(clips: Sequence[Clip], codec: TiledCodec, frames: KnownFrames) -> list[LatentClip]:
    """What training reads: latents, and images of single frames, each coded alone."""
    batch = stack(clips)
    assert batch.pixels is not None  # drawn clips have pixels
    latents, features = codec.encode(batch.pixels), frames.feature(batch, codec)
    rows = zip(clips, latents, features, strict=True)
    return [LatentClip(c.id, x, c.caption, c.fps, {frames.name: f}) for c, x, f in rows]


# ---- 1. and 2. what the model is shown --------------------------------------------------------------------


def shown(denoiser: Denoiser, frames: KnownFrames, items: Sequence[LatentClip]) -> None:
    """The input of one evaluation, of three clips: given nothing, a first, a first and a last frame."""
    batch = stack(items[:3])
    assert batch.latents is not None
    signal = frames.shown(frames.whole(batch), [[], [0], [0, LAST]])
    at = FlowMatching(LogitNormal()).draw(batch.latents, Draws(0))
    seen: dict[str, object] = {}
    forward = denoiser.backbone.forward
    denoiser.backbone.forward = lambda inputs: seen.update(vars(inputs)) or forward(inputs)
    velocity = denoiser(at.x, at.sigma, (denoiser.signals(batch)[0], signal))
    denoiser.backbone.forward = forward
    sigma, channels = seen["sigma"], seen["channels"]
    assert isinstance(sigma, Tensor)
    assert isinstance(channels, Tensor)
    for i, name in enumerate(("nothing", "first", "first, last")):
        places = ", ".join(f"{s:.2f}" for s in sigma[i, :, 0, 0].tolist())
        masks = " ".join("".join(f"{m:.0f}" for m in group) for group in channels[i, :4, :, 0, 0].T.tolist())
        print(f"   {name:12} sigma of each latent frame {places}   mask of images {masks}")
    known = frames.known(signal)
    loss = FlowMatching(LogitNormal()).loss(velocity, at, known.mask)
    [gradient] = torch.autograd.grad(loss.sum(), velocity)
    print(f"   gradient of the loss on the known latent: {gradient[1, :, 0].abs().max():.1f}, ", end="")
    print(f"beside it: {gradient[1, :, 1].abs().max():.4f}")


# ---- 3. before training -----------------------------------------------------------------------------------


@torch.no_grad()
def silent(denoiser: Denoiser, frames: KnownFrames, items: Sequence[LatentClip]) -> None:
    """Channels start at zero: an untrained model with an image beside the clip equals one without."""
    batch = stack(items[:4])
    caption, signal = denoiser.signals(batch)[0], frames.whole(batch)
    last = frames.shown(signal, [[LAST]] * 4)
    sigma = torch.full((4,), 0.6)
    assert batch.latents is not None
    with_image = denoiser(batch.latents, sigma, (caption, last))
    without = denoiser(batch.latents, sigma, (caption, frames.null(last)))
    print(f"   velocity with an image beside the clip, and without: equal {torch.equal(with_image, without)}")


# ---- 4. training, and whether it listens ------------------------------------------------------------------


def train(denoiser: Denoiser, items: Sequence[LatentClip]) -> None:
    """As the loop does; places are drawn anew for every clip of every step."""
    optim = Optim(lr=4e-3, warmup_steps=20)
    optimizer = build_optimizer(denoiser, optim)
    step, started = FlowStep(denoiser, FlowMatching(LogitNormal())), time.perf_counter()
    for number in range(STEPS):
        generator = torch.Generator().manual_seed(number)
        some = torch.randint(len(items), (BATCH,), generator=generator).tolist()
        set_learning_rate(optimizer.param_groups, learning_rate(optim, number, STEPS))
        loss = step(denoiser, stack([items[i] for i in some]), Draws(number)).loss.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if number % 100 == 0 or number == STEPS - 1:
            print(f"   step {number + 1:3}   loss {loss.item():.3f}")
    print(f"   {STEPS} steps took {time.perf_counter() - started:.0f} s")


def heard(denoiser: Denoiser, codec: TiledCodec, clips: Sequence[Clip], out: Path) -> None:
    """Clips it has never seen, with more and more of their frames given."""
    sampling = Sampling(FRAMES, SIDE, SIDE, FPS, steps=20, guidance=1.0, shift=3.0)
    sampler = Sampler(denoiser.eval(), codec.codec, sampling)
    truth = torch.stack([clip.pixels for clip in clips])
    copies = torch.cat([codec.decode(codec.encode(part)) for part in truth.split(8)])
    rows = [(clips[0].pixels, "true")]
    print("   given         first frame   last frame   step from the last to the frame before")
    for name, frames in (("nothing", []), ("first", [0]), ("first, last", [0, LAST])):
        prompts, seeds = [clip.caption for clip in clips], range(len(clips))
        made = sampler.sample(prompts, seeds, wish=wish_of(clips, frames))
        first, last = score_frames(made, truth, copies, [0, LAST])
        print(f"   {name:12} {first.psnr:8.1f} dB  {last.psnr:8.1f} dB   {last.seam:.3f}")
        rows.append((made[0], f"given {name}"))
    print(f"   {'ceiling':12} {first.ceiling:8.1f} dB  {last.ceiling:8.1f} dB   {last.seam_truth:.3f}, true")
    print(f"   {'floor':12} {first.floor:8.1f} dB  {last.floor:8.1f} dB   frames of other clips")
    contact_sheet(rows, out / "06_conditions.png")


def main() -> None:
    parser = ArgumentParser(description="Frames as conditions.")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    out = parser.parse_args().out
    source = WorldSource(Flat(), CLIPS, FRAMES, SIDE, SIDE, FPS)
    unseen = WorldSource(Flat(), UNSEEN, FRAMES, SIDE, SIDE, FPS, seed=1, held_out=True)
    codec = TiledCodec(pieces["primed_codec"]([source[i] for i in range(128)]), 1.0)
    torch.manual_seed(0)
    denoiser, frames = build(codec)
    with torch.no_grad():
        items = kept([source[i] for i in range(CLIPS)], codec, frames)

    print("1. and 2. What one evaluation is shown")
    shown(denoiser, frames, items)
    print(
        "   The first frame is a latent frame of its own, so it stands in the clip, clean. Frame 8 shares its"
    )
    print("   latents with frames 5 to 7, which nobody knows: it stands beside them, as an image\n")

    print("3. Before training")
    silent(denoiser, frames, items)

    print(f"\n4. {STEPS} steps on {CLIPS} clips, then {UNSEEN} clips of held-out scenes")
    train(denoiser, items)
    with torch.inference_mode():
        heard(denoiser, codec, [unseen[i] for i in range(UNSEEN)], out)
    print(f"\nThe picture: {out / '06_conditions.png'}")


if __name__ == "__main__":
    main()
