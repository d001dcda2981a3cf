"""Prompts in, pixels out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.denoiser import Denoiser, Signals
from vdit.flow.guidance import ClassifierFree
from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.solver import Euler, Heun, schedule
from vdit.types import ClipBatch, InputError

__all__ = ["Sampler", "Sampling"]

CHECKED = (("fps", "above 0"), ("shift", "above 0"), ("memory", "above 0"), ("guidance", "0 or more"))
SOLVERS = {"euler": Euler, "heun": Heun, "unipc": UniPC, "dpm++": DPMSolverPP}


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled.

    Args:
        frames: pixel frames; must fit the codec (1 + 4n for the native one).
        height: pixel rows.
        width: pixel columns.
        fps: frames per second of the file.
        steps: solver steps.
        guidance: scale of classifier-free guidance; 1 is none.
        shift: moves the steps towards noise; 1 spaces them evenly.
        solver: euler, heun (two evaluations a step), or those that learn from earlier steps: unipc and dpm++.
        memory: GiB that decoding may take, about; clips that need more are decoded in pieces.
    """

    frames: int = 9
    height: int = 64
    width: int = 64
    fps: float = 8.0
    steps: int = 25
    guidance: float = 3.0
    shift: float = 1.0
    solver: Literal["euler", "heun", "unipc", "dpm++"] = "euler"
    memory: float = 8.0

    def __post_init__(self) -> None:
        for name, least in CHECKED:
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above 0"):
                raise InputError(f"sampling.{name} is {value}, but must be a number {least}")
        if self.steps < 1:
            raise InputError(f"sampling.steps is {self.steps}, but must be at least 1")


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
        self.latent_size = codec.latent_size(sampling.frames, sampling.height, sampling.width)
        denoiser.backbone.check_shape(*self.latent_size)

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
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Float[Tensor, "b c t h w"]:
        """Normalised latents of one clip a prompt."""
        fps = torch.full((len(prompts),), self.sampling.fps, device=self.device)
        asked = self.denoiser.signals(ClipBatch(tuple(map(str, seeds)), tuple(prompts), fps))
        nulls = self.denoiser.nulls(asked)
        both = self.denoiser.stack(asked, nulls)
        guidance = ClassifierFree(self.sampling.guidance)

        def velocity(x: Tensor, sigma: float) -> Tensor:
            if not guidance.acts(sigma):
                return self._velocity(x, sigma, asked)
            conditional, null = self._velocity(torch.cat([x, x]), sigma, both).chunk(2)
            return guidance.compose(conditional, null)

        sigmas = schedule(self.sampling.steps, self.sampling.shift)
        solver = SOLVERS[self.sampling.solver]()
        with self.denoiser.evaluating():
            return solver.solve(velocity, self.noise(seeds), sigmas, progress)

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Pixels in [-1, 1] of one clip a prompt, on the CPU.

        Args:
            prompts: what to show.
            seeds: one a clip; the same prompt, seed and settings give the same clip.
            progress: called with (solver steps done, in all).
        """
        latents = self.latents(prompts, seeds, progress)
        return TiledCodec(self.codec, self.sampling.memory).decode(latents).float().cpu()

    def _velocity(self, x: Tensor, sigma: float, signals: Signals) -> Tensor:
        return self.denoiser(x, torch.full((x.shape[0],), sigma, device=x.device), signals)
