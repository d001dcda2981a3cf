"""What every condition has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.draws import Draws
from vdit.types import ClipBatch, DenoiserInput, Given, InputError, Slot, onto

__all__ = ["Condition", "Featured", "GivenFrames", "Known", "Rows"]

Signal = TypeVar("Signal")
Field = Literal["given", "cameras", "references", "motion", "repaint"]


class Known(NamedTuple):
    """Latents that are known: their sigma is 0, they carry no loss, and what is sampled keeps them.

    Attributes:
        latents: clean; what stands where `mask` is 0 is undefined.
        mask: 1 where a latent is known.
    """

    latents: Float[Tensor, "b c t h w"]
    mask: Float[Tensor, "b 1 t h w"]


class Condition(nn.Module, ABC, Generic[Signal]):
    """Something a clip is asked to show: it reads a batch and fills slots of the denoiser's input.

    Attributes:
        name: how messages and configs call it.
        slots: the places it fills.
        asks: what a user gives for it, and what guidance has a scale for.
        drop: probability that training hides it from a clip, so that guidance has a null to start from.
    """

    name: str
    slots: frozenset[Slot]
    asks: Literal["text", "frames", "camera", "references"]

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
    def stack(self, signals: Sequence[Signal]) -> Signal:
        """All, one after the other along the batch, for branches of guidance in one evaluation."""

    def drawn(self, batch: ClipBatch, draws: Draws) -> Signal:
        """What training asks for: `signal`, hidden from some of the clips."""
        signal = self.signal(batch)
        return self.mix(signal, self.null(signal), onto(self.hidden(batch, draws), batch.fps.device))

    def hidden(self, batch: ClipBatch, draws: Draws) -> Bool[Tensor, "b"]:
        """From which clips training hides this condition; on the CPU."""
        return draws.uniform(len(batch)) < self.drop

    def known(self, signal: Signal) -> Known | None:
        """Latents that the signal makes known; nothing, for most conditions."""
        return None

    @abstractmethod
    def fill(self, inputs: DenoiserInput, signal: Signal) -> DenoiserInput:
        """`inputs` with this condition's slots filled."""


class Rows(Condition[Tensor]):
    """A condition whose signal is one tensor with a row a clip, and whose null is zeros."""

    def null(self, signal: Tensor) -> Tensor:
        return torch.zeros_like(signal)

    def mix(self, signal: Tensor, null: Tensor, hidden: Bool[Tensor, "b"]) -> Tensor:
        return torch.where(hidden.view(-1, *[1] * (signal.ndim - 1)), null, signal)

    def stack(self, signals: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(signals))


class Featured(Condition[Signal]):
    """A condition that sees of clips what can be computed before training, and kept: one row a clip.

    Attributes:
        reads: the fields of a batch that say in sampling what it is asked.
    """

    reads: frozenset[Field]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names all that a feature depends on beside the codec and the clip."""

    @abstractmethod
    def check(self, batch: ClipBatch) -> None:
        """Refuse what is given at other places, or not at all. Raises InputError."""

    @abstractmethod
    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Tensor:
        """What is seen of whole clips in training, of what is given in sampling; without gradient."""

    @abstractmethod
    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        """The shape of `feature` of one clip of t x h x w pixels in training, known without computing any."""


class GivenFrames(Featured[Signal]):
    """A condition on frames that are given."""

    asks = "frames"
    reads = frozenset({"given"})

    @abstractmethod
    def given(self, pixels: Float[Tensor, "b 3 t h w"]) -> Given:
        """The frames of whole clips that this condition is about."""
