"""A list of videos with captions: one JSON object a line, or a CSV table with a header."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from vdit.data.cut import ClipCut
from vdit.data.decode import Decoder
from vdit.data.sources import Entry, VideoSource
from vdit.types import InputError

__all__ = ["ListSource"]


class ListSource(VideoSource):
    """The videos named by a `.jsonl` or `.csv` file.

    Columns: `video` (a path, absolute or relative to the list's folder), `caption`, and optionally `start`
    and `end` in seconds, between which clips are taken, `references` (images of who is in it: a list, or in a
    table one path, or several with `;` between them) and `poses` (a file of the camera's poses, one a frame).
    Other columns are ignored. A video may stand in several rows.
    """

    def __init__(
        self,
        path: Path | str,
        cut: ClipCut,
        require_captions: bool = False,
        decoder: Decoder = "pyav",
        verify: bool = False,
    ):
        """Index the list; see `VideoSource` for the arguments.

        Raises:
            InputError: no such file, another ending, no rows, a row that cannot be understood (its line is
                named), or no usable video.
        """
        listing = Path(path)
        if not listing.is_file():
            raise InputError(f"there is no list {listing}; give a .jsonl or .csv file")
        rows = {".jsonl": _json_rows, ".csv": _csv_rows}.get(listing.suffix.lower())
        if rows is None:
            raise InputError(
                f"the list {listing} ends in {listing.suffix!r}; the accepted endings are .jsonl .csv"
            )
        try:
            entries = [_entry(row, listing.parent, where) for where, row in rows(listing)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"the list {listing} cannot be read ({error}); save it as UTF-8 text") from error
        if not entries:
            raise InputError(f"the list {listing} has no rows; each names a video and its caption")
        super().__init__(entries, cut, f"the list {listing}", require_captions, decoder, verify)


def _json_rows(listing: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    with listing.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{listing}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{where}: not a JSON object ({error})") from error
            if not isinstance(row, dict):
                raise InputError(f'{where}: not a JSON object; write {{"video": ..., "caption": ...}}')
            yield where, row


def _csv_rows(listing: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    with listing.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            # Empty cells are absent values: a table has a cell in every row.
            yield f"{listing}, line {reader.line_num}", {key: value for key, value in row.items() if value}


def _entry(row: Mapping[str, object], folder: Path, where: str) -> Entry:
    video = row.get("video")
    if not isinstance(video, str) or not video:
        raise InputError(
            f"{where}: no 'video' column with the path of a video; it has {', '.join(map(str, row))}"
        )
    caption = row.get("caption") or ""
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
    images = tuple(folder / path for path in references)
    return Entry(
        folder / video, video, caption.strip(), start, end, images, None if poses is None else folder / poses
    )


def _seconds(row: Mapping[str, object], column: str, where: str) -> float | None:
    value = row.get(column)
    if value is None:
        return None
    try:
        seconds = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"{where}: {column!r} must be seconds from 0, got {value!r}")
    return seconds
