"""A list of videos with captions: one JSON object a line, a table with a header, or Parquet."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vdit.data.cut import ClipCut
from vdit.data.decode import Decoder
from vdit.data.entry import Entry, Offer
from vdit.data.rows import LIST_ENDINGS, NAMES, Row, column_of, read_rows
from vdit.data.sources import VideoSource
from vdit.types import InputError

__all__ = ["ListSource"]


class ListSource(VideoSource):
    """The videos named by a `.jsonl`, `.csv`, `.tsv` or `.parquet` file.

    Columns: `video` (a path, absolute or relative to the list's folder), `caption`, and optionally `start`
    and `end` in seconds, between which clips are taken, `references` (images of who is in it: a list, or in a
    table one path, or several with `;` between them) and `poses` (a file of the camera's poses, one a frame).
    The names that other tools have for the first two are known (`vdit.data.rows.NAMES`). Other columns are
    reported; `where` may ask for them. A video may stand in several rows.
    """

    def __init__(
        self,
        path: Path | str,
        cut: ClipCut,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
        where: str | None = None,
    ):
        """Index the list; see `VideoSource` for the arguments.

        Raises:
            InputError: no such file, another ending, no rows, a row that cannot be understood (its line is
                named), or no usable video.
        """
        listing = Path(path)
        endings = " ".join(LIST_ENDINGS)
        if not os.path.isfile(listing):
            raise InputError(f"there is no list {listing}; give a file that ends in {endings}")
        if listing.suffix.lower() not in LIST_ENDINGS:
            remedy = (
                "; write each object into a line of a .jsonl" if listing.suffix.lower() == ".json" else ""
            )
            raise InputError(
                f"the list {listing} ends in {listing.suffix!r}; the accepted endings are {endings}{remedy}"
            )
        try:
            rows = read_rows(listing)
        except OSError as error:
            raise InputError(f"the list {listing} cannot be read ({error.strerror})") from error
        entries = tuple(_entry(row, listing.parent) for row in rows if row.cells)
        if not entries:
            raise InputError(f"the list {listing} has no rows; each names a video and its caption")
        empty = tuple((f"line {row.line}", "an empty row") for row in rows if not row.cells)
        offer = Offer(listing, "rows", len(rows), entries, skipped=empty, remarks=tuple(_unread(rows)))
        super().__init__(offer, cut, require_captions, decoder, verify, where)


def _unread(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """The columns that say nothing of a clip itself."""
    read = ", ".join(NAMES)
    for name in dict.fromkeys(name for row in rows for name, _ in row.cells if column_of(name) is None):
        yield f"column {name!r}", f"it is not read, but for `where`; columns that are: {read}"


def _entry(line: Row, folder: Path) -> Entry:
    row, where = line.columns(), line.where
    video = row.get("video")
    if video is not None and not isinstance(video, str):
        raise InputError(f"{where}: 'video' must be the path of a video, a text")
    if not video:
        raise InputError(
            f"{where}: no 'video' column with the path of a video; "
            f"it has {', '.join(name for name, _ in line.cells)}"
        )
    caption = row.get("caption", "")
    if not isinstance(caption, str):
        raise InputError(f"{where}: 'caption' must be text, got {caption!r}")
    start = _seconds(row, "start", where) or 0.0
    end = _seconds(row, "end", where)
    if end is not None and end <= start:
        raise InputError(f"{where}: 'end' ({end:g} s) must come after 'start' ({start:g} s)")
    references = row.get("references") or []
    if isinstance(references, str):
        references = [path.strip() for path in references.split(";")]
    poses = row.get("poses")
    if not isinstance(references, list) or not all(isinstance(path, str) and path for path in references):
        raise InputError(f"{where}: 'references' must be paths of images, got {references!r}")
    if poses is not None and not isinstance(poses, str):
        raise InputError(f"{where}: 'poses' must be the path of a file of poses, got {poses!r}")
    return Entry(
        folder / video,
        video,
        caption.strip(),
        start,
        end,
        references=tuple(folder / path for path in references),
        poses=None if poses is None else folder / poses,
        counted=(f"line {line.line}",),
        columns={name: value for name, value in line.cells if column_of(name) is None},
    )


def _seconds(row: Mapping[str, object], column: str, where: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"{where}: {column!r} must be seconds from 0, got {value!r}")
    return seconds
