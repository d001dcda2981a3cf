"""Whether the clips of a run are there and can be read."""

from collections.abc import Iterator
from dataclasses import dataclass

from vdit.config import build_part
from vdit.data.decode import ABSENT
from vdit.data.mixture import parts_of
from vdit.data.report import SourceReport, printable
from vdit.data.sources import VideoSource
from vdit.data.walk import HIDDEN
from vdit.doctor.finding import Finding
from vdit.doctor.launch import Launch
from vdit.first_few import first_few
from vdit.types import ClipSource, InputError

__all__ = ["ClipsFound", "check_clips"]

REMEDY = "mend what `data` names in the configuration, or bring the file to this machine"

TOLD = 3
"""Files that a sentence names."""


@dataclass(frozen=True)
class ClipsFound:
    """What a machine has of the clips of a run.

    Attributes:
        findings: of every source.
        fingerprint: of all clips; "" where they cannot be indexed.
    """

    findings: tuple[Finding, ...]
    fingerprint: str


def check_clips(launch: Launch) -> ClipsFound:
    """Open every file that the configuration names, and read the first and the last clip of each source."""
    try:
        data = build_part(launch.parsed, "data")
    except (InputError, OSError) as error:
        return ClipsFound((Finding("clips", "wrong", str(error), REMEDY),), "")
    named = (("clips", data.train), ("held-out clips", data.held_out))
    found = [
        finding for name, source in named for part in parts_of(source) for finding in _checked(name, part)
    ]
    return ClipsFound(tuple(found), f"{data.train.fingerprint} {data.held_out.fingerprint}")


def _checked(name: str, source: ClipSource) -> Iterator[Finding]:
    for index in sorted({0, len(source) - 1}):
        try:
            clip = source[index]
        except (ValueError, RuntimeError, OSError) as error:  # decoders have no error in common
            yield Finding(name, "wrong", f"clip {index} of {len(source)} cannot be read: {error}", REMEDY)
            return
    if isinstance(source, VideoSource):
        yield from _left_out(name, source.report)
    frames, height, width = clip.pixels.shape[1:]
    yield Finding(
        name, "ok", f"{len(source)} clips of {frames} frames of {height}x{width}; first and last read"
    )


def _left_out(name: str, report: SourceReport) -> Iterator[Finding]:
    """What a source goes without: files that are not there, and others, which may be meant so."""
    absent = [printable(file) for file, reason in report.skipped if reason == ABSENT]
    others = [printable(f"{file}: {reason}") for file, reason in report.skipped if reason != ABSENT]
    unknown = [printable(f"{file}: {why}") for file, why in report.not_understood if why != HIDDEN]
    if absent:
        yield Finding(name, "wrong", f"named and not there: {first_few(absent, TOLD)}", REMEDY)
    if others:
        sentence = f"left out, because they give no clip: {first_few(others, TOLD, '; ')}"
        yield Finding(name, "warning", sentence, "mend them, or take them out of the data")
    if unknown:
        sentence = f"left out, because they are not understood: {first_few(unknown, TOLD, '; ')}"
        yield Finding(
            name, "warning", sentence, "rename them, or leave them as they are if they are no clips"
        )
