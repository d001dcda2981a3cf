"""What a folder or a list offers, before any video is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vdit.data.report import Reasons, grouped

__all__ = ["Entry", "Offer", "none_usable"]


@dataclass(frozen=True)
class Entry:
    """A video that a user offers.

    Attributes:
        path: the file.
        name: how ids and messages call it; the same on every machine.
        caption: its text, "" where there is none.
        start: second at which the usable part begins.
        end: second at which it ends; None is the end of the file.
        references: images of who or what is in it.
        poses: a file of the camera's poses, one a frame of the video.
        counted: names of the files, or of the row, that this entry is made of, its video's first; other
            entries may share those that follow.
        unusable: why it is left out before it is opened; "" where it is not.
        columns: what a list says of it besides, by the names of its columns.
    """

    path: Path
    name: str
    caption: str
    start: float = 0.0
    end: float | None = None
    references: tuple[Path, ...] = ()
    poses: Path | None = None
    counted: tuple[str, ...] = ()
    unusable: str = ""
    columns: Mapping[str, object] = field(default_factory=dict)

    def beside(self) -> list[Path]:
        """What else there is to read."""
        return [*self.references, *([self.poses] if self.poses else [])]


@dataclass(frozen=True)
class Offer:
    """All that was found: `seen` is what the entries are made of, `skipped` and `not_understood` together.

    Attributes:
        place: the folder, or the file of the list.
        of: what is counted, see `SourceReport`.
        seen: how many of them there are.
        entries: the videos.
        skipped: (name, reason) of what is understood and cannot be used.
        not_understood: (name, reason) of what is nothing that is read.
        remarks: (name, what) of what is used, but not all of it.
    """

    place: Path
    of: Literal["files", "rows"]
    seen: int
    entries: tuple[Entry, ...]
    skipped: Reasons = ()
    not_understood: Reasons = ()
    remarks: Reasons = ()

    @property
    def described(self) -> str:
        """What holds it, for messages: "the folder /data/cats"."""
        return f"the {'folder' if self.of == 'files' else 'list'} {self.place}"


def none_usable(offer: Offer, bad: Sequence[tuple[Entry, str]]) -> str:
    """A sentence for a source of which no video can be used; `bad` has the reasons."""
    left_out = (*((entry.name, reason) for entry, reason in bad), *offer.skipped)
    return f"none of the {len(bad)} videos of {offer.described} can be used; " + "; ".join(
        grouped(left_out, most=5)
    )
