"""Held-out loss at fixed noise levels: the curve that answers "is my loss right?"."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.flow.objective import FlowMatching, noised
from vdit.types import ClipBatch

__all__ = ["SIGMAS", "loss_by_sigma", "sigma_loss"]

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)


@torch.no_grad()
def loss_by_sigma(
    denoiser: Denoiser,
    objective: FlowMatching,
    batch: ClipBatch,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
) -> Float[Tensor, "s b"]:
    """The velocity error of every clip at each sigma.

    A clip's noise is that of its name, so that it does not depend on which clips it is measured with.
    """
    assert batch.latents is not None  # a flow model is validated on latents
    x0, signals = batch.latents, denoiser.signals(batch)
    known = denoiser.known(signals)
    mask = None if known is None else known.mask
    noise = torch.cat([Draws.named(seed, name).normal(x0[:1].shape, x0) for name in batch.ids])
    rows = []
    with denoiser.evaluating():
        for sigma in sigmas:
            at = noised(x0, torch.full((len(batch),), sigma, device=x0.device), noise)
            rows.append(objective.loss(denoiser(at.x, at.sigma, signals), at, mask))
    return torch.stack(rows)


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
    rows = torch.cat([loss_by_sigma(denoiser, objective, batch, sigmas, seed) for batch in batches], dim=1)
    return dict(zip(sigmas, rows.mean(1).tolist(), strict=True))
