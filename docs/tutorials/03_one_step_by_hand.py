#!/usr/bin/env python
"""One training step, by hand, through the eight files that it runs through.

    python docs/tutorials/03_one_step_by_hand.py [--out runs/tutorials]

You will learn
  1. what each of the eight files hands to the next, with every shape printed;
  2. that the step of the training loop is these same lines (the losses are equal to the last bit);
  3. that 150 such steps learn one clip by heart, and how the loss at a fixed sigma tells so;
  4. what it means that every latent frame may have a sigma of its own.

    vdit/world/source.py          a clip and its caption
    vdit/codecs/native/codec.py   pixels -> latents
    vdit/text/encoder.py          caption -> tokens
    vdit/conditions/caption.py    tokens -> the slot `text`; hidden from some clips
    vdit/flow/objective.py        latents, sigma, noise -> x_sigma, and the velocity asked for
    vdit/denoiser.py              all of it -> one DenoiserInput
    vdit/models/native/dit.py     DenoiserInput -> velocity
    vdit/train/optim.py           gradients -> weights

The text encoder here is a toy that needs no files: each word has a vector drawn from its own hash. The demo
(`configs/text/smollm2_135m.yaml`) uses a real language model; nothing else in the step would change.
"""

import hashlib
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.native.codec import NativeCodec
from vdit.conditions.caption import Caption
from vdit.data.stack import LatentClip, stack
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.eval.psnr import psnr
from vdit.eval.sigma_loss import sigma_loss
from vdit.flow.noise import LogitNormal
from vdit.flow.objective import FlowMatching
from vdit.models.native.dit import NativeDiT
from vdit.models.patches import token_sigma
from vdit.sample.sampler import Sampler, Sampling
from vdit.sample.sheet import contact_sheet
from vdit.text.encoder import TextEncoder, pad
from vdit.train.optim import Optim, build_optimizer, learning_rate, set_learning_rate
from vdit.train.step import FlowStep
from vdit.types import Clip, ClipBatch, DenoiserInput, Tokens
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

FRAMES, SIDE, FPS = 9, 32, 8.0
TEXT_WIDTH, STEPS, COPIES = 64, 150, 8


