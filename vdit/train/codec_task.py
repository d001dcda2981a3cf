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
from vdit.train.step import CodecStep
from vdit.train.task import Data, Session, Task, Work
from vdit.types import Clip, ClipBatch, ClipSource

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
        kl: weight of the KL divergence beside the squared error, in nats a latent value.
    """

    title = "codec"

    def __init__(self, codec: VideoCodec, kl: float = 1e-5) -> None:
        self.codec = self.module = codec
        self.kl = kl

    def adopt(self, folder: RunFolder) -> None:
        """A codec comes from nothing but its clips."""

    def check(self, data: Data) -> None:
        for source in (data.train, data.held_out):
            self.codec.check_pixels(*source[0].pixels.shape[1:])

    def prepare(self, session: Session) -> Work:
        batches = self.batches(session.data.train, PRIMING_CLIPS)
        self.codec.prime(batch.pixels for batch in batches if batch.pixels is not None)
        return Work(CodecStep(self.codec, self.kl), session.data.train)

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
        """Reconstruction PSNR of held-out clips: the mean, and the worst clip."""
        values = [
            psnr(self.codec.reconstruct(self.codec.posterior(batch.pixels).mean).clamp(-1, 1), batch.pixels)
            for batch in self.batches(source, VALIDATION_CLIPS)
            if batch.pixels is not None
        ]
        decibels = torch.cat(values)
        return {"psnr": decibels.mean().item(), "psnr_worst": decibels.min().item()}

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
