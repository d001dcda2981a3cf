"""The rows of a list: JSON objects, one a line, a table with a header, or Parquet."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vdit.data.decode import IMAGE_ENDINGS, VIDEO_ENDINGS
from vdit.types import InputError

__all__ = ["LIST_ENDINGS", "Row", "column_of", "read_rows"]

LIST_ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")

NAMES = {
    "video": ("video", "video_path", "file_name", "filename", "file_path", "path", "media_path"),
    "caption": ("caption", "text", "prompt", "cap"),
    "start": ("start",),
    "end": ("end",),
    "references": ("references",),
    "poses": ("poses",),
}
"""The columns that are read, and how the lists of other tools call them."""

NEEDED = {
    "video": ("with the path of a video", "video,caption"),
    "caption": ("with what to show", "prompt,seed"),
}
"""Columns without which a list is of no use: what they are for, and a header that has them."""

_COLUMN = {name: column for column, names in NAMES.items() for name in names}
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Attributes:
        line: where it begins, from 1; of Parquet, its number.
        where: the list and the line, for messages.
        cells: (name of the column as it is written, value); empty cells of tables are left out.
    """

    line: int
    where: str
    cells: tuple[tuple[str, object], ...]

    def columns(self) -> Mapping[str, object]:
        """Values by the columns of `NAMES`.

        Raises:
            InputError: two columns that are the same one say different things.
        """
        said: dict[str, tuple[str, object]] = {}
        for name, value in self.cells:
            column = column_of(name)
            if column is None or value is None or value == "":
                continue
            first, before = said.setdefault(column, (name, value))
            if before is not value and before != value:
                raise InputError(
                    f"{self.where}: {first!r} and {name!r} could both be the {column}, and differ "
                    f"({_short(before)} and {_short(value)}); keep one of the two columns"
                )
        return {column: value for column, (_, value) in said.items()}


def column_of(name: str) -> str | None:
    """Which column of `NAMES` a name is, whatever its capitals and spaces; None where it is none."""
    return _COLUMN.get("_".join(name.strip().lower().replace("-", " ").split()))


def read_rows(listing: Path, key: str = "video") -> list[Row]:
    """All rows of a list, empty ones too, which have no cells.

    Args:
        listing: the file; its ending says what it is.
        key: the column of `NAMES` that every row must have.

    Raises:
        InputError: it is not UTF-8 text, or not Parquet, or a line cannot be understood.
    """
    if listing.suffix.lower() == ".parquet":
        return list(_of_parquet(listing, key))
    raw = listing.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"the list {listing} cannot be read: line {line} is not UTF-8; save it as UTF-8 text"
        ) from error
    if listing.suffix.lower() == ".jsonl":
        return list(_of_json(listing, text, key))
    return list(_of_table(listing, text, key))


def _of_json(listing: Path, text: str, key: str) -> Iterator[Row]:
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        where = f"{listing}, line {number}"
        if not line.strip():
            yield Row(number, where, ())
            continue
        try:
            row = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}: not a JSON object ({error}); write one in each line, "
                "with no brackets around them all and no commas between them"
            ) from error
        if not isinstance(row, _Pairs):
            raise InputError(f"{where}: not a JSON object; write {_object(NEEDED[key][1])}")
        _refuse_half_letters(where, row)
        yield Row(number, where, tuple(row))


def _of_parquet(listing: Path, key: str) -> Iterator[Row]:
    try:
        table = pq.read_table(listing)
    except pa.ArrowException as error:
        raise InputError(f"the list {listing} cannot be read as Parquet ({error})") from error
    if not any(column_of(name) == key for name in table.column_names):
        what, header = NEEDED[key]
        raise InputError(
            f"{listing}: no {key!r} column {what}; it has {_short(', '.join(table.column_names), 200)}; "
            f"give it columns such as {header}"
        )
    number = 0
    for batch in table.to_batches():
        for row in batch.to_pylist():
            number += 1
            cells = ((name, value) for name, value in row.items() if value is not None)
            yield Row(number, f"{listing}, row {number}", tuple(cells))


class _Pairs(list[tuple[str, object]]):
    """A JSON object, with keys that stand twice."""


def _object(header: str) -> str:
    """A JSON object with these columns, as an example."""
    return "{" + ", ".join(f'"{name}": ...' for name in header.split(",")) + "}"


def _refuse_half_letters(where: str, row: _Pairs) -> None:
    for name, value in row:
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: {_short(name)} holds half a character (a lone surrogate); write it whole"
            ) from error


def _of_table(listing: Path, text: str, key: str) -> Iterator[Row]:
    if not text.strip():
        return
    separator = _separator(listing, text, key)
    records = _records(listing, text, separator)
    _, header = next(records)
    for line, cells in records:
        where = f"{listing}, line {line}"
        if not any(cells):
            yield Row(line, where, ())
            continue
        told = f"{where}: {len(cells)} cells, and the header has {len(header)}"
        if len(cells) > len(header) and any(cells[len(header) :]):
            raise InputError(
                f"{told} ({_short(cells[len(header)])} is too much); "
                f"put a text that holds {_named(separator)} between double quotes"
            )
        if len(cells) < len(header):
            raise InputError(
                f"{told}; write all cells, empty ones too, and a text of several lines between double quotes"
            )
        _refuse_swallowed(where, cells, separator)
        yield Row(line, where, tuple((n, c) for n, c in zip(header, cells, strict=False) if c))


def _separator(listing: Path, text: str, key: str) -> str:
    """What stands between cells: that with which the first line names the column that must be there."""
    first = text.lstrip("\r\n").splitlines()[0]
    for separator in _SEPARATORS:
        if any(column_of(name) == key for name in next(csv.reader([first], delimiter=separator))):
            return separator
    what, header = NEEDED[key]
    raise InputError(
        f"{listing}, line 1: no {key!r} column {what}; it has {_short(first, 200)}; "
        f"begin with a header such as {header}"
    )


def _records(listing: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record begins, and its cells without the spaces around them."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    header = False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{listing}, line {line}: a cell that begins here with a double quote does not end with one "
                f"({error}); close it, and write each double quote inside it twice"
            ) from error
        if cells or header:  # empty lines above the header are no rows
            header = True
            yield line, [cell.strip() for cell in cells]


def _refuse_swallowed(where: str, cells: Sequence[str], separator: str) -> None:
    """Refuse a cell in which other rows seem to stand, as a quote that is not closed makes it."""
    for cell in cells:
        for line in lines if len(lines := cell.splitlines()) > 1 else []:
            parts = [part.strip(' "').lower() for part in line.split(separator)]
            if len(parts) > 1 and any(part.endswith(VIDEO_ENDINGS + IMAGE_ENDINGS) for part in parts):
                raise InputError(
                    f"{where}: a double quote opens here and takes in what looks like a row of its own "
                    f"({_short(line)}); close it at the end of its cell"
                )


def _named(separator: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}[separator]


def _short(value: object, length: int = 60) -> str:
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= length else f"{text[:length]}...'"
