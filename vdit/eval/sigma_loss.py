"""Held-out loss at fixed noise levels: the curve that answers "is my loss right?"."""

from collections.abc import Iterable, Sequence

import torch
from torch import Generator

from vdit.denoiser import Denoiser
from vdit.flow.objective import FlowMatching, noised
from vdit.types import ClipBatch

__all__ = ["SIGMAS", "sigma_loss"]

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)


@torch.no_grad()
def sigma_loss(
    denoiser: Denoiser,
    objective: FlowMatching,
    batches: Iterable[ClipBatch],
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
) -> dict[float, float]:
    """Mean velocity error at each sigma, with the same noise at every call.

    The training loss mixes noise levels and new noise at every step, so it is flat long before the
    model is; at a fixed sigma and noise the error keeps falling while the model learns.
    """
    sums, clips = dict.fromkeys(sigmas, 0.0), 0
    with denoiser.evaluating():
        for number, batch in enumerate(batches):
            assert batch.latents is not None  # a flow model is validated on latents
            generator = Generator(device=batch.latents.device).manual_seed(seed * 1_000_003 + number)
            x0, signals = batch.latents, denoiser.signals(batch)
            known = denoiser.known(signals)
            mask = None if known is None else known.mask
            noise = torch.randn(x0.shape, generator=generator, device=x0.device)
            for sigma in sigmas:
                at = noised(x0, torch.full((len(batch),), sigma, device=x0.device), noise)
                sums[sigma] += objective.loss(denoiser(at.x, at.sigma, signals), at, mask).sum().item()
            clips += len(batch)
    return {sigma: total / clips for sigma, total in sums.items()}
