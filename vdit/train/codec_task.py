"""Training a codec: pixels in, the same pixels out."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import TRAINING, save_codec
from vdit.data.stack import stack
from vdit.eval.psnr import psnr
from vdit.sample.video_file import contact_sheet, write_video
from vdit.train.hooks.export import Export
from vdit.train.hooks.hook import Hook
from vdit.train.hooks.metrics import Journal
from vdit.train.hooks.samples import Samples
from vdit.train.hooks.validation import Validation
from vdit.train.run_folder import RunFolder
from vdit.train.step import CodecLoss, CodecStep
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
        codec: what to train.
        loss: what is made small; squared error and a little KL divergence where it is None.
    """

    title = "codec"

    def __init__(self, codec: VideoCodec, loss: CodecLoss | None = None) -> None:
        self.codec = self.module = codec
        self.loss = loss or CodecLoss()

    def adopt(self, folder: RunFolder) -> None:
        """A codec comes from nothing but its clips."""

    def check(self, data: Data) -> None:
        for source in (data.train, data.held_out):
            t, h, w = source[0].pixels.shape[1:]
            self.codec.check_pixels(t, h, w)
            if self.loss.perceptual is not None and min(h, w) < self.loss.perceptual.least:
                least, name = self.loss.perceptual.least, self.loss.perceptual.name
                raise InputError(f"{name} needs frames of {least}x{least} pixels, and clips have {h}x{w}")

    def prepare(self, session: Session) -> Work:
        if self.loss.perceptual is not None:
            self.loss.perceptual.to(session.engine.device)
        batches = self.batches(session.data.train, PRIMING_CLIPS)
        self.codec.prime(batch.pixels for batch in batches if batch.pixels is not None)
        return Work(CodecStep(self.codec, self.loss), session.data.train)

    def hooks(self, session: Session, work: Work, journal: Journal) -> Sequence[Hook]:
        held_out, pace, steps = session.data.held_out, session.pace, session.steps
        return [
            Validation(lambda: self.measure(held_out), journal, pace.validation, steps, session.console),
            Samples(lambda path: self.draw(held_out, path), session),
            Export(lambda: self.export(session), steps),
        ]

    def batches(self, source: ClipSource, clips: int) -> Iterator[ClipBatch]:
        """The first `clips` clips of a source, a few at a time, on the codec's device."""
        device = next(self.codec.parameters()).device
        for start in range(0, min(clips, len(source)), CLIPS_AT_ONCE):
            stop = min(start + CLIPS_AT_ONCE, clips, len(source))
            yield stack([source[i] for i in range(start, stop)]).to(device)

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
    def draw(self, source: ClipSource, folder: Path) -> None:
        """Originals above their reconstructions, as a contact sheet and as side-by-side clips."""
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
        """Measure the statistics of the latents over training clips, and write the codec's folder."""
        raw = [
            self.codec.posterior(batch.pixels).mean.cpu()
            for batch in self.batches(session.data.train, STATISTICS_CLIPS)
            if batch.pixels is not None
        ]
        latents = torch.cat(raw)
        self.codec.latent_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
        self.codec.latent_std.copy_(latents.std(dim=(0, 2, 3, 4)))
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
        session.console.print(f"codec exported to {session.folder.codec}")
