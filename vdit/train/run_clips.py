"""The clips of a run, known again when it goes on: by content, wherever they lie by then.

The order of a run counts its clips. A file in its folder says which clip each number is, so that the order
stays what it was where files have moved, have other names, or are there no longer.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from vdit.data.inventory import Changes, compare
from vdit.data.loader import ItemSource
from vdit.data.mixture import parts_of
from vdit.data.order import Position
from vdit.data.report import listed, number_of
from vdit.data.sources import VideoSource
from vdit.data.stack import LatentClip
from vdit.data.unreadable import Unreadable
from vdit.train.clip_record import KnownSource, Record
from vdit.train.reading import unreadable_of
from vdit.train.task import Data
from vdit.types import Clip, ClipSource, InputError

__all__ = ["ACCEPT", "Placed", "Recognised", "RunClips", "recognised"]

ACCEPT = "--accept-changed-data"
"""The option that goes on with clips that have changed."""

TRAINING, HELD_OUT = "training", "held out"


@dataclass(frozen=True)
class RunClips:
    """The clips that the order of a run counts.

    Attributes:
        counts: how many, in each part of the training clips.
        places: the number that each has in today's source, None where it is gone; None where all are where
            they were.
        unreadable: those that the run does without.
        known: whether the folder said what they are. Where it did not, settings alone tell a run again.
    """

    counts: tuple[int, ...]
    places: tuple[int | None, ...] | None = None
    unreadable: tuple[Unreadable, ...] = ()
    known: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RunClips":
        told = json.loads(text)
        places = None if told["places"] is None else tuple(told["places"])
        return cls(
            tuple(told["counts"]), places, tuple(map(unreadable_of, told["unreadable"])), told["known"]
        )

    def placed(self, items: ItemSource) -> ItemSource:
        """Items of today's source, by the numbers of the run."""
        return items if self.places is None else Placed(items, self.places)

    def numbers(self, today: Collection[int]) -> dict[int, int]:
        """What the run calls some clips of today's source."""
        if self.places is None or not today:
            return {clip: clip for clip in today}
        pairs = enumerate(self.places)
        return {place: number for number, place in pairs if place is not None and place in today}

    def name(self, source: ClipSource, number: int) -> str:
        """A clip of the run, by its id in today's source where that tells without reading it."""
        within = number if self.places is None else self.places[number]
        for part in parts_of(source):
            if within is None:
                break
            if isinstance(part, VideoSource) and 0 <= within < len(part):
                return part.id(within)
            within -= len(part)
        return f"clip {number}"

    def position(self, stored: Mapping[str, int]) -> dict[str, int]:
        """Where to go on. With other clips than a checkpoint counted, at the beginning of the next epoch."""
        clips = sum(self.counts)
        if not self.known or stored["clips"] == clips:
            return dict(stored)
        return {**stored, "epoch": stored["epoch"] + 1, "batch_in_epoch": 0, "clips": clips}


class Placed:
    """Items of today's source, by the numbers of the run; nobody asks for those that are gone."""

    def __init__(self, items: ItemSource, places: Sequence[int | None]) -> None:
        self._items, self._places = items, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Clip | LatentClip:
        place = self._places[index]
        if place is None:
            raise InputError("it is gone")
        return self._items[place]


@dataclass(frozen=True)
class Recognised:
    """What has become of the clips that a record knows.

    Attributes:
        clips: what the run counts from here on.
        record: what its folder is to say from here on; None where that has not changed.
        changed: what a person should know, piece by piece.
    """

    clips: RunClips
    record: Sequence[KnownSource] | None = None
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class MatchedSource:
    """One part of a run's clips, in today's data.

    Attributes:
        was: as the run knew it.
        part: as the run knows it from here on.
        changes: of its clips; None where they are not told one by one.
    """

    was: KnownSource
    part: KnownSource
    changes: Changes | None

    @classmethod
    def of(cls, was: KnownSource, now: KnownSource) -> "MatchedSource":
        """With new clips the run counts those of today; else the old ones, also those that are gone."""
        if not was.clips or not now.clips:
            return cls(was, now, None)
        changes = compare(was.clips, now.clips)
        if changes.added:
            return cls(was, now, changes)
        pairs = zip(was.clips, changes.places, strict=True)
        clips = [clip if at is None else now.clips[at] for clip, at in pairs]
        moved = changes.places != tuple(range(now.count))
        return cls(was, KnownSource(was.of, "" if moved else now.fingerprint, was.count, clips), changes)

    @property
    def places(self) -> Sequence[int | None]:
        """The number in today's source of each clip that the run counts."""
        if self.changes is None or self.changes.added:
            return range(self.part.count)
        return self.changes.places

    def said(self, missed: "Missed") -> Iterator[str]:
        """What has changed, but for clips that the run does without."""
        changes = self.changes
        if changes is None:
            if self.was.fingerprint != self.part.fingerprint:
                yield f"the source of {self.was.of} clips draws others"
            return
        gone = [name for name in changes.gone if missed.why(name) is None]
        recaptioned, other = (
            [name for name in names if name not in missed.clips]
            for names in (changes.recaptioned, changes.other)
        )
        for names, one, many in (
            (recaptioned, "has another caption", "have another caption"),
            (other, "shows something else", "show something else"),
            (gone, "is gone", "are gone"),
            (changes.added, "is new", "are new"),
        ):
            if names:
                yield f"{number_of(len(names), f'{self.was.of} clip', one, many)} ({listed(names)})"

    def number(self, before: int) -> int | None:
        """What the run calls a clip from here on; None where it does not count it any longer."""
        if self.changes is None or not self.changes.added:
            return before if before < self.part.count else None
        return self.changes.places[before]


