"""The one trained module of a diffusion run: a backbone and the conditions that feed it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vdit.conditions.condition import Condition, Featured, Known
from vdit.draws import Draws
from vdit.models.backbone import VideoBackbone
from vdit.types import ClipBatch, DenoiserInput, Kept

__all__ = ["Denoiser", "Signals"]

Signals = tuple[Any, ...]
"""One signal a condition, in the order of `Denoiser.conditions`."""


class Denoiser(nn.Module):
    """Predicts velocity from noisy latents, sigma and what the conditions ask for.

    Args:
        backbone: the transformer.
        conditions: what it listens to; each must fill a slot the backbone accepts.

    Raises:
        InputError: a condition whose slot the backbone does not accept.
    """

    def __init__(self, backbone: VideoBackbone, conditions: Sequence[Condition]) -> None:
        super().__init__()
        backbone.check_slots(frozenset(slot for condition in conditions for slot in condition.slots))
        self.backbone = backbone
        self.conditions = nn.ModuleList(conditions)

    def _listeners(self) -> list[Condition]:
        return cast(list[Condition], list(self.conditions))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, modules behave as in use; outside, as they did before."""
        before = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(before)

    @torch.no_grad()
    def signals(self, batch: ClipBatch) -> Signals:
        """What the batch asks of every condition."""
        return tuple(condition.signal(batch) for condition in self._listeners())

    @torch.no_grad()
    def drawn(self, batch: ClipBatch, draws: Draws) -> Signals:
        """What training asks for: each condition is hidden from each clip with a probability of its own."""
        return tuple(condition.drawn(batch, draws) for condition in self._listeners())

    def known(self, signals: Signals) -> Known | None:
        """The latents that conditions make known, if any does; where several do, those of the last."""
        rows = zip(self._listeners(), signals, strict=True)
        found = [known for c, signal in rows if (known := c.known(signal)) is not None]
        if not found:
            return None
        latents, mask = found[0]
        for more in found[1:]:
            latents = torch.lerp(latents, more.latents, more.mask)
            mask = torch.maximum(mask, more.mask)
        return Known(latents, mask)

    @property
    def featured(self) -> list[Featured]:
        """The conditions that see something of clips which can be kept."""
        return [condition for condition in self._listeners() if isinstance(condition, Featured)]

    @torch.no_grad()
    def stack(self, branches: Sequence[Signals]) -> Signals:
        """The signals of all branches of guidance along one batch, for one evaluation."""
        rows = zip(self._listeners(), zip(*branches, strict=True), strict=True)
        return tuple(condition.stack(signals) for condition, signals in rows)

    @torch.no_grad()
    def against(self, batch: ClipBatch, signals: Signals) -> Signals:
        """What guidance leads away from: the text of the batch, and nothing of what is asked besides."""
        rows = zip(self._listeners(), signals, strict=True)
        return tuple(c.signal(batch) if c.asks == "text" else c.null(signal) for c, signal in rows)

    def hearing(self, signals: Signals, nulls: Signals, asked: Collection[str]) -> Signals:
        """The signals of the conditions on what is asked, and the nulls of the others."""
        rows = zip(self._listeners(), signals, nulls, strict=True)
        return tuple(signal if condition.asks in asked else null for condition, signal, null in rows)

    def asks(self) -> frozenset[str]:
        """What can be asked."""
        return frozenset(condition.asks for condition in self._listeners())

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        sigma: Float[Tensor, "b"],
        signals: Signals,
        kept: Kept | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Velocity at `latents` = x_sigma.

        Args:
            latents: x_sigma.
            sigma: of every clip; where latents are known it is 0.
            signals: of the conditions.
            kept: what earlier evaluations with the same signals computed, where there are many.
        """
        inputs = DenoiserInput(latents, rearrange(sigma, "b -> b 1 1 1"), kept=kept)
        for condition, signal in zip(self._listeners(), signals, strict=True):
            inputs = condition.fill(inputs, signal)
        if self.backbone.arithmetic is torch.float32:
            return self.backbone(inputs)
        with torch.autocast(latents.device.type, dtype=self.backbone.arithmetic):
            return self.backbone(inputs).to(latents.dtype)
