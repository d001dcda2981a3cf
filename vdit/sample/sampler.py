"""Prompts in, pixels out."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.data.motion import motion_score
from vdit.data.stack import stack
from vdit.denoiser import Denoiser
from vdit.flow.guidance import Guidance
from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.solver import Euler, Heun, Progress, schedule
from vdit.sample.guided import Guided
from vdit.types import Cameras, Clip, ClipBatch, Given, InputError, References, Repaint, on_tensors

__all__ = ["FORMAT", "NOTHING", "Sampler", "Sampling", "SamplingSettings", "Wish", "wish_of"]

CHECKED = (
    ("fps", "above 0"),
    ("shift", "above 0"),
    ("memory", "above 0"),
    ("guidance", "0 or more"),
    ("low_guidance", "0 or more"),
    ("guidance_frames", "0 or more"),
    ("guidance_references", "0 or more"),
    ("guidance_camera", "0 or more"),
)
SOLVERS = {"euler": Euler, "heun": Heun, "unipc": UniPC, "dpm++": DPMSolverPP}


FORMAT = {"frames": "--frames", "height": "--size", "width": "--size", "fps": "--fps"}
"""What a sampled clip has in common with those that are trained on, and the options of `sample.py`."""

REFUSALS = {
    "given": "takes no images: leave them out",
    "cameras": "follows no camera: leave it out",
    "references": "takes no references: leave them out",
    "motion": "hears no motion score: leave it out",
    "repaint": "repaints no videos: leave the video out",
}
"""What is said where a model has no condition that reads a field of a batch."""


@dataclass(frozen=True)
class SamplingSettings:
    """How a clip is sampled, where length, size and rate may be left to the clips that are trained on.

    Args:
        frames: pixel frames; must fit the codec (1 + 4n for the native one). By default those of the clips.
        height: pixel rows; by default those of the clips.
        width: pixel columns; by default those of the clips.
        fps: frames per second of the file; by default those of the clips.
        steps: solver steps.
        guidance: scale of classifier-free guidance by the text; 1 is none.
        shift: moves the steps towards noise; 1 spaces them evenly.
        solver: euler, heun (two evaluations a step), or those that learn from earlier steps: unipc and dpm++.
        memory: GiB that coding may take, about; clips that need more are coded in pieces.
        negative: the prompt that guidance leads away from.
        first: where the even spacing of the steps begins, before the shift.
        whole_steps: whether the model is told sigma in whole thousandths, cut off, as Wan's was trained.
        low_guidance: scale of guidance for sigma below `boundary`; None is the same everywhere.
        boundary: sigma from which `guidance` takes over from `low_guidance`.
        guidance_frames: scale of guidance by given frames; 1 is none. Each change from one scale to the
            next, in the order frames, references, camera, text, costs an evaluation more.
        guidance_references: scale of guidance by references; 1 is none.
        guidance_camera: scale of guidance by the camera; 1 is none.
    """

    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    steps: int = 25
    guidance: float = 3.0
    shift: float = 1.0
    solver: Literal["euler", "heun", "unipc", "dpm++"] = "euler"
    memory: float = 8.0
    negative: str = ""
    first: float = 1.0
    whole_steps: bool = False
    low_guidance: float | None = None
    boundary: float = 0.0
    guidance_frames: float = 1.0
    guidance_references: float = 1.0
    guidance_camera: float = 1.0

    def __post_init__(self) -> None:
        for name, least in CHECKED:
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
                raise InputError(f"sampling.{name} is {value}, but must be a number {least}")
        if self.steps < 1:
            raise InputError(f"sampling.steps is {self.steps}, but must be at least 1")
        for name in ("first", "boundary"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"sampling.{name} is {getattr(self, name)}, but must lie in [0, 1]")

    def whole(self) -> "Sampling":
        """The same, with nothing left open. Raises InputError where something is."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if unset := [name for name in FORMAT if settings[name] is None]:
            options = " ".join(dict.fromkeys(FORMAT[name] for name in unset))
            raise InputError(
                f"nothing says the {', '.join(unset)} of clips to sample: set sampling.{unset[0]} and the "
                f"like, or give {options}"
            )
        return Sampling(**settings)

    def told(self, sigma: float) -> float:
        """What the model is told of a step's sigma."""
        return math.floor(1000 * sigma) / 1000 if self.whole_steps else sigma

    def leads(self) -> Guidance:
        """Guidance of this strength."""
        low = self.guidance if self.low_guidance is None else self.low_guidance
        besides = (self.guidance_frames, self.guidance_references, self.guidance_camera)
        return Guidance(self.guidance, *besides, low, self.boundary)


@dataclass(frozen=True)
class Sampling(SamplingSettings):
    """How a clip is sampled, its length, size and rate included. See `SamplingSettings`."""

    frames: int = 9
    height: int = 64
    width: int = 64
    fps: float = 8.0


@dataclass(frozen=True)
class Wish:
    """What clips are asked for besides their prompts.

    Attributes:
        given: frames that are given, one clip of them for each prompt.
        cameras: a path of the camera for each prompt.
        references: images of who or what shall be in the clip, for each prompt.
        motion: how much shall move, for each prompt, as `vdit.data.motion` measures it.
        repaint: a video to be painted anew in part, for each prompt.
    """

    given: Given | None = None
    cameras: Cameras | None = None
    references: References | None = None
    motion: Float[Tensor, "b"] | None = None
    repaint: Repaint | None = None

    def of(self, count: int) -> "Wish":
        """This wish, which is for one clip, for as many clips."""
        return on_tensors(self, lambda one: one.expand(count, *one.shape[1:]))


