"""What a causal network must remember between two chunks of a stream."""

from torch import Tensor, nn

__all__ = ["Memory"]


class Memory:
    """The last input frames of every causal layer, and whether the stream has begun.

    One memory serves one pass of one network over one stream. Layers hold no state themselves, so a
    codec can serve many streams at once and never leaks one clip into the next.
    """

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}
        self._begun: set[nn.Module] = set()

    def begins(self, layer: nn.Module) -> bool:
        """Whether `layer` sees the first chunk of the stream; true once."""
        first = layer not in self._begun
        self._begun.add(layer)
        return first

    def recall(self, layer: nn.Module) -> Tensor | None:
        """What `layer` stored at the last chunk; None at the first."""
        return self._frames.get(layer)

    def store(self, layer: nn.Module, frames: Tensor) -> None:
        """Keep `frames` for the next chunk."""
        self._frames[layer] = frames
