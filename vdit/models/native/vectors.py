"""Numbers said of clips, or of each of their latent frames, for the embedding that modulates every block."""

from collections.abc import Mapping

import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from vdit.nn.mlp import MLP
from vdit.types import InputError

__all__ = ["VectorsIn"]


class VectorsIn(nn.Module):
    """Adds what is said to the embedding of sigma; nothing at first.

    Args:
        sizes: how many numbers each says, by name.
        width: channels of the embedding.
    """

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.embed = nn.ModuleDict({name: MLP(size, width, width) for name, size in sizes.items()})

    def silence(self) -> None:
        """Let all of them add nothing."""
        for mlp in self.embed.values():
            nn.init.zeros_(mlp.get_parameter("down.weight"))
            nn.init.zeros_(mlp.get_parameter("down.bias"))

    def forward(
        self,
        vector: Float[Tensor, "b r d"],
        vectors: Mapping[str, Float[Tensor, "b #t d_vector"]],
        frames: int,
        rows: int,
    ) -> Float[Tensor, "b r d"]:
        """The embedding with all that is said.

        Args:
            vector: of a row for each clip, each frame or each token, and maybe of more behind them.
            vectors: what is said, by name.
            frames: patches along time.
            rows: those of the clips; what is said of frames does not reach those behind them.

        Raises:
            InputError: a name that this model does not know, or of another size.
        """
        for name, numbers in vectors.items():
            if self.sizes.get(name) != numbers.shape[-1]:
                raise InputError(
                    f"{numbers.shape[-1]} numbers are said of {name}, and this model takes "
                    f"{self.sizes or 'none'}: set its vectors to {{{name}: {numbers.shape[-1]}}}"
                )
            if numbers.shape[1] == 1:
                vector = vector + self.embed[name](numbers)
                continue
            said = self.embed[name](reduce(numbers, "b (t pt) d -> b t d", "mean", t=frames))
            said = said.repeat_interleave(rows // frames, dim=1)
            vector = vector + F.pad(said, (0, 0, 0, vector.shape[1] - rows))
        return vector
