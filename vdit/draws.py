"""The random numbers of a training step."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

__all__ = ["Draws"]


class Draws:
    """Random numbers for the clips of a batch, which all ranks share evenly.

    What a clip is given depends on the seed and on its place in the batch of all ranks, not on how many ranks
    there are: a step is the same step on one device and on a hundred. Few numbers are drawn for all clips by
    everyone, on the CPU; much noise is drawn by who needs it, from a seed of each clip.

    Args:
        seed: another seed, other numbers.
        rank: whose clips are asked for, among `world`; each has as many.
        world: how many share the batch.
    """

    def __init__(self, seed: int, rank: int = 0, world: int = 1) -> None:
        self.seed, self.rank, self.world = seed, rank, world
        self._shared = Generator().manual_seed(seed)
        self._noises = 0

    @classmethod
    def named(cls, seed: int, name: str) -> "Draws":
        """Numbers of one clip outside training: by its name."""
        return cls(_seed(f"{seed} {name}"))

    def uniform(self, n: int, *shape: int) -> Float[Tensor, "n *shape"]:
        """Numbers in [0, 1) for each of `n` clips, on the CPU."""
        return self._own(torch.rand(self.world * n, *shape, generator=self._shared), n)

    def strata(self, n: int) -> Float[Tensor, "n"]:
        """A number in [0, 1) for each of `n` clips: those of all ranks come one from each equal slice."""
        whole = self.world * n
        slices = torch.randperm(whole, generator=self._shared)
        return self._own((slices + torch.rand(whole, generator=self._shared)) / whole, n)

    def same(self, n: int) -> Float[Tensor, "n"]:
        """Numbers in [0, 1), the same for all clips, on the CPU."""
        return torch.rand(n, generator=self._shared)

    def order(self, n: int) -> Int64[Tensor, "n"]:
        """0 to n - 1 in an order that is the same for all clips, on the CPU."""
        return torch.randperm(n, generator=self._shared)

    def normal(self, shape: Sequence[int], like: Tensor) -> Float[Tensor, "*shape"]:
        """Unit Gaussian noise, one row a clip, on the device and of the type of `like`."""
        n, generator = shape[0], Generator(like.device)
        rows = torch.empty(tuple(shape), device=like.device, dtype=like.dtype)
        for i, row in enumerate(rows):
            row.normal_(generator=generator.manual_seed(self._key(self.rank * n + i)))
        self._noises += 1
        return rows

    def _own(self, rows: Tensor, n: int) -> Tensor:
        return rows[self.rank * n : (self.rank + 1) * n]

    def _key(self, place: int) -> int:
        """A seed for the clip at a place, another for each noise that is drawn."""
        return _seed(f"{self.seed} {self._noises} {place}")


def _seed(said: str) -> int:
    """A seed that torch takes, another for each text."""
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1
