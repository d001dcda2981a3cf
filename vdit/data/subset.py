"""Some clips of a source, as a source."""

import hashlib
from collections.abc import Sequence

from vdit.types import Clip, ClipFormat, ClipSource

__all__ = ["Subset"]


class Subset:
    """Some clips of a source.

    Args:
        source: the whole.
        indices: of its clips, in their order here. A range, of clips one behind the other, stays one.
    """

    def __init__(self, source: ClipSource, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = indices if isinstance(indices, range) else tuple(indices)

    @property
    def fingerprint(self) -> str:
        which = self.indices
        named = f"{which.start} {which.stop}" if isinstance(which, range) else f"{which}"
        return hashlib.sha256(f"{self.source.fingerprint} {named}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Clip:
        return self.source[self.indices[index]]

    def caption(self, index: int) -> str:
        return self.source.caption(self.indices[index])

    def format(self, index: int) -> ClipFormat:
        return self.source.format(self.indices[index])

    def video(self, index: int) -> str:
        return self.source.video(self.indices[index])
