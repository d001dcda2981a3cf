"""What every condition has in common."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jaxtyping import Bool
from torch import Tensor, nn

from vdit.types import ClipBatch, DenoiserInput, InputError, Slot

__all__ = ["Condition"]

Signal = TypeVar("Signal")


class Condition(nn.Module, ABC, Generic[Signal]):
    """Something a clip is asked to show: it reads a batch and fills one slot of the denoiser's input.

    Attributes:
        name: how messages and configs call it.
        slot: the place it fills.
        drop: probability that training hides it from a clip, so that guidance has a null to start from.
    """

    name: str
    slot: Slot

    def __init__(self, drop: float) -> None:
        super().__init__()
        if not 0 <= drop <= 1:
            raise InputError(f"{type(self).__name__} drop {drop} must lie in [0, 1]")
        self.drop = drop

    @abstractmethod
    def signal(self, batch: ClipBatch) -> Signal:
        """What the batch asks for; frozen, without gradient."""

    @abstractmethod
    def null(self, signal: Signal) -> Signal:
        """What stands for "nothing asked", for as many clips as `signal` has."""

    @abstractmethod
    def mix(self, signal: Signal, null: Signal, hidden: Bool[Tensor, "b"]) -> Signal:
        """`null` for the clips that are hidden, `signal` for the others."""

    @abstractmethod
    def stack(self, signal: Signal, null: Signal) -> Signal:
        """Both, one after the other along the batch, for two guidance branches in one evaluation."""

    @abstractmethod
    def apply(self, inputs: DenoiserInput, signal: Signal) -> DenoiserInput:
        """`inputs` with this condition's slot filled."""
