"""Training a text-to-video model: latents of clips, and their captions."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vdit.adapters.lora import LoRA, add_lora
from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import StoredCodec, copy_codec, holds_codec, require_codec, require_same_codec
from vdit.codecs.precision import CodecDtype, place_codec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.caption import Caption
from vdit.conditions.condition import Condition, GivenFrames
from vdit.data.latents import Latents
from vdit.data.mixture import parts_of, usual_format, usual_part
from vdit.data.order import spread
from vdit.data.stack import stack
from vdit.data.unreadable import first_readable, readable
from vdit.denoiser import Denoiser
from vdit.eval.sigma_loss import SIGMAS, loss_by_sigma
from vdit.flow.noise import LogitNormal, NoiseLevels
from vdit.flow.objective import FlowMatching
from vdit.flow.weight import SigmaWeight
from vdit.models.backbone import VideoBackbone
from vdit.progress import StageBars
from vdit.sample.sampler import FORMAT, Sampler, Sampling, SamplingSettings, Wish
from vdit.sample.sheet import contact_sheet
from vdit.sample.video_file import write_video
from vdit.text.cache import CachedText
from vdit.text.encoder import TextEncoder
from vdit.train.captions import Captions, captions_of, read_captions, refuse_no_captions
from vdit.train.encoding import encoded
from vdit.train.hooks.hook import Hook
from vdit.train.hooks.metrics import Journal
from vdit.train.hooks.samples import Samples
from vdit.train.hooks.validation import Validation
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start, run_of
from vdit.train.step import FlowStep
from vdit.train.task import Data, Session, Task, Work
from vdit.types import Cameras, Clip, ClipBatch, ClipFormat, ClipSource, InputError, on_tensors

__all__ = ["FlowTask"]

VALIDATION_CLIPS = 64
SHOWN_CLIPS = 4


class FlowTask(Task):
    """Trains a denoiser by flow matching on cached latents and cached text.

    Args:
        backbone: the transformer.
        text: the text encoder.
        codec: folder of a trained codec; the run keeps a copy. That of `start_from` where it is None.
        start_from: a run to begin with, or one of its checkpoints: its averaged weights, of the same shapes.
        cache: folder for latents and text embeddings, shared by runs; both are addressed by content.
        levels: distribution of sigma in training.
        weight: what the loss at each sigma counts in training; every sigma alike where it is None.
        caption_drop: probability of training a clip without its caption; 1 trains without text.
        conditions: what the model listens to besides: given frames, cameras.
        adapter: what is trained in place of the backbone's own weights; those, where it is None.
        sampling: settings of the clips drawn during training, and the defaults of sample.py. Length, size and
            rate are those of the training clips unless set.
        codec_dtype: what the codec computes with; None is the precision of its weights (float32 instead of
            bfloat16 on a device that has no such arithmetic).
    """

    title = "flow"

    def __init__(
        self,
        backbone: VideoBackbone,
        text: TextEncoder,
        codec: str | None = None,
        start_from: Path | None = None,
        cache: str = "runs/cache",
        levels: NoiseLevels | None = None,
        weight: SigmaWeight | None = None,
        caption_drop: float = 0.1,
        conditions: Sequence[Condition] = (),
        adapter: LoRA | None = None,
        sampling: SamplingSettings | None = None,
        codec_dtype: CodecDtype | None = None,
    ) -> None:
        self.stored_codec, self.cache = StoredCodec(_codec_of(codec, start_from)), Path(cache)
        self.start_from = start_from
        self.codec_dtype: CodecDtype | None = codec_dtype
        self.settings = sampling or SamplingSettings()
        self.objective = FlowMatching(levels or LogitNormal(), weight)
        self.text = CachedText(text, self.cache / "text", dtype=text.kept)
        self.caption_drop = caption_drop
        self.denoiser = self.module = Denoiser(backbone, [Caption(self.text, caption_drop), *conditions])
        self.adapter = adapter
        if adapter is not None:
            if start_from is not None:  # which a LoRA needs for good, where a whole model needs it once
                Start.of(start_from).load(self.denoiser)
            self.borrowed = frozenset(f"backbone.{name}" for name in add_lora(backbone, adapter))

    @property
    def sampling(self) -> Sampling:
        """Settings of samples. Raises InputError where neither the configuration nor clips say their size."""
        return self.settings.whole()

    @property
    def codec(self) -> VideoCodec:
        """The frozen codec."""
        return self.stored_codec.codec

    @property
    def codec_folder(self) -> Path:
        """Where it is."""
        return self.stored_codec.folder

    def use_codec(self, folder: Path) -> None:
        """Take the codec from `folder` instead: a run's own copy outlives the run it came from."""
        self.stored_codec = StoredCodec(folder)

    def adopt(self, folder: RunFolder) -> None:
        if self.start_from is not None and not folder.config.is_file():
            self.require_start(Start.of(self.start_from))
        self.require_base(folder)
        if holds_codec(folder.codec) and not holds_codec(self.codec_folder):
            self.use_codec(folder.codec)
        require_codec(self.codec_folder)

    def require_own(self, folder: RunFolder) -> None:
        require_same_codec(self.stored_codec, folder.codec)

    def require_start(self, start: Start) -> None:
        """Refuse to begin with a run of other shapes, or of other latents. Raises InputError."""
        if self.adapter is None:
            start.require(self.denoiser)
        require_codec(self.codec_folder)
        require_codec(start.run.codec)
        if not self.stored_codec.agrees(start.run.codec):
            raise InputError(
                f"{start.run.path} knows the latents of its own codec, and {self.codec_folder} gives others: "
                "leave task.init_args.codec out, or train without start_from"
            )

    def require_base(self, folder: RunFolder) -> None:
        """Refuse a LoRA where the run it is an update of has changed. Raises InputError."""
        began = folder.began_with
        if self.adapter is None or self.start_from is None or not began:
            return
        if (now := Start.of(self.start_from)).facts["sha256"] != began["sha256"]:
            raise InputError(
                f"{folder.path} is a LoRA of step {began['step']} of {began['run']}, and what is in "
                f"{now.checkpoint.path} is not that any more: put it back"
            )

    def begin(self) -> Mapping[str, Any]:
        if self.start_from is None:
            return {}
        start = Start.of(self.start_from)
        if self.adapter is None:
            start.load(self.denoiser)
        return start.facts

    def sampler(self, sampling: Sampling) -> Sampler:
        """Samples from the denoiser as it stands."""
        return Sampler(self.denoiser, self.codec, sampling)

    def check(self, data: Data) -> None:
        if self.adapter is not None and self.start_from is None and not self.denoiser.backbone.read:
            raise InputError(
                "a LoRA is an update of weights that stay as they are, and those of this backbone were drawn "
                "at random: begin with a model (--task.init_args MODEL/model.yaml) or with a run "
                "(--task.init_args.start_from RUN), or leave the adapter out"
            )
        refuse_no_captions(data.train, self.caption_drop)
        if self.codec.latent_channels != self.denoiser.backbone.latent_channels:
            raise InputError(
                f"the codec in {self.codec_folder} has {self.codec.latent_channels} latent channels, the "
                f"backbone {self.denoiser.backbone.latent_channels}: make them equal"
            )
        if self.text.width != self.denoiser.backbone.text_width:
            raise InputError(
                f"the text encoder's tokens have {self.text.width} channels, the backbone reads "
                f"{self.denoiser.backbone.text_width}: set its text_width to {self.text.width}"
            )
        parts = (*parts_of(data.train), *parts_of(data.held_out))
        for source in parts:
            t, h, w = first_readable(source).pixels.shape[1:]
            self.codec.check_pixels(t, h, w, patch=self.denoiser.backbone.patch)
            TiledCodec(self.codec, self.sampling.memory).tiles(t, h, w)  # refuses too little memory
        self.sampler(self.sampling)
        for source in parts:
            for condition in self.denoiser.featured:
                if condition.asks != "frames":  # of these there are always enough
                    condition.check(stack([first_readable(source)]))

    def captions(self, source: ClipSource) -> Captions:
        return read_captions(source, self.text)

    def notes(self, data: Data) -> Sequence[str]:
        usual = usual_format(data.train)
        given = [part.format(0) for part in parts_of(data.train)]
        own = ClipFormat(*(getattr(self.sampling, name) for name in FORMAT))
        if own == usual or own in given:
            return []
        apart = [f"sampling.{name}" for name in FORMAT if getattr(own, name) != getattr(usual, name)]
        return [
            f"samples are {own}, but most clips that are trained on are {usual}: a model knows what it was "
            f"shown; leave {', '.join(apart)} unset to follow the clips"
        ]

    def prepare(self, session: Session) -> Work:
        if session.engine.main:
            copy_codec(self.codec_folder, session.folder.codec)
        sources = (session.data.train, session.data.held_out)
        captions = (caption for source in sources for caption in captions_of(source))
        prompts = list(dict.fromkeys(("", self.sampling.negative, *captions)))
        mesh = session.engine.mesh
        with StageBars(session.console) as bars:
            self.text.prepare(prompts[mesh.rank :: mesh.world], partial(bars.show, "reading captions"))
            session.engine.barrier()
            # What others have kept elsewhere, if the folder is no shared one.
            self.text.prepare(prompts, partial(bars.show, "reading captions"))
            self.text.release()  # all that training asks for is kept by now
        with self.codec_at(session.engine.device):
            train = self.encoded(session.data.train, session, "encoding clips")
            self.held_out = self.encoded(session.data.held_out, session, "encoding held-out clips")
        return Work(FlowStep(self.denoiser, self.objective), train, train.missing)

    def place_codec(self, device: torch.device) -> None:
        """Move the codec to a device, to compute there with what it is told to."""
        place_codec(self.codec, device, self.codec_dtype)

    @contextmanager
    def codec_at(self, device: torch.device) -> Iterator[None]:
        """The codec on a device while it is needed there: steps need the memory that it takes."""
        self.place_codec(device)
        try:
            yield
        finally:
            self.codec.cpu()

    def encoded(self, source: ClipSource, session: Session, title: str) -> Latents:
        """Latents of a source and what the conditions see of it (see `vdit.train.encoding`)."""
        stored, cache = self.stored_codec, self.cache / "latents"
        codec = TiledCodec(stored.codec, self.sampling.memory)
        return encoded(source, codec, stored.fingerprint, self.denoiser.featured, cache, session, title)

    def hooks(self, session: Session, work: Work, journal: Journal) -> Sequence[Hook]:
        pace, steps = session.pace, session.steps
        return [
            Validation(lambda: self.measure(session), journal, pace.validation, steps, session.console),
            Samples(lambda path: self.draw(session, path), session),
        ]

    def own_held_out(self, session: Session) -> Iterator[tuple[ClipBatch, int]]:
        """This process's part of held-out latents, a few at a time, and how many of these count.

        All have as many batches, for where weights are shared they compute together: who has run out of clips
        is given one that does not count.
        """
        mesh, at_once = session.engine.mesh, session.clips
        missing = self.held_out.missing
        there = [number for number in range(len(self.held_out)) if number not in missing]
        chosen = [there[i] for i in spread(len(there), VALIDATION_CLIPS, session.seed)]
        ends = list(accumulate(map(len, parts_of(session.data.held_out))))
        for _, group in groupby(chosen, partial(bisect_right, ends)):  # clips of one part have one shape
            alike = list(group)
            for start in range(0, len(alike), at_once * mesh.data_world):
                first = start + at_once * mesh.data_rank
                own = alike[first : first + at_once]
                batch = stack([self.held_out[i] for i in own or alike[:1]])
                yield batch.to(session.engine.device), len(own)

    def measure(self, session: Session) -> Mapping[str, float]:
        """Held-out loss at each of a few fixed sigmas, and their mean; processes share the clips."""
        sums = torch.zeros(len(SIGMAS) + 1, device=session.engine.device)
        for batch, count in self.own_held_out(session):
            rows = loss_by_sigma(self.denoiser, self.objective, batch)[:, :count]
            sums += torch.cat([rows.sum(1), rows.new_full((1,), count)])
        *losses, clips = session.engine.mean(sums).tolist()
        by_sigma = {f"loss_at_sigma_{at}": loss / clips for at, loss in zip(SIGMAS, losses, strict=True)}
        return {"loss": sum(by_sigma.values()) / len(by_sigma), **by_sigma}

    def wish(self, clips: Sequence[Clip]) -> Wish:
        """What clips that are drawn are given of held-out ones, of all that the model hears."""
        reads = {field: condition for condition in self.denoiser.featured for field in condition.reads}
        batch, t = stack(clips), self.sampling.frames
        given = cameras = None
        if isinstance(frames := reads.get("given"), GivenFrames):
            assert batch.pixels is not None  # clips have pixels
            size = (t, self.sampling.height, self.sampling.width)
            given = frames.given(F.interpolate(batch.pixels, size=size, mode="trilinear", align_corners=True))
        if "cameras" in reads and batch.cameras is not None:
            at = torch.linspace(0, batch.cameras.c2w.shape[1] - 1, t).round().long()
            cameras = Cameras(batch.cameras.intrinsics[:, at], batch.cameras.c2w[:, at])
        return Wish(given, cameras, batch.references if "references" in reads else None)

    def draw(self, session: Session, folder: Path | None) -> None:
        """Clips for held-out captions, always from the same noise, written where there is a folder."""
        source = usual_part(session.data.held_out)
        shown = spread(len(source), SHOWN_CLIPS, session.seed)
        clips = list(readable(source, shown)) or [first_readable(source)]
        prompts, count = [clip.caption for clip in clips], len(clips)
        state = torch.get_rng_state()
        wish = self.wish(clips)
        sampler, pixels = self.sampler(self.sampling), []
        with self.codec_at(session.engine.device):
            for start in range(0, count, session.clips):
                now = slice(start, start + session.clips)
                seeds, part = range(count)[now], on_tensors(wish, lambda each, now=now: each[now])
                pixels += sampler.sample(prompts[now], seeds=seeds, wish=part)
        torch.set_rng_state(state)
        if folder is None:
            return
        for i, (clip, prompt) in enumerate(zip(pixels, prompts, strict=True)):
            write_video(folder / f"{i:02d}.mp4", clip, self.sampling.fps, {"prompt": prompt, "seed": str(i)})
        contact_sheet(list(zip(pixels, prompts, strict=True)), folder / "sheet.png")


def _codec_of(codec: str | None, start_from: Path | None) -> Path:
    """The folder of the codec that is named, or of the run that is begun with."""
    if codec is not None:
        return Path(codec)
    if start_from is None:
        raise InputError("task.init_args.codec is missing: name the folder of a trained codec")
    return run_of(start_from).codec
