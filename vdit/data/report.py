"""What a source took and what it left out, so that no video disappears in silence."""

from dataclasses import dataclass

__all__ = ["SourceReport"]


@dataclass(frozen=True)
class SourceReport:
    """The outcome of indexing a folder or a list.

    Attributes:
        clips: clips that the source offers.
        videos: files they come from.
        skipped: (file, reason) of every file that gives no clip.
        uncaptioned: files used with an empty caption.
        upscaled: files smaller than the clips, so that their pixels are enlarged.
        seconds: length of the used files, or of the parts of them that a list names.
        seconds_covered: how much of that stands in at least one clip.
    """

    clips: int
    videos: int
    skipped: tuple[tuple[str, str], ...]
    uncaptioned: tuple[str, ...]
    upscaled: tuple[str, ...]
    seconds: float
    seconds_covered: float

    @property
    def kept(self) -> int:
        """Clips that the source offers."""
        return self.clips

    def __str__(self) -> str:
        lines = [
            f"{self.clips} clips of {self.videos} videos; "
            f"they cover {self.seconds_covered:.1f} of {self.seconds:.1f} seconds"
        ]
        if self.uncaptioned:
            lines.append(f"{len(self.uncaptioned)} videos have no caption: {_some(self.uncaptioned)}")
        if self.upscaled:
            lines.append(f"{len(self.upscaled)} videos are smaller than the clips: {_some(self.upscaled)}")
        if self.skipped:
            lines.append(f"{len(self.skipped)} files were skipped:")
            lines.extend(f"  {name}: {reason}" for name, reason in self.skipped)
        return "\n".join(lines)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
