"""Several sources in one: videos beside images, long clips beside short ones."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vdit.data.order import BatchOrder, ClipOrder, MixedOrder
from vdit.types import Clip, ClipFormat, ClipSource, InputError

__all__ = ["Mixture", "Part", "order_of", "parts_of", "usual_format", "usual_part"]

LOOKED_AT = 1024


@dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Args:
        source: its clips, all of one shape.
        share: of all batches, beside the shares of the other parts; they need not sum to 1.
    """

    source: ClipSource
    share: float

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise InputError(f"a part of a mixture has the share {self.share}, but must have more than 0")


class Mixture:
    """Sources whose clips may differ in shape: every batch is of one of them.

    Args:
        parts: the sources, and how often each is seen.

    Raises:
        InputError: no part.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise InputError("a mixture needs at least one part")
        self.parts = tuple(parts)

    @property
    def fingerprint(self) -> str:
        together = "\n".join(part.source.fingerprint for part in self.parts)
        return hashlib.sha256(together.encode()).hexdigest()

    def __len__(self) -> int:
        return sum(len(part.source) for part in self.parts)

    def __getitem__(self, index: int) -> Clip:
        source, within = self._find(index)
        return source[within]

    def caption(self, index: int) -> str:
        source, within = self._find(index)
        return source.caption(within)

    def format(self, index: int) -> ClipFormat:
        source, within = self._find(index)
        return source.format(within)

    def video(self, index: int) -> str:
        source, within = self._find(index)
        return source.video(within)

    def _find(self, index: int) -> tuple[ClipSource, int]:
        within = index
        for part in self.parts:
            if 0 <= within < len(part.source):
                return part.source, within
            within -= len(part.source)
        raise IndexError(f"clip {index} of {len(self)}")


def parts_of(source: ClipSource) -> list[ClipSource]:
    """The sources that clips of one shape each come from."""
    return [part.source for part in source.parts] if isinstance(source, Mixture) else [source]


def usual_part(source: ClipSource) -> ClipSource:
    """The source whose clips stand for all: of those of videos that which is seen most, or is longest."""
    if not isinstance(source, Mixture):
        return source
    return max(source.parts, key=_weight).source


def usual_format(source: ClipSource) -> ClipFormat:
    """Length, size and rate that most clips of the usual part have, by `LOOKED_AT` of them at most."""
    part = usual_part(source)
    step = max(1, len(part) // LOOKED_AT)
    return Counter(part.format(i) for i in range(0, len(part), step)).most_common(1)[0][0]


def _weight(part: Part) -> tuple[bool, float, int]:
    frames = part.source.format(0).frames
    return frames > 1, part.share, frames


def order_of(
    source: ClipSource,
    seed: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    counts: Sequence[int] | None = None,
) -> BatchOrder:
    """The order in which training sees a source. Raises as `ClipOrder` and `MixedOrder`.

    Args:
        source: the clips.
        seed: of the order.
        batch: clips in a global batch.
        rank: this process, among those that see different clips.
        world: how many these are.
        counts: clips of each part, where the order counts others than the source has today.
    """
    counts = counts or [len(part) for part in parts_of(source)]
    orders = [ClipOrder(count, seed, batch, rank, world) for count in counts]
    return (
        MixedOrder(orders, [part.share for part in source.parts])
        if isinstance(source, Mixture)
        else orders[0]
    )
