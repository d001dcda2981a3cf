"""The file of a run that says which clips it counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from vdit.data.inventory import KnownClip
from vdit.data.sources import VideoSource
from vdit.types import ClipSource, InputError
from vdit.weights.files import disk_refusal, write_whole

__all__ = ["KnownSource", "Record"]


@dataclass(frozen=True)
class KnownSource:
    """What is known of one source.

    Attributes:
        of: what its clips are for.
        fingerprint: of the source; "" of one that has its clips in another order than the run.
        count: its clips.
        clips: one by one, where they are made of files; else the fingerprint says it all.
    """

    of: str
    fingerprint: str
    count: int
    clips: Sequence[KnownClip] = ()

    @classmethod
    def of_source(cls, of: str, source: ClipSource) -> "KnownSource":
        """A source whose clips have one shape, as it is today."""
        clips = tuple(source.known()) if isinstance(source, VideoSource) else ()
        return cls(of, source.fingerprint, len(source), clips)


@dataclass(frozen=True)
class Record:
    """The file that says which clips a run counts: a line for all parts, then one a clip.

    Attributes:
        file: in the folder of the run.
    """

    file: Path

    def read(self, clips: bool = True) -> list[KnownSource]:
        """All parts, with their clips if these are asked for; none where there is no file.

        Raises:
            InputError: the file is damaged.
        """
        if not self.file.is_file():
            return []
        try:
            with self.file.open() as lines:
                parts = [KnownSource(**part) for part in json.loads(next(lines))]
                found: list[list[KnownClip]] = [[] for _ in parts]
                for line in lines if clips else ():
                    part, *rest = json.loads(line)
                    found[part].append(KnownClip(*rest))
            return [replace(part, clips=tuple(own)) for part, own in zip(parts, found, strict=True)]
        except (ValueError, TypeError, IndexError, StopIteration) as error:
            raise InputError(
                f"{self.file} is damaged ({error}), so nobody can tell whether the clips are those of the "
                "run. Delete it to go on by the paths of its configuration alone"
            ) from error

    def write(self, parts: Sequence[KnownSource]) -> None:
        """Whole or not at all. Raises InputError where the disk is full, and as `disk_refusal`."""
        heads = [{"of": p.of, "fingerprint": p.fingerprint, "count": p.count} for p in parts]
        clips = ([number, *clip] for number, part in enumerate(parts) for clip in part.clips)
        try:
            write_whole(self.file, (json.dumps(row) + "\n" for row in chain([heads], clips)))
        except OSError as error:
            raise disk_refusal(error, self.file, "The run was not begun.") from error
