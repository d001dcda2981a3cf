"""What a process holds of the weights that are trained: all of each, or a part."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Weights", "WholeWeights"]


class Weights(ABC):
    """The trainable weights of a module, as they are spread over ranks.

    A piece is what this rank has of one weight. All ranks call `joined` and `put` together, and the main one
    is given what is joined: the others may have no room for it.
    """

    @abstractmethod
    def pieces(self) -> dict[str, Tensor]:
        """This rank's pieces, by the names of the weights, without gradient; not copies."""

    @abstractmethod
    def piece(self, name: str, whole: Tensor) -> Tensor:
        """This rank's piece of a weight that is at hand in full."""

    @abstractmethod
    def joined(self, pieces: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole weights from every rank's pieces, for the main rank; nothing, or as much, for others."""

    @abstractmethod
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        """Have the module compute with weights of these pieces, whatever the optimiser goes on with."""


class WholeWeights(Weights):
    """Every rank has all of every weight, on the device where it stays."""

    def __init__(self, module: nn.Module) -> None:
        self._live = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def pieces(self) -> dict[str, Tensor]:
        return self._live

    def piece(self, name: str, whole: Tensor) -> Tensor:
        return whole

    def joined(self, pieces: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(pieces)

    @torch.no_grad()
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(pieces[name])
