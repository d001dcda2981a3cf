"""A small model with all its weights at random, and a text encoder to go with it."""

from collections.abc import Sequence
from typing import Any

import torch

from vdit.models.wan.dit import WanDiT
from vdit.text.encoder import TextEncoder, pad
from vdit.types import Tokens


class Letters(TextEncoder):
    """One token a letter."""

    width = 6  # pyright: ignore[reportAssignmentType]
    fingerprint = "letters"  # pyright: ignore[reportAssignmentType]

    def encode(self, prompts: Sequence[str]) -> Tokens:
        ramp = torch.linspace(-1, 1, 6)
        return pad([torch.tensor([ord(c) / 100 for c in p] or [0.0])[:, None] * ramp for p in prompts])


def backbone(seed: int = 0) -> WanDiT:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"text_width": 6, "text_length": 9, "width": 24, "hidden": 32, "heads": 2}
    model = WanDiT(latent_channels=4, sigma_channels=16, depth=2, **sizes)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return model.requires_grad_(False)
