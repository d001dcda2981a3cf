"""A text encoder without weights, which configurations of tests name by its class path."""

from collections.abc import Sequence

import torch

from vdit.text.encoder import TextEncoder, pad
from vdit.types import Tokens


class LetterText(TextEncoder):
    """One token a letter: a fixed random vector."""

    @property
    def width(self) -> int:
        return 8

    @property
    def fingerprint(self) -> str:
        return "letters"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        table = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))
        return pad([table[[ord(letter) % 128 for letter in f"<{prompt}"]] for prompt in prompts])
