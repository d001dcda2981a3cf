"""The packets of a video file, walked without decoding them, and whether all that it promises are there."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.data.edits import refuse_unplayed
from vdit.data.media import UnreadableVideo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet as AVPacket
    from av.video.stream import VideoStream

__all__ = ["Packet", "refuse_short", "walk"]

# Containers in which a packet is a frame; in others (AVI, MPEG-TS, WMV ...) it need not be.
_MATROSKA, _MOV, _GIF = "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "gif"
_PACKET_IS_FRAME = (_MOV, _MATROSKA, _GIF)

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067

# MPEG-TS: bytes from one sync byte to the next, and from one to the end of its packet. Cameras and discs put
# a time before each packet, broadcasters a check behind it (ISO/IEC 13818-1; BDAV; ETSI EN 300 429).
_TS, _SYNC = "mpegts", b"\x47"
_TS_PACKETS = ((188, 188), (192, 188), (204, 204))
_TS_TAIL = 1 << 16


@dataclass(frozen=True)
class Packet:
    """What is worth keeping of a packet; the packets themselves would hold the whole file in memory.

    Attributes:
        pts: the stamp of its frame, None where the file has none.
        duration: of its frame, in the same units; 0 where the file has none.
        key: the frame can be decoded without others.
        shown: no edit list cuts the frame off, and it is more than a reference for others.
        damaged: a part of it is missing.
    """

    pts: int | None
    duration: int
    key: bool
    shown: bool
    damaged: bool

    @classmethod
    def of(cls, packet: "AVPacket", stream: "VideoStream") -> "Packet":
        """The marks of `packet`."""
        # VP8 keeps alternate reference frames in packets of their own; bit 4 of the first byte is show_frame.
        hidden = stream.codec_context.name == "vp8" and not bytes(packet)[0] >> 4 & 1
        shown = not packet.is_discard and not hidden
        return cls(packet.pts, packet.duration or 0, packet.is_keyframe, shown, packet.is_corrupt)


def walk(path: Path, container: "InputContainer", stream: "VideoStream") -> list[Packet]:
    """The packets of all frames that are shown, or none where a packet need not be a frame.

    Raises:
        UnreadableVideo: packets are missing, or all of them, or FFmpeg does not show them as the file says.
    """
    if container.format.name == _TS and (missing := _missing_of_ts(path)):
        raise UnreadableVideo(path, f"it is truncated: its last packet lacks {missing} bytes")
    if container.format.name not in _PACKET_IS_FRAME:
        return []
    if container.format.name == _MOV:
        refuse_unplayed(path, stream.id)
    packets = [Packet.of(packet, stream) for packet in container.demux(stream) if packet.size]
    whole = sum(not packet.damaged for packet in packets)
    # The index, not the header's count: an edit list leaves packets out that the file has.
    promised = max(len(packets), sum(entry.size > 0 for entry in stream.index_entries))
    if whole < promised:
        raise UnreadableVideo(path, f"it is truncated: {whole} of {promised} frames are there")
    shown = [packet for packet in packets if packet.shown]
    if not shown:
        raise UnreadableVideo(path, "it holds no frames")
    if container.format.name == _GIF and not _ends_as_gif(path):
        raise UnreadableVideo(path, "it is truncated: its last byte is not that of a GIF")
    if container.format.name == _MATROSKA:
        stamps = [packet.pts for packet in shown if packet.pts is not None] or [0]
        held = float((max(stamps) - min(stamps)) * (stream.time_base or 1))
        end = _segment_end(path)
        if end == 0 or end > path.stat().st_size:
            # A second forgives a long last frame, whose length a live recording does not tell.
            refuse_short(path, container, stream, held, slack=0 if end else 1)
    return shown


def refuse_short(
    path: Path, container: "InputContainer", stream: "VideoStream", held: float, slack: float
) -> None:
    """Refuse a file whose frames, `held` seconds, end more than `slack` before its header says."""
    declared = _declared_seconds(container, stream)
    if declared - held > slack:
        raise UnreadableVideo(path, f"it is truncated: {held:.1f} of {declared:.1f} seconds are there")


def _declared_seconds(container: "InputContainer", stream: "VideoStream") -> float:
    """0 where the file does not say it."""
    # Matroska's is a tag, which anybody may have written.
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)\0*", stream.metadata.get("DURATION", ""))
    start = float((stream.start_time or 0) * (stream.time_base or 1))
    if told:
        return (
            math.fsum(float(part) * scale for part, scale in zip(told.groups(), (3600, 60, 1), strict=True))
            - start
        )
    if stream.duration is not None:
        return float(stream.duration * (stream.time_base or 1))
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


def _ends_as_gif(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read().rstrip(b"\0").endswith(b";")


def _missing_of_ts(path: Path) -> int:
    """Bytes that the last packet of an MPEG-TS file lacks; 0 where its end is no row of packets.

    One that ends with a whole packet may lack frames too, and nothing in it says so: recordings end anywhere.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TS_TAIL))
        tail = file.read()
    for step, length in _TS_PACKETS:
        for first in range(min(step, len(tail))):
            heads = tail[first::step]
            if len(heads) > 4 and heads == _SYNC * len(heads):
                last = first + (len(heads) - 1) * step
                return max(0, last + length - len(tail))
    return 0


def _segment_end(path: Path) -> int:
    """Bytes of a Matroska file by its own word, RFC 8794; 0 where its writer did not know."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = 0
    for expected in (_EBML, _SEGMENT):
        if int.from_bytes(head[at : at + 4], "big") != expected or at + 5 > len(head):
            return 0
        length = 9 - head[at + 4].bit_length()
        size = int.from_bytes(head[at + 4 : at + 4 + length], "big") - (1 << 7 * length)
        body = at + 4 + length
        if size == (1 << 7 * length) - 1:
            return 0
        at = body + size
    return at