class HashedWords(TextEncoder):
    """A word is a Gaussian vector seeded by its hash: no grammar, no meaning, but no two words alike."""

    @property
    def width(self) -> int:
        return TEXT_WIDTH

    @property
    def fingerprint(self) -> str:
        return f"hashed words {TEXT_WIDTH}"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        return pad(
            [torch.stack([self.vector(w) for w in prompt.split() or ["(nothing)"]]) for prompt in prompts]
        )

    def vector(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
        return torch.randn(TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def primed_codec(clips: Sequence[Clip]) -> NativeCodec:
    """A codec without training: the best linear code of blocks of 4x4x4 pixels, and its statistics."""
    torch.manual_seed(0)
    codec = NativeCodec(
        latent_channels=8,
        patch=2,
        widths=(8, 8, 8),
        encoder_blocks=(0, 0, 0),
        decoder_blocks=(0, 0, 0),
    )
    pixels = torch.stack([clip.pixels for clip in clips])
    with torch.no_grad():
        codec.prime([pixels])
        raw = codec.posterior(pixels).mean
        codec.latent_mean.copy_(raw.mean(dim=(0, 2, 3, 4)))
        codec.latent_std.copy_(raw.std(dim=(0, 2, 3, 4)))
    return codec.requires_grad_(False).eval()


def small_denoiser(codec: NativeCodec, drop: float) -> Denoiser:
    """A DiT of 0.7 million weights that listens to captions."""
    backbone = NativeDiT(
        latent_channels=codec.latent_channels,
        text_width=TEXT_WIDTH,
        width=96,
        depth=3,
        heads=3,
        overlap=0,
        rope_theta=8.0,
    )
    return Denoiser(backbone, [Caption(HashedWords(), drop)])


def latent_clip(clip: Clip, codec: NativeCodec) -> LatentClip:
    """What training reads from the latent cache."""
    return LatentClip(clip.id, codec.encode(clip.pixels[None])[0], clip.caption, clip.fps)


def of(x: Tensor) -> str:
    return "x".join(map(str, x.shape))


# ---- 1. one step, every shape -----------------------------------------------------------------------------


def one_step(source: WorldSource, codec: NativeCodec, denoiser: Denoiser, seed: int) -> float:
    """Forward, loss, backward; returns the loss. Reads like `vdit/train/step.py`, with prints."""
    clips = [source[i] for i in range(4)]
    pixels = torch.stack([clip.pixels for clip in clips])
    print(f"   world/source.py      pixels b c t h w {of(pixels)}, caption 0: {clips[0].caption}")

    latents = codec.encode(pixels)
    print(f"   codecs/native        latents b c t h w {of(latents)}, std {latents.std():.2f}")
    print(f"                        decoded again: {psnr(codec.decode(latents), pixels).mean():.1f} dB")

    batch = stack([latent_clip(clip, codec) for clip in clips])
    (tokens,) = denoiser.signals(batch)
    print(
        f"   text/encoder.py      tokens b n d {of(tokens.values)}, real ones {tokens.mask.sum(1).tolist()}"
    )

    draws = Draws(seed)
    signals = denoiser.drawn(batch, draws)
    hidden = [i for i in range(len(batch)) if not torch.equal(signals[0].mask[i], tokens.mask[i])]
    print(f"   conditions/caption   captions hidden in this step: {hidden or 'none'}")

    objective = FlowMatching(LogitNormal())
    assert batch.latents is not None  # stacked from clips that carry latents
    at = objective.draw(batch.latents, draws)
    print(f"   flow/objective.py    sigma {[round(s, 2) for s in at.sigma.tolist()]}, x_sigma {of(at.x)}")

    velocity = denoiser(at.x, at.sigma, signals)
    weights = sum(p.numel() for p in denoiser.parameters())
    print(f"   denoiser.py, dit.py  velocity {of(velocity)}, from {weights:,} weights")

    losses = objective.loss(velocity, at)
    print(f"   loss of each clip    {[round(value, 3) for value in losses.tolist()]}")
    losses.mean().backward()
    return losses.mean().item()


def same_as_the_loop(source: WorldSource, codec: NativeCodec, denoiser: Denoiser, seed: int) -> float:
    """The loss of the step that `train.py` takes, on the same batch with the same draws."""
    batch = stack([latent_clip(source[i], codec) for i in range(4)])
    step = FlowStep(denoiser, FlowMatching(LogitNormal()))
    return step(denoiser, batch, Draws(seed)).loss.mean().item()


# ---- 3. many steps on one clip ----------------------------------------------------------------------------


def overfit(denoiser: Denoiser, batch: ClipBatch) -> None:
    """One clip, new sigmas and new noise at every step."""
    optim = Optim(lr=5e-3, warmup_steps=5)
    optimizer = build_optimizer(denoiser, optim)
    objective = FlowMatching(LogitNormal())
    step = FlowStep(denoiser, objective)
    before = sigma_loss(denoiser, objective, [batch])
    started = time.perf_counter()
    for number in range(STEPS):
        set_learning_rate(optimizer.param_groups, learning_rate(optim, number, STEPS))
        loss = step(denoiser, batch, Draws(number)).loss.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if number % 25 == 0 or number == STEPS - 1:
            print(f"   step {number + 1:3}   loss {loss.item():.3f}")
    print(f"   {STEPS} steps took {time.perf_counter() - started:.1f} s; loss at a fixed sigma and noise:")
    for sigma, after in sigma_loss(denoiser, objective, [batch]).items():
        print(f"   sigma {sigma}   {before[sigma]:.3f} before, {after:.3f} after")


# ---- 4. sigma of every token ------------------------------------------------------------------------------


@torch.no_grad()
def sigma_by_token(denoiser: Denoiser, batch: ClipBatch) -> None:
    """The first latent frame clean, the others noisy: what a known first frame asks of the same forward."""
    x0 = batch.latents[:1]
    sigma = torch.tensor([0.0, 0.8, 0.8])[None, :, None, None]  # b t 1 1
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    x = torch.lerp(x0, noise, sigma[:, None])
    (signal,) = denoiser.signals(batch)
    text = Tokens(signal.values[:1], signal.mask[:1])
    per_token = token_sigma(sigma, denoiser.backbone.patch, tuple(x0.shape[2:]))
    print(f"   latents {of(x)}, sigma {of(sigma)} -> one sigma a token {of(per_token)}: ", end="")
    print(", ".join(f"{count} of {value:.1f}" for value, count in counted(per_token)))
    print(f"   frame 0 of x_sigma is the clean latent: {torch.equal(x[:, :, 0], x0[:, :, 0])}")
    velocity = denoiser.backbone(DenoiserInput(x, sigma, text))
    again = denoiser.backbone(DenoiserInput(x, sigma.mean(1, keepdim=True), text))
    apart = (velocity - again).flatten(3).square().mean(dim=(0, 1, 3)).sqrt()
    print(f"   velocity {of(velocity)}; with one sigma for all it differs, frame by frame, by ", end="")
    print(", ".join(f"{value:.2f}" for value in apart.tolist()))


def counted(values: Tensor) -> list[tuple[float, int]]:
    found, counts = values.unique(return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))


def main() -> None:
    parser = ArgumentParser(description="One training step by hand.")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    out = parser.parse_args().out
    source = WorldSource(Flat(), clips=256, frames=FRAMES, height=SIDE, width=SIDE, fps=FPS)
    codec = primed_codec([source[i] for i in range(128)])
    torch.manual_seed(0)
    denoiser = small_denoiser(codec, drop=0.25)

    print("1. One step")
    by_hand = one_step(source, codec, denoiser, seed=5)
    with_gradient = sum(p.grad is not None and bool(p.grad.any()) for p in denoiser.parameters())
    tensors = len(list(denoiser.parameters()))
    print(
        f"   backward             {with_gradient} of {tensors} tensors have a gradient: the last layer starts"
    )
    print("                        at zero, and until it has moved nothing before it can\n")

    print("2. The same by vdit.train.step.FlowStep")
    by_loop = same_as_the_loop(source, codec, denoiser, seed=5)
    print(f"   by hand {by_hand:.6f}, by FlowStep {by_loop:.6f}, equal {by_hand == by_loop}")
    print("   A network that says nothing has a loss of 2, the variance of noise plus that of data;")
    print("   this one begins with the best linear guess, which leaves 1 / s^2, between 1 and 2\n")
    denoiser.zero_grad()

    print(f"3. {STEPS} steps on one clip")
    clip = source[0]
    batch = stack([latent_clip(clip, codec)] * COPIES)
    overfit(denoiser, batch)
    sampler = Sampler(denoiser, codec, Sampling(FRAMES, SIDE, SIDE, FPS, steps=20, guidance=1.0))
    learnt = sampler.sample([clip.caption], seeds=[0])
    with torch.no_grad():
        bound = codec.decode(codec.encode(clip.pixels[None]))
    print(
        f"   sampled from noise: {psnr(learnt, clip.pixels[None]).item():.1f} dB to the clip; the codec ",
        end="",
    )
    print(f"alone reaches {psnr(bound, clip.pixels[None]).item():.1f} dB\n")
    rows = [(clip.pixels, clip.caption), (bound[0], "through the codec"), (learnt[0], "sampled")]
    contact_sheet(rows, out / "03_one_clip.png")

    print("4. A sigma for every latent frame")
    sigma_by_token(denoiser, batch)
    print(f"\nThe picture: {out / '03_one_clip.png'}")


if __name__ == "__main__":
    main()
