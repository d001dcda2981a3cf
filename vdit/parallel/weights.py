"""What a process holds of the weights that are trained: all of each, or a part."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vdit.weights.slices import Slice, entry_of, whole_slice
from vdit.weights.source import Entry, WeightSource

__all__ = ["Weights", "WholeWeights"]


class Weights(ABC):
    """The trainable weights of a module, as they are spread over ranks.

    A piece is what this rank has of one weight. All ranks call `put` together.
    """

    @abstractmethod
    def pieces(self) -> dict[str, Tensor]:
        """This rank's pieces, by the names of the weights, without gradient; not copies."""

    @abstractmethod
    def piece(self, name: str, source: WeightSource) -> Tensor:
        """This rank's piece of a weight that `source` has in full; no more of it is read."""

    @abstractmethod
    def entries(self) -> dict[str, Entry]:
        """What the whole weights are, on every rank."""

    @abstractmethod
    def slices(self, pieces: Mapping[str, Tensor]) -> list[Slice]:
        """What this rank saves of whole weights that have these pieces; not copies. The slices of all ranks
        together are every value once.
        """

    @abstractmethod
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        """Have the module compute with weights of these pieces, whatever the optimiser goes on with."""


class WholeWeights(Weights):
    """Every rank has all of every weight, on the device where it stays.

    Args:
        module: whose weights they are.
        saves: whether this rank saves them; one does.
    """

    def __init__(self, module: nn.Module, saves: bool = True) -> None:
        self._live = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        self._saves = saves

    def pieces(self) -> dict[str, Tensor]:
        return self._live

    def piece(self, name: str, source: WeightSource) -> Tensor:
        return source.tensor(name)

    def entries(self) -> dict[str, Entry]:
        return {name: entry_of(p) for name, p in self._live.items()}

    def slices(self, pieces: Mapping[str, Tensor]) -> list[Slice]:
        return [whole_slice(name, piece) for name, piece in pieces.items()] if self._saves else []

    @torch.no_grad()
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(pieces[name])
