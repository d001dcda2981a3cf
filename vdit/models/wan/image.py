"""Tokens of given images, as Wan 2.1 reads them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vdit.types import InputError

__all__ = ["ImageIn"]


class ImageIn(nn.Module):
    """Tokens of an image encoder to tokens of the transformer.

    Args:
        image_width: channels of the encoder's tokens.
        width: channels of the transformer's.
        places: tokens of all images together, where they carry a learnt position (first and last frame); or
            None.

    Shapes: `b k d_image` -> `b k d`.
    """

    def __init__(self, image_width: int, width: int, places: int | None) -> None:
        super().__init__()
        self.position = None if places is None else nn.Parameter(torch.zeros(1, places, image_width))
        self.norm_in = nn.LayerNorm(image_width)
        self.up = nn.Linear(image_width, image_width)
        self.down = nn.Linear(image_width, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, image: Float[Tensor, "b k d_image"]) -> Float[Tensor, "b k d"]:
        if self.position is not None:
            if image.shape[1] != self.position.shape[1]:
                raise InputError(
                    f"this model takes {self.position.shape[1]} image tokens, of a first and a last frame, "
                    f"and got {image.shape[1]}"
                )
            image = image + self.position
        # The exact GELU, not the tanh form of every other layer.
        return self.norm_out(self.down(nn.functional.gelu(self.up(self.norm_in(image)))))
