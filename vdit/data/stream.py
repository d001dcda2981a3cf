"""A video file opened: the stream that a player shows, and its frames as the decoder gives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.data.media import UnreadableVideo

if TYPE_CHECKING:
    from av import VideoCodecContext
    from av.container import Container, InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["counted", "decoded", "opened", "videos"]

# FFmpeg's own decoders of these skip the second picture, which holds the transparency; libvpx reads it.
_READS_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# Texts that name other files: what these hold may change, and a clip is known by its own file.
_PLAYLISTS = ("concat", "hls", "dash", "imf")


@contextmanager
def opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """A file and the stream in it that a player shows.

    Raises:
        UnreadableVideo: FFmpeg fails, here or in what is done inside, or there is no video.
    """
    import av
    from av.stream import Disposition

    try:
        # Named as a file, `http:a.mp4` is no address; and a title need not be UTF-8.
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            if container.format.name in _PLAYLISTS:
                raise UnreadableVideo(path, "it is a list of other files; give the videos themselves")
            stream = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:  # a cover is no video
                raise UnreadableVideo(path, "it holds no video stream")
            if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise UnreadableVideo(path, "FFmpeg has no decoder for its video; encode it as H.264")
            # Clips are short and several are read at once: threads inside one decoder would only compete.
            stream.codec_context.thread_count = 1  # pyright: ignore[reportAttributeAccessIssue]
            yield container, stream  # pyright: ignore[reportReturnType]
    except av.FFmpegError as error:
        raise UnreadableVideo(path, f"FFmpeg cannot read it ({error.strerror})") from error


def videos(container: "Container") -> int:
    """How many videos a file holds; pictures of its cover are none."""
    from av.stream import Disposition

    return sum(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)


def decoded(container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    """All frames from where the container stands, with the transparency that the file has.

    What cannot be decoded before the first of them is passed over: a recording may begin anywhere.
    """
    import av

    context = _with_alpha(stream) or stream.codec_context
    begun = False
    for packet in container.demux(stream):
        try:
            frames = context.decode(packet if packet.size else None)
        except av.InvalidDataError:
            if begun:
                raise
            continue
        begun = begun or bool(frames)
        yield from frames


def _with_alpha(stream: "VideoStream") -> "VideoCodecContext | None":
    import av

    name = stream.codec_context.name
    if stream.metadata.get("alpha_mode") != "1" or name not in _READS_ALPHA:
        return None
    context = av.CodecContext.create(_READS_ALPHA[name], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    return context


def counted(path: Path, container: "InputContainer", stream: "VideoStream") -> "Iterator[VideoFrame]":
    """All frames of a file from its start, as they are counted where they have no stamps to be found by.

    Raises:
        UnreadableVideo: one of them is damaged.
    """
    for number, frame in enumerate(decoded(container, stream)):
        if frame.is_corrupt:
            raise UnreadableVideo(path, f"frame {number} cannot be decoded; the file is damaged")
        yield frame
