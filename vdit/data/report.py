"""What a source took and what it left out, so that nothing disappears in silence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vdit.first_few import first_few

__all__ = ["Reasons", "SourceReport", "grouped", "listed", "number_of", "printable"]

Reasons = tuple[tuple[str, str], ...]
"""(name of a file or row, what is to be said of it)."""

_LINES = 20  # of reasons on the terminal; the report itself has all
_CROPPED = "cropped to less than two thirds of the picture"
_LETTERS = 120  # of a name there


@dataclass(frozen=True)
class SourceReport:
    """The outcome of indexing a folder or a list: `seen` is `used`, `skipped` and `not_understood` together.

    Attributes:
        clips: clips that the source offers.
        videos: files they come from.
        of: what is counted: the files of a folder (and those of its folders that were not read), or the rows
            of a list.
        seen: of these, all that are there.
        used: those that clips come from: videos, and their captions, references and poses.
        skipped: (name, reason) of each that was understood and cannot be used.
        not_understood: (name, reason) of each that is nothing this source reads, hidden ones among them.
        remarks: (name, what) of each that is used, but not all of it, or not as it is.
        uncaptioned: videos used with an empty caption.
        upscaled: videos smaller than the clips, so that their pixels are enlarged.
        cropped: videos of whose picture the clips show less than two thirds.
        seconds: length of the used files, or of the parts of them that a list names.
        seconds_covered: how much of that stands in at least one clip.
    """

    clips: int
    videos: int
    of: Literal["files", "rows"]
    seen: int
    used: int
    skipped: Reasons
    not_understood: Reasons
    remarks: Reasons
    uncaptioned: tuple[str, ...]
    upscaled: tuple[str, ...]
    cropped: tuple[str, ...]
    seconds: float
    seconds_covered: float

    @property
    def kept(self) -> int:
        """Clips that the source offers."""
        return self.clips

    def __str__(self) -> str:
        lines = [
            f"{number_of(self.clips, 'clip')} of {number_of(self.videos, 'video')}; "
            f"they cover {self.seconds_covered:.1f} of {self.seconds:.1f} seconds",
            f"{number_of(self.seen, self.of.removesuffix('s'))} seen: {self.used} used, "
            f"{len(self.skipped)} skipped, {len(self.not_understood)} not understood",
        ]
        for names, one, many in (
            (self.uncaptioned, "has no caption", "have no caption"),
            (self.upscaled, "is smaller than the clips", "are smaller than the clips"),
            (self.cropped, f"is {_CROPPED}", f"are {_CROPPED}"),
        ):
            if names:
                lines.append(f"{number_of(len(names), 'video', one, many)}: {listed(names)}")
        for reasons, noun, one, many in (
            (self.remarks, "remark", "", ""),
            (self.skipped, self.of.removesuffix("s"), "was skipped", "were skipped"),
            (self.not_understood, self.of.removesuffix("s"), "not understood", "not understood"),
        ):
            if reasons:
                lines.append(f"{number_of(len(reasons), noun, one, many)}:")
                lines += (f"  {phrase}" for phrase in grouped(reasons))
        return "\n".join(lines)


def printable(name: str) -> str:
    r"""A name that any terminal shows: what it cannot print, bytes that are no UTF-8 among it, as `\x..`."""
    return "".join(
        c
        if c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else ascii(c)[1:-1]
        for c in name
    )


def number_of(count: int, noun: str, one: str = "", many: str = "") -> str:
    """So many things, and what they do, as it is said of one and of several."""
    return f"{count} {noun} {one}".strip() if count == 1 else f"{count} {noun}s {many}".strip()


def grouped(reasons: Iterable[tuple[str, str]], most: int = _LINES) -> Iterator[str]:
    """A phrase for each reason, with the names it holds for, shortened for a person."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    for reason, those in list(names.items())[:most]:
        yield f"{listed(those)}: {printable(reason)}"
    if rest := list(names.values())[most:]:
        yield f"and {sum(map(len, rest))} more for other reasons"


def listed(names: Sequence[str]) -> str:
    """The first few of some names, shortened for a person, and how many more there are."""
    return first_few([_short(printable(name)) for name in names])


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS // 2]}...{name[-_LETTERS // 2 :]}"