NOTHING = Wish()


def wish_of(clips: Sequence[Clip], frames: Sequence[int], asked: Collection[str] = ()) -> Wish:
    """Frames of clips, and what of `camera`, `references` and `motion` is asked, to be shown again."""
    batch = stack(clips)
    assert batch.pixels is not None  # clips have pixels
    known = {"camera": batch.cameras, "references": batch.references}
    if missing := [name for name in asked if name in known and known[name] is None]:
        raise InputError(f"these clips know no {missing[0]}: leave it out")
    return Wish(
        Given.of(batch.pixels, frames) if frames else None,
        batch.cameras if "camera" in asked else None,
        batch.references if "references" in asked else None,
        motion_score(batch.pixels, batch.fps) if "motion" in asked else None,
    )


class Sampler:
    """Samples clips from a denoiser and decodes them.

    Args:
        denoiser: trained; used as it is.
        codec: the codec whose latents it was trained on.
        sampling: the settings.

    Raises:
        InputError: a size that the codec or the patches of the backbone do not divide.
    """

    def __init__(self, denoiser: Denoiser, codec: VideoCodec, sampling: Sampling) -> None:
        self.denoiser, self.codec, self.sampling = denoiser, codec, sampling
        size = (sampling.frames, sampling.height, sampling.width)
        self.latent_size = codec.latent_size(*size, patch=denoiser.backbone.patch)

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def noise(self, seeds: Sequence[int]) -> Float[Tensor, "b c t h w"]:
        """Unit Gaussian latents, each clip from its own seed: a clip does not depend on its neighbours."""
        shape = (self.codec.latent_channels, *self.latent_size)
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(self.device)

    @torch.inference_mode()
    def latents(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress = lambda done, total: None,
        wish: Wish = NOTHING,
    ) -> Float[Tensor, "b c t h w"]:
        """Normalised latents of one clip a prompt."""
        noise = self.noise(seeds)
        batch = self._batch(tuple(map(str, seeds)), tuple(prompts), noise, wish).to(self.device)
        batch = replace(batch, features=self.features(batch))
        asked = self.denoiser.signals(batch)
        negative = replace(batch, captions=(self.sampling.negative,) * len(batch))
        against = self.denoiser.against(negative, asked)
        guided = Guided(self.denoiser, asked, against, self.sampling.leads(), self.sampling.told)
        sigmas = schedule(self.sampling.steps, self.sampling.shift, self.sampling.first)
        solver = SOLVERS[self.sampling.solver]()
        with self.denoiser.evaluating():
            latents = solver.solve(guided, noise, sigmas, progress)
        known = self.denoiser.known(asked)
        return latents if known is None else torch.lerp(latents, known.latents, known.mask)

    def check(self, wish: Wish) -> None:
        """Refuse what sampling one clip would be refused for, before any of it is done.

        Raises:
            InputError: what the model has no use for or lacks, or too little memory to code a clip in.
        """
        latents = torch.empty(1, self.codec.latent_channels, *self.latent_size, device="meta")
        batch = self._batch(("",), ("",), latents, wish)
        self.check_batch(batch)
        TiledCodec(self.codec, self.sampling.memory).pieces(self.latent_size, latents)

    def _batch(
        self, ids: tuple[str, ...], prompts: tuple[str, ...], latents: Tensor, wish: Wish
    ) -> ClipBatch:
        """The clips that are to be sampled, as conditions look at them."""
        return ClipBatch(
            ids=ids,
            captions=prompts,
            fps=torch.full((len(prompts),), self.sampling.fps),
            latents=latents,
            given=wish.given,
            cameras=wish.cameras,
            references=wish.references,
            motion=wish.motion,
            repaint=wish.repaint,
        )

    def check_batch(self, batch: ClipBatch) -> None:
        """Refuse what is given and not the model's. Raises InputError."""
        conditions = self.denoiser.featured
        for field, refusal in REFUSALS.items():
            if getattr(batch, field) is not None and all(field not in c.reads for c in conditions):
                raise InputError(f"this model {refusal}, or give a model that does")
        for condition in conditions:
            condition.check(batch)

    def features(self, batch: ClipBatch) -> dict[str, Tensor]:
        """What the conditions see of what is given. Raises InputError where that is not theirs."""
        self.check_batch(batch)
        codec = TiledCodec(self.codec, self.sampling.memory)
        return {condition.name: condition.feature(batch, codec) for condition in self.denoiser.featured}

    def decoded(self, latents: Float[Tensor, "b c t h w"]) -> Iterator[Float[Tensor, "3 t h w"]]:
        """Pixels in [-1, 1] of one clip after the other, on the CPU: one can be kept before the next."""
        codec = TiledCodec(self.codec, self.sampling.memory)
        for one in latents.split(1):
            with torch.inference_mode():
                pixels = codec.decode(one)[0].float().cpu()
            yield pixels

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress = lambda done, total: None,
        wish: Wish = NOTHING,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Pixels in [-1, 1] of one clip a prompt, on the CPU.

        Args:
            prompts: what to show.
            seeds: one a clip; the same prompt, seed and settings give the same clip.
            progress: called with (solver steps done, in all).
            wish: frames and cameras, for models that take them.

        Raises:
            InputError: frames or cameras that the model needs and did not get, or has no use for.
        """
        return torch.stack(list(self.decoded(self.latents(prompts, seeds, progress, wish))))
