"""A large source in pieces, each encoded by one of the processes and kept in a file of its own."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate

from vdit.data.latents import MEMORY_BYTES, Compute, LatentCache, Latents
from vdit.data.stack import LatentClip
from vdit.data.subset import Subset
from vdit.data.unreadable import first_readable
from vdit.types import ClipSource

__all__ = ["JoinedLatents", "compute_apart", "pieces_of"]

PIECE_VALUES = 2**31
"""Of pixels in a piece: what is lost when a process is killed, and what the slowest has to do more."""


def pieces_of(source: ClipSource, values: int = PIECE_VALUES) -> list[ClipSource]:
    """A source in pieces of so many values of pixels at most, or of one clip; itself, where it has no more.

    They are the same however many processes there are.
    """
    if not len(source):
        return [source]
    clips = max(1, values // first_readable(source).pixels.numel())
    if len(source) <= clips:
        return [source]
    return [Subset(source, range(at, min(at + clips, len(source)))) for at in range(0, len(source), clips)]


class JoinedLatents:
    """Latents of several sources one behind the other, by clip number."""

    def __init__(self, parts: Sequence[Latents]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def missing(self) -> dict[int, str]:
        """Why, by number, for clips that could not be read."""
        both = zip(self._starts, self._parts, strict=False)
        return {start + number: why for start, part in both for number, why in part.missing.items()}

    def __getitem__(self, index: int) -> LatentClip:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._starts, index) - 1
        return self._parts[part][index - self._starts[part]]


def compute_apart(
    cache: LatentCache,
    source: ClipSource,
    wanted: Mapping[str, tuple[str, Compute]],
    batch: int,
    progress: Callable[[int, int], None],
    rank: int = 0,
    world: int = 1,
    meet: Callable[[], None] = lambda: None,
) -> dict[str, JoinedLatents]:
    """What is made of all clips (see `LatentCache.compute`), each process making every `world`-th piece.

    Where the folder is no shared one, each then makes what others made elsewhere.

    Args:
        cache: of all processes.
        source: the clips.
        wanted: by name, a fingerprint and what makes of a batch a row a clip.
        batch: clips computed at once.
        progress: called with (clips done, clips in all) of this process's own pieces.
        rank: of this process, among `world`.
        world: processes.
        meet: waits for all of them.

    Raises:
        InputError: as `LatentCache.compute` does.
    """
    pieces = pieces_of(source)
    own = pieces[rank::world]
    done, total = 0, sum(map(len, own))
    stand_in = partial(first_readable, source)
    for piece in own:
        cache.forget_mended(piece, wanted)
        tell = partial(lambda before, now, _: progress(before + now, total), done)
        cache.compute(piece, wanted, batch, tell, stand_in=stand_in)
        done += len(piece)
    meet()
    memory = MEMORY_BYTES // len(pieces)  # of all pieces together
    made = [cache.compute(piece, wanted, batch, memory_bytes=memory, stand_in=stand_in) for piece in pieces]
    return {name: JoinedLatents([part[name] for part in made]) for name in wanted}