@dataclass(frozen=True)
class Missed:
    """Clips that nobody asks back: the run does without them, or the scan has found their files damaged.

    Attributes:
        clips: names of the former.
        files: why, by the names of the latter's files.
    """

    clips: frozenset[str]
    files: Mapping[str, str]

    @classmethod
    def of(cls, sources: Iterable[ClipSource], unreadable: Sequence[Unreadable]) -> "Missed":
        reports = [source.report for source in sources if isinstance(source, VideoSource)]
        skipped = dict(pair for report in reports for pair in report.skipped)
        return cls(frozenset(one.name for one in unreadable), skipped)

    def why(self, name: str) -> str | None:
        """Why a clip is not there; None where it should be."""
        file = name.rpartition("@")[0]
        return "known" if name in self.clips else self.files.get(file)


def recognised(record: Record, data: Data, unreadable: Sequence[Unreadable], accept: bool) -> Recognised:
    """Find the clips of a run in today's data.

    Args:
        record: of the run.
        data: of today.
        unreadable: what the run does without already.
        accept: whether changed clips will do, too.

    Raises:
        InputError: clips have changed, and that is not accepted; or the record is damaged.
    """
    training, held_out = parts_of(data.train), parts_of(data.held_out)
    sources = [*((TRAINING, part) for part in training), *((HELD_OUT, part) for part in held_out)]
    counts = tuple(map(len, training))
    heads = record.read(clips=False)
    if [(p.of, p.fingerprint, p.count) for p in heads] == [(of, s.fingerprint, len(s)) for of, s in sources]:
        return Recognised(RunClips(counts, unreadable=tuple(unreadable)))
    now = [KnownSource.of_source(of, source) for of, source in sources]
    if not heads:
        return Recognised(RunClips(counts, unreadable=tuple(unreadable), known=accept), now)
    was, missed = record.read(), Missed.of((source for _, source in sources), unreadable)
    if [part.of for part in was] == [part.of for part in now]:
        found = [MatchedSource.of(old, new) for old, new in zip(was, now, strict=True)]
        changed = [line for one in found for line in one.said(missed)]
    else:  # one source where there was a mixture: nothing is known again
        found, changed = (
            [MatchedSource(part, part, None) for part in now],
            ["there are more sources, or fewer"],
        )
        unreadable = ()
    if changed and not accept:
        raise InputError(
            f"the clips are not those that the run in {record.file.parent} has learnt from so far: "
            f"{'; '.join(changed)}. Put them back, give another --out, or go on with them as they are now by "
            f"{ACCEPT}"
        )
    ours = [one for one in found if one.part.of == TRAINING]
    counts = tuple(one.part.count for one in ours)
    without = (*_renumbered(ours, unreadable), *_newly_gone(ours, missed, accept))
    return Recognised(RunClips(counts, _places(ours), without), [one.part for one in found], tuple(changed))


def _places(found: Sequence[MatchedSource]) -> tuple[int | None, ...] | None:
    """The numbers of all parts, counted on from one to the next; None where nothing has moved."""
    places: list[int | None] = []
    first = 0
    for one in found:
        places += [None if at is None else first + at for at in one.places]
        first += sum(at is not None for at in one.places)
    return None if places == list(range(first)) else tuple(places)


def _renumbered(found: Sequence[MatchedSource], unreadable: Sequence[Unreadable]) -> Iterator[Unreadable]:
    before = now = 0
    for one in found:
        for clip in unreadable:
            within = clip.clip - before
            if 0 <= within < one.was.count and (number := one.number(within)) is not None:
                yield replace(clip, clip=now + number)
        before, now = before + one.was.count, now + one.part.count


def _newly_gone(found: Sequence[MatchedSource], missed: Missed, accept: bool) -> Iterator[Unreadable]:
    first = 0
    for one in found:
        for number, place in enumerate(one.places):
            name = "" if place is not None else one.part.clips[number].id
            if place is None and name not in missed.clips:
                why = missed.why(name) or "its file is gone"
                yield Unreadable(first + number, name, why, Position(), accepted=accept)
        first += one.part.count
