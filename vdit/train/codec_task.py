"""Training a codec: pixels in, the same pixels out."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import (
    TRAINING,
    StoredCodec,
    copy_codec,
    holds_codec,
    read_codec,
    require_same_codec,
    save_codec,
)
from vdit.codecs.tiling import TiledCodec
from vdit.data.mixture import parts_of
from vdit.data.order import spread
from vdit.data.stack import stack
from vdit.data.unreadable import first_readable, readable
from vdit.devices import within_memory
from vdit.eval.perceptual import mean_over_frames
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
from vdit.train.start import Start
from vdit.train.task import Data, Session, Task, Work
from vdit.types import ClipBatch, ClipSource, InputError

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
        memory: GiB that coding whole clips may take, about, where they are validated and statistics measured.
        start_from: a run of such a codec to begin with, or one of its checkpoints: its averaged weights.
    """

    title = "codec"

    def __init__(
        self,
        codec: VideoCodec | str,
        loss: CodecLoss | None = None,
        lengths: dict[int, float] | None = None,
        adversary: Adversary | None = None,
        memory: float = 8.0,
        start_from: Path | None = None,
    ) -> None:
        self.start_from = start_from
        self.start = Path(codec) if isinstance(codec, str) else None
        if isinstance(codec, VideoCodec):
            self.codec = codec
        self.loss = loss or CodecLoss()
        self.lengths, self.adversary, self.memory = Lengths(lengths or {}), adversary, memory

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
        if self.start_from is not None and not folder.config.is_file():
            if self.start is not None:
                raise InputError(
                    f"task.init_args.codec names the folder {self.start}, and start_from the run "
                    f"{self.start_from}: both say what to begin with, so give one of them"
                )
            start = Start.of(self.start_from)
            start.require(self.codec, start.prefix("codec."))
        if self.start is not None and holds_codec(folder.start) and not holds_codec(self.start):
            self.start = folder.start

    def require_own(self, folder: RunFolder) -> None:
        if self.start is not None:
            require_same_codec(StoredCodec(self.start), folder.start)

    def check(self, data: Data) -> None:
        for source in (*parts_of(data.train), *parts_of(data.held_out)):
            t, h, w = first_readable(source).pixels.shape[1:]
            self.coder.tiles(t, h, w)  # refuses sizes that do not fit, and too little memory
            for length in self.lengths.shares:
                self.codec.check_pixels(length, h, w)
            for name, least in self.needs().items():
                if min(h, w) < least:
                    raise InputError(f"{name} needs frames of {least}x{least} pixels, and clips have {h}x{w}")
        longest = max(first_readable(source).pixels.shape[1] for source in parts_of(data.train))
        asked = max(self.lengths.shares, default=1)
        if asked > longest:
            raise InputError(f"lengths has {asked} frames, but clips have {longest} at most")

    def needs(self) -> Mapping[str, int]:
        """Who looks at frames, and how many rows and columns it takes."""
        judge, adversary = self.loss.perceptual, self.adversary
        found = {} if judge is None else {judge.name: judge.least}
        return found if adversary is None else {**found, "the critic": adversary.critic.least}

    def captions(self, source: ClipSource) -> None:
        return None

    def begin(self) -> Mapping[str, Any]:
        """The codec of another run, and its critic where both have one."""
        if self.start_from is None:
            return {}
        start = Start.of(self.start_from)
        start.load(self.codec, start.prefix("codec."))
        if isinstance(self.module, Contest) and start.prefix("critic."):
            start.load(self.module.critic, "critic.")
        return start.facts

    def prepare(self, session: Session) -> Work:
        if self.loss.perceptual is not None:
            self.loss.perceptual.to(session.engine.device)
        if self.start is not None:
            if session.engine.main:
                copy_codec(self.start, session.folder.start)
        elif self.start_from is None:
            batches = self.batches(session.data.train, PRIMING_CLIPS, session.seed)
            self.codec.prime(pixels_of(batch) for batch in batches)
        return Work(self.step, session.data.train)

    def hooks(self, session: Session, work: Work, journal: Journal) -> Sequence[Hook]:
        held_out, pace, steps, seed = session.data.held_out, session.pace, session.steps, session.seed
        return [
            Validation(
                lambda: self.measure(held_out, seed), journal, pace.validation, steps, session.console
            ),
            Samples(lambda path: self.draw(held_out, path, seed), session),
            Export(lambda: self.export(session), steps),
        ]

    @property
    def coder(self) -> TiledCodec:
        """The codec as it stands, within the memory that it may take."""
        return TiledCodec(self.codec, self.memory)

    def chosen(self, source: ClipSource, clips: int, seed: int) -> Iterator[tuple[ClipSource, Sequence[int]]]:
        """About so many clips of a source, of each part its share, spread over all of it."""
        for part in parts_of(source):
            yield part, spread(len(part), -(-clips * len(part) // len(source)), seed)

    def batches(self, source: ClipSource, clips: int, seed: int) -> Iterator[ClipBatch]:
        """Chosen clips that can be read, as many at once as memory takes, on the codec's device."""
        for part, numbers in self.chosen(source, clips, seed):
            t, h, w = first_readable(part).pixels.shape[1:]
            at_once = min(CLIPS_AT_ONCE, self.coder.clips_at_once(t, h, w))
            for start in range(0, len(numbers), at_once):
                if clips_now := list(readable(part, numbers[start : start + at_once])):
                    yield stack(clips_now).to(self.coder.device)

    def coding(self, ids: Sequence[str]) -> AbstractContextManager[None]:
        """Around the coding of some clips, which are named where memory does not suffice."""
        remedy = "lower task.init_args.memory (GiB), or give the device or the machine more"
        return within_memory(f"code {', '.join(ids)}", remedy)

    @torch.no_grad()
    def measure(self, source: ClipSource, seed: int) -> Mapping[str, float]:
        """Reconstruction PSNR of held-out clips, the mean and the worst clip, and how different they look."""
        decibels, looks = [], []
        for batch in self.batches(source, VALIDATION_CLIPS, seed):
            pixels = pixels_of(batch)
            with self.coding(batch.ids):
                again = self.coder.decode(self.coder.encode(pixels))
                decibels.append(psnr(again, pixels))
                if self.loss.perceptual is not None:
                    looks.append(mean_over_frames(self.loss.perceptual, again, pixels))
        every = torch.cat(decibels)
        found = {"psnr": every.mean().item(), "psnr_worst": every.min().item()}
        return found | ({"perceptual": torch.cat(looks).mean().item()} if looks else {})

    @torch.no_grad()
    def draw(self, source: ClipSource, folder: Path | None, seed: int) -> None:
        """Originals above their reconstructions, as a contact sheet and as side-by-side clips."""
        if folder is None:
            return
        chosen = self.chosen(source, SHOWN_CLIPS, seed)
        clips = [clip for part, numbers in chosen for clip in readable(part, numbers)]
        rows = []
        for number, clip in enumerate(clips):  # parts of a mixture may have clips of one name
            with self.coding([clip.id]):
                again = self.coder.reconstruct(clip.pixels[None])[0]
            rows += [(clip.pixels, clip.caption), (again, "reconstruction")]
            beside = torch.cat([clip.pixels, again], dim=3)
            write_video(folder / f"{number:02d}_{clip.id.replace('/', '_')}.mp4", beside, clip.fps)
        contact_sheet(rows, folder / "sheet.png")

    @torch.no_grad()
    def export(self, session: Session) -> None:
        """Write the codec's folder. A new codec's statistics are measured; one that went on keeps its own."""
        if self.start is None:
            self.measure_latents(session.data.train, session.seed)
        facts = {
            "trained": {
                "steps": session.steps,
                "seed": session.seed,
                "clips": session.data.train.fingerprint,
            },
            "held_out": dict(self.measure(session.data.held_out, session.seed)),
        }
        if session.engine.main:
            save_codec(self.codec, session.folder.codec, facts)
            shutil.copyfile(session.folder.metrics, session.folder.codec / TRAINING)
        session.console.print(f"codec exported to {session.folder.codec}", soft_wrap=True)

    def measure_latents(self, source: ClipSource, seed: int) -> None:
        """Set the mean and deviation of every latent channel, over training clips."""
        raw = []
        for batch in self.batches(source, STATISTICS_CLIPS, seed):
            with self.coding(batch.ids):
                latents = self.codec.denormalise(self.coder.encode(pixels_of(batch))).cpu()
            for name, one in zip(batch.ids, latents, strict=True):
                if not torch.isfinite(one).all():
                    raise InputError(
                        f"the codec gives latents of {name} that are not finite: look at the clip"
                    )
            raw.append(rearrange(latents, "b c t h w -> c (b t h w)"))
        latents = torch.cat(raw, dim=1)
        self.codec.latent_mean.copy_(latents.mean(dim=1))
        self.codec.latent_std.copy_(latents.std(dim=1))


def pixels_of(batch: ClipBatch) -> Float[Tensor, "b 3 t h w"]:
    """Those that clips of a source have."""
    assert batch.pixels is not None
    return batch.pixels
