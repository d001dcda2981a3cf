"""Files that were looked into, kept in Parquet, so that a later start opens none of them.

A file is looked into again only where its size or its time of modification differs from what was noted, and
then only where its content does: copying files over themselves, or renaming them, costs a hash of each.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vdit.data.decode import READING, Decoder, FrameTable, VideoInfo
from vdit.data.rate import steady_times
from vdit.data.scanned import Content, Scanned, scan_file
from vdit.weights.files import ASIDE, sync

__all__ = ["indexed", "index_file", "read_index", "write_index"]

FORMAT = 1
"""Part of the name: raise it when the columns change."""

SCHEMA = pa.schema(
    [
        ("path", pa.binary()),  # the names of files need not be text
        ("size", pa.int64()),
        ("modified_ns", pa.int64()),
        ("scanned_ns", pa.int64()),
        ("content_ends", pa.string()),
        ("content_inside", pa.string()),
        ("unusable", pa.string()),
        ("frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps_numerator", pa.int64()),
        ("fps_denominator", pa.int64()),
        ("seconds", pa.float64()),
        ("sought", pa.bool_()),
        ("videos", pa.int32()),
        ("pts", pa.list_(pa.int64())),
        ("times", pa.list_(pa.float64())),  # null where they follow from the rate
    ]
)

STAMPS = {"pts.list.element": "DELTA_BINARY_PACKED"}
"""Stamps grow by much the same from frame to frame."""

LISTS = ("pts", "times")
"""The columns that have a row of numbers for each file."""


def index_file(place: Path, decoder: Decoder, verify: bool) -> Path:
    """Where the index of a source is kept: `$VDIT_CACHE`, else `~/.cache/vdit`, by what it is an index of.

    Args:
        place: the folder or the list.
        decoder: that its files are read by.
        verify: whether all their frames are decoded.
    """
    root = Path(os.environ.get("VDIT_CACHE") or Path.home() / ".cache" / "vdit").expanduser()
    said = json.dumps([FORMAT, READING, os.fspath(place.resolve()), decoder, verify])
    return root / "index" / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.parquet"


def indexed(
    paths: Iterable[Path], file: Path, decoder: Decoder, verify: bool, threads: int
) -> dict[Path, Scanned]:
    """What is in some files, by path: out of their index as far as it still holds, and kept in it.

    Processes of one machine that ask at once do so one after the other, so that the second finds what the
    first has found. An index that cannot be read or written costs the time of another scan, and no more.

    Args:
        paths: of the files.
        file: the index, see `index_file`.
        decoder: that will read the files.
        verify: decode every frame of them.
        threads: files looked into at once.
    """
    with _one_at_a_time(file):
        before = read_index(file)
        of_content = {} if verify else {(one.content, one.path.suffix): one for one in before.values()}

        def now(path: Path) -> Scanned:
            try:
                stat, at = path.stat(), time.time_ns()
                known = before.get(path)
                if known is not None and known.is_of(stat):
                    return known
                if of_content and (same := of_content.get((Content.of(path), path.suffix))):
                    return replace(same, path=path, modified_ns=stat.st_mtime_ns, scanned_ns=at)
            except OSError:
                pass  # `scan_file` has words for it
            return scan_file(path, decoder, verify)

        absolute = {path: path.absolute() for path in paths}
        with ThreadPoolExecutor(threads) as pool:
            found = {one.path: one for one in pool.map(now, set(absolute.values()))}
        if found.keys() != before.keys() or any(one is not before[path] for path, one in found.items()):
            with suppress(OSError):
                write_index(file, found.values())
    return {path: found[place] for path, place in absolute.items()}


def read_index(file: Path) -> dict[Path, Scanned]:
    """What an index holds, by path; nothing where there is none, or it is damaged."""
    try:
        table = pq.read_table(file, schema=SCHEMA, memory_map=False)
    except (OSError, pa.ArrowException):
        return {}
    plain = [name for name in SCHEMA.names if name not in LISTS]
    lists = [_lists(table, name) for name in LISTS]
    rows = zip(*(table[name].to_pylist() for name in plain), *lists, strict=True)
    found = (_scanned(dict(zip((*plain, *LISTS), row, strict=True))) for row in rows)
    return {one.path: one for one in found}


def write_index(file: Path, files: Iterable[Scanned]) -> None:
    """Keep what was found, but for files that may give something else the next time. Raises OSError."""
    rows = [_row(one) for one in files if one.scanned_ns]
    table = pa.table({name: [row[name] for row in rows] for name in SCHEMA.names}, SCHEMA)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{ASIDE}{os.getpid()}_{file.name}")
    try:
        pq.write_table(table, aside, use_dictionary=False, column_encoding=STAMPS, compression="zstd")
        sync(aside)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _row(one: Scanned) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {
        "path": os.fsencode(one.path),
        "size": one.size,
        "modified_ns": one.modified_ns,
        "scanned_ns": one.scanned_ns,
        "content_ends": one.content.ends,
        "content_inside": one.content.inside,
        "unusable": one.unusable,
    }
    if (table := one.table) is not None:
        info = table.info
        row |= {
            "frames": info.frames,
            "height": info.height,
            "width": info.width,
            "fps_numerator": info.fps.numerator,
            "fps_denominator": info.fps.denominator,
            "seconds": info.duration,
            "sought": table.sought,
            "videos": table.videos,
            "pts": table.pts,
            "times": None
            if np.array_equal(table.times, steady_times(info.frames, info.fps))
            else table.times,
        }
    return row


def _scanned(row: dict[str, Any]) -> Scanned:
    table = None
    if row["frames"] is not None:
        fps = Fraction(row["fps_numerator"], row["fps_denominator"])
        info = VideoInfo(row["frames"], row["height"], row["width"], fps, row["seconds"])
        times = steady_times(info.frames, fps) if row["times"] is None else row["times"]
        table = FrameTable(info, row["pts"], times, row["sought"], row["videos"])
    return Scanned(
        path=Path(os.fsdecode(row["path"])),
        size=row["size"],
        modified_ns=row["modified_ns"],
        scanned_ns=row["scanned_ns"],
        content=Content(row["content_ends"], row["content_inside"]),
        table=table,
        unusable=row["unusable"],
    )


def _lists(table: pa.Table, name: str) -> Iterator[np.ndarray | None]:
    """The arrays of a column of lists, which share one that holds them all."""
    for chunk in table[name].chunks:
        values = chunk.values.to_numpy()
        bounds = pairwise(chunk.offsets.to_numpy())
        for is_there, (start, stop) in zip(chunk.is_valid().to_pylist(), bounds, strict=True):
            yield values[start:stop] if is_there else None


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Wait for other processes that make this file; where a disk knows no locks, do not."""
    with ExitStack() as stack:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file.with_suffix(".lock").open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
