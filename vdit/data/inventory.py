"""Clips known again by what they show and say, not by where they lie."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Changes", "KnownClip", "compare"]


class KnownClip(NamedTuple):
    """A clip in few words.

    Attributes:
        id: its name in its source.
        content: a digest of the ends of its files, and of where in them it begins.
        caption: a digest of its caption.
        inside: a digest of what is read between their ends; "" where that is nothing or not known.
    """

    id: str
    content: str
    caption: str
    inside: str = ""

    def shows(self, other: "KnownClip") -> bool:
        """Whether both show the same, as far as is known."""
        return self.content == other.content and (
            self.inside == other.inside or not (self.inside and other.inside)
        )


@dataclass(frozen=True)
class Changes:
    """What has become of clips.

    Attributes:
        places: the number that each clip of before has now; None where it is there no longer.
        gone: names of those.
        added: names of clips that were not there before.
        other: names of clips that show something else than before.
        recaptioned: names of clips that show the same, with another caption.
    """

    places: tuple[int | None, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    other: tuple[str, ...]
    recaptioned: tuple[str, ...]


LIKENESS = (
    lambda clip: clip,
    lambda clip: (clip.content, clip.inside, clip.caption),
    lambda clip: (clip.id, clip.content, clip.caption),
    lambda clip: (clip.content, clip.caption),
    lambda clip: (clip.id, clip.content),
    lambda clip: clip.content,
    lambda clip: clip.id,
)
"""What two clips have in common that are taken for one: all; then all but the name, or the caption ..."""


def compare(was: Sequence[KnownClip], now: Sequence[KnownClip]) -> Changes:
    """Find every clip of before among those of now, the most alike first."""
    places: list[int | None] = [None] * len(was)
    left = dict.fromkeys(range(len(now)))
    for alike in LIKENESS:
        if not left:
            break
        pool: defaultdict[object, deque[int]] = defaultdict(deque)
        for number in left:
            pool[alike(now[number])].append(number)
        for number, clip in enumerate(was):
            if places[number] is None and (found := pool.get(alike(clip))):
                places[number] = place = found.popleft()
                del left[place]
    pairs = [(clip, now[at]) for clip, at in zip(was, places, strict=True) if at is not None]
    return Changes(
        places=tuple(places),
        gone=tuple(clip.id for clip, at in zip(was, places, strict=True) if at is None),
        added=tuple(now[number].id for number in left),
        other=tuple(new.id for old, new in pairs if not new.shows(old)),
        recaptioned=tuple(new.id for old, new in pairs if new.shows(old) and new.caption != old.caption),
    )
