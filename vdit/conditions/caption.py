"""The caption: a text encoder's tokens in the slot `text`."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from vdit.conditions.condition import Condition
from vdit.draws import Draws
from vdit.text.encoder import TextEncoder
from vdit.types import ClipBatch, DenoiserInput, Slot, Tokens, onto

__all__ = ["Caption"]


class Caption(Condition[Tokens]):
    """Asks for what a text says. Its null is the embedding of the empty prompt.

    Args:
        encoder: turns prompts into tokens; frozen, and no part of the weights that are trained.
        drop: probability of training a clip without its caption.
    """

    name = "caption"
    slots = frozenset({Slot.TEXT})
    asks = "text"

    def __init__(self, encoder: TextEncoder, drop: float = 0.1) -> None:
        super().__init__(drop)
        self.encoder = encoder

    def signal(self, batch: ClipBatch) -> Tokens:
        return _on(self.encoder.encode(batch.captions), batch.fps.device)

    def null(self, signal: Tokens) -> Tokens:
        one = _on(self.encoder.encode([""]), signal.values.device)
        b = signal.values.shape[0]
        return Tokens(one.values.expand(b, -1, -1), one.mask.expand(b, -1))

    def mix(self, signal: Tokens, null: Tokens, hidden: Bool[Tensor, "b"]) -> Tokens:
        signal, null = _same_length([signal, null])
        rows = hidden[:, None]
        return Tokens(
            torch.where(rows[..., None], null.values, signal.values),
            torch.where(rows, null.mask, signal.mask),
        )

    def stack(self, signals: Sequence[Tokens]) -> Tokens:
        return Tokens(*(torch.cat(parts) for parts in zip(*_same_length(signals), strict=True)))

    def drawn(self, batch: ClipBatch, draws: Draws) -> Tokens:
        # Hidden captions need not be encoded, nor anything be mixed.
        hidden = self.hidden(batch, draws).numpy()
        said = ["" if none else caption for caption, none in zip(batch.captions, hidden, strict=True)]
        return _on(self.encoder.encode(said), batch.fps.device)

    def fill(self, inputs: DenoiserInput, signal: Tokens) -> DenoiserInput:
        return replace(inputs, text=signal)


def _on(tokens: Tokens, device: torch.device) -> Tokens:
    return Tokens(onto(tokens.values, device), onto(tokens.mask, device))


def _same_length(all_tokens: Sequence[Tokens]) -> list[Tokens]:
    n = max(tokens.mask.shape[1] for tokens in all_tokens)

    def padded(x: Tokens) -> Tokens:
        more = n - x.mask.shape[1]
        if more == 0:  # padding by nothing would copy
            return x
        return Tokens(F.pad(x.values, (0, 0, 0, more)), F.pad(x.mask, (0, more)))

    return [padded(tokens) for tokens in all_tokens]
