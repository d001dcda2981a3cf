"""Training a codec: pixels in, the same pixels out."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from einops import rearrange
from torch import nn

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import TRAINING, copy_codec, holds_codec, read_codec, save_codec
from vdit.data.mixture import parts_of
from vdit.data.stack import stack
from vdit.eval.psnr import psnr
from vdit.sample.sheet import contact_sheet
from vdit.sample.video_file import write_video
from vdit.train.adversary import AdversarialStep, Adversary, Contest
from vdit.train.codec_step import CodecLoss, CodecStep, Lengths
from vdit.train.hooks.export import Export
from vdit.train.hooks.hook import Hook
from vdit.train.hooks.metrics import Journal
from vdit.train.hooks.samples import Samples
from vdit.train.hooks.validation import Validation
from vdit.train.run_folder import RunFolder
from vdit.train.task import Data, Session, Task, Work
from vdit.types import Clip, ClipBatch, ClipSource, InputError

__all__ = ["CodecTask"]

VALIDATION_CLIPS = 64
STATISTICS_CLIPS = 512
PRIMING_CLIPS = 1024
SHOWN_CLIPS = 4
CLIPS_AT_ONCE = 8


class CodecTask(Task):
    """Trains a video VAE and exports it, with the statistics of its latents, to `RUN/codec`.

    Args:
        codec: what to train; or the folder of a codec, to go on from its weights.
        loss: what is made small; squared error and a little KL divergence where it is None.
        lengths: frames that clips are cut to, and how often: `{1: 0.2, 9: 0.8}`. One frame is an image. Whole
            clips where it is None.
        adversary: a critic to train against; none where it is None.
    """

    title = "codec"

    def __init__(
        self,
        codec: VideoCodec | str,
        loss: CodecLoss | None = None,
        lengths: dict[int, float] | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        self.start = Path(codec) if isinstance(codec, str) else None
        if isinstance(codec, VideoCodec):
            self.codec = codec
        self.loss = loss or CodecLoss()
        self.lengths, self.adversary = Lengths(lengths or {}), adversary

    @cached_property
    def codec(self) -> VideoCodec:
        """What is trained."""
        assert self.start is not None  # or the codec was given
        return read_codec(self.start)

    @cached_property
    def module(self) -> nn.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The codec, and the critic if there is one."""
        return self.codec if self.adversary is None else Contest(self.codec, self.adversary.critic)

    @property
    def step(self) -> CodecStep:
        """What one step computes."""
        if self.adversary is None:
            return CodecStep(self.loss, self.lengths)
        return AdversarialStep(self.loss, self.lengths, self.adversary)

    def adopt(self, folder: RunFolder) -> None:
        if self.start is not None and holds_codec(folder.start) and not holds_codec(self.start):
            self.start = folder.start

    def check(self, data: Data) -> None:
        for source in (*parts_of(data.train), *parts_of(data.held_out)):
            t, h, w = source[0].pixels.shape[1:]
            self.codec.check_pixels(t, h, w)
            for length in self.lengths.shares:
                self.codec.check_pixels(length, h, w)
            for name, least in self.needs().items():
                if min(h, w) < least:
                    raise InputError(f"{name} needs frames of {least}x{least} pixels, and clips have {h}x{w}")
        longest = max(source[0].pixels.shape[1] for source in parts_of(data.train))
        asked = max(self.lengths.shares, default=1)
        if asked > longest:
            raise InputError(f"lengths has {asked} frames, but clips have {longest} at most")

    def needs(self) -> Mapping[str, int]:
        """Who looks at frames, and how many rows and columns it takes."""
        judge, adversary = self.loss.perceptual, self.adversary
        found = {} if judge is None else {judge.name: judge.least}
        return found if adversary is None else {**found, "the critic": adversary.critic.least}

    def prepare(self, session: Session) -> Work:
        if self.loss.perceptual is not None:
            self.loss.perceptual.to(session.engine.device)
        if self.start is not None:
            if session.engine.main:
                copy_codec(self.start, session.folder.start)
        else:
            batches = self.batches(session.data.train, PRIMING_CLIPS)
            self.codec.prime(batch.pixels for batch in batches if batch.pixels is not None)
        return Work(self.step, session.data.train)

    def hooks(self, session: Session, work: Work, journal: Journal) -> Sequence[Hook]:
        held_out, pace, steps = session.data.held_out, session.pace, session.steps
        return [
            Validation(lambda: self.measure(held_out), journal, pace.validation, steps, session.console),
            Samples(lambda path: self.draw(held_out, path), session),
            Export(lambda: self.export(session), steps),
        ]

    def batches(self, source: ClipSource, clips: int) -> Iterator[ClipBatch]:
        """The first `clips` clips of a source, of each part some, a few at a time, on the codec's device."""
        device = next(self.codec.parameters()).device
        for part in parts_of(source):
            last = min(len(part), -(-clips * len(part) // len(source)))
            for start in range(0, last, CLIPS_AT_ONCE):
                stop = min(start + CLIPS_AT_ONCE, last)
                yield stack([part[i] for i in range(start, stop)]).to(device)

    @torch.no_grad()
    def measure(self, source: ClipSource) -> Mapping[str, float]:
        """Reconstruction PSNR of held-out clips, the mean and the worst clip, and how different they look."""
        decibels, looks = [], []
        for batch in self.batches(source, VALIDATION_CLIPS):
            assert batch.pixels is not None  # a source gives pixels
            again = self.codec.reconstruct(self.codec.posterior(batch.pixels).mean).clamp(-1, 1)
            decibels.append(psnr(again, batch.pixels))
            if self.loss.perceptual is not None:
                looks.append(self.loss.perceptual(again, batch.pixels))
        every = torch.cat(decibels)
        found = {"psnr": every.mean().item(), "psnr_worst": every.min().item()}
        return found | ({"perceptual": torch.cat(looks).mean().item()} if looks else {})

    @torch.no_grad()
    def draw(self, source: ClipSource, folder: Path | None) -> None:
        """Originals above their reconstructions, as a contact sheet and as side-by-side clips."""
        if folder is None:
            return
        clips: list[Clip] = [source[i] for i in range(min(SHOWN_CLIPS, len(source)))]
        rows = []
        device = next(self.codec.parameters()).device
        for clip in clips:
            raw = self.codec.posterior(clip.pixels[None].to(device)).mean
            again = self.codec.reconstruct(raw)[0].clamp(-1, 1).cpu()
            rows += [(clip.pixels, clip.caption), (again, "reconstruction")]
            beside = torch.cat([clip.pixels, again], dim=3)
            write_video(folder / f"{clip.id.replace('/', '_')}.mp4", beside, clip.fps)
        contact_sheet(rows, folder / "sheet.png")

    @torch.no_grad()
    def export(self, session: Session) -> None:
        """Write the codec's folder. A new codec's statistics are measured; one that went on keeps its own."""
        if self.start is None:
            self.measure_latents(session.data.train)
        facts = {
            "trained": {
                "steps": session.steps,
                "seed": session.seed,
                "clips": session.data.train.fingerprint,
            },
            "held_out": dict(self.measure(session.data.held_out)),
        }
        if session.engine.main:
            save_codec(self.codec, session.folder.codec, facts)
            shutil.copyfile(session.folder.metrics, session.folder.codec / TRAINING)
        session.console.print(f"codec exported to {session.folder.codec}", soft_wrap=True)

    def measure_latents(self, source: ClipSource) -> None:
        """Set the mean and deviation of every latent channel, over training clips."""
        raw = [
            rearrange(self.codec.posterior(batch.pixels).mean.cpu(), "b c t h w -> c (b t h w)")
            for batch in self.batches(source, STATISTICS_CLIPS)
            if batch.pixels is not None
        ]
        latents = torch.cat(raw, dim=1)
        self.codec.latent_mean.copy_(latents.mean(dim=1))
        self.codec.latent_std.copy_(latents.std(dim=1))
