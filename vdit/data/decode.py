"""Reading videos: how many frames a file holds, at which true rate, and the frames themselves.

`scan` walks the packets of a file once, without decoding them, and notes the time stamp of every frame;
readers then fetch frames by number. PyAV reads videos unless decord is asked for; Pillow reads images,
which count as videos of one frame.
"""

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from vdit.types import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image

__all__ = [
    "ABSENT",
    "IMAGE_ENDINGS",
    "VIDEO_ENDINGS",
    "Decoder",
    "FrameTable",
    "UnreadableVideo",
    "VideoInfo",
    "VideoReader",
    "open_video",
    "probe",
    "require_decoder",
    "scan",
]

VIDEO_ENDINGS = (
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".qt",
        ".mkv",
        ".webm",
        ".gif",
        ".apng",
        ".avi",
        ".wmv",
        ".asf",
        ".flv",
        ".f4v",
    ),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".mxf", ".ogv", ".3gp", ".3g2"),
)
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff")

FULL_16 = 2**16 - 1
"""White, where a value has 16 bits."""
ABSENT = "there is no such file"
"""Why a video that is named and not there cannot be used."""

Decoder = Literal["pyav", "decord"]


class UnreadableVideo(InputError):
    """A video file that cannot be used: `path` names it and `reason` says why."""

    def __init__(self, path: Path | str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, as it is shown: rotation marks are already applied to height and width.

    Attributes:
        frames: number of frames, counted, not taken from the header.
        height: pixels.
        width: pixels.
        fps: the file's average frame rate, exact (30000/1001, not 29.97); 1 for an image.
        duration: seconds, from the first frame to the end of the last.
    """

    frames: int
    height: int
    width: int
    fps: Fraction
    duration: float


@dataclass(frozen=True, eq=False)
class FrameTable:
    """A file's frames in the order they are shown.

    Attributes:
        info: the summary.
        pts: presentation stamp of every frame, int64, in units of the file's own time base.
        times: the same in seconds, from 0 at the first frame.
    """

    info: VideoInfo
    pts: Int64[np.ndarray, "t"]
    times: Float64[np.ndarray, "t"]


class VideoReader(ABC):
    """Random access to the frames of one file; safe to share between threads, as it keeps no file open."""

    def __init__(self, path: Path, table: FrameTable):
        self.path = path
        self.table = table

    def read(self, start: int, count: int, stride: int = 1) -> UInt8[Tensor, "c t h w"]:
        """`count` RGB frames, `stride` apart, from number `start`. Raises `InputError` past the end."""
        last = start + (count - 1) * stride
        frames = self.table.info.frames
        if start < 0 or count < 1 or stride < 1 or last >= frames:
            raise InputError(
                f"{self.path}: {count} frames from {start} with stride {stride} end at frame {last}, but the "
                f"file holds {frames} (0 to {frames - 1}); ask for fewer frames or a smaller stride"
            )
        return self.frames(range(start, last + 1, stride))

    @abstractmethod
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        """The RGB frames with these numbers, in the order given; numbers may repeat.

        Raises:
            UnreadableVideo: a frame cannot be decoded.
        """


def open_video(path: Path | str, decoder: Decoder = "pyav", table: FrameTable | None = None) -> VideoReader:
    """A reader of `path`; give the `table` of an earlier `scan` to save walking the file again."""
    path = Path(path)
    table = scan(path) if table is None else table
    if path.suffix.lower() in IMAGE_ENDINGS:
        return _ImageReader(path, table)
    require_decoder(decoder)
    return _DecordReader(path, table) if decoder == "decord" else _PyAVReader(path, table)


def require_decoder(decoder: Decoder) -> None:
    """Refuse a decoder that is unknown or not installed."""
    if decoder not in ("pyav", "decord"):
        raise InputError(f"decoder {decoder!r} is unknown; choose 'pyav' or 'decord'")
    if decoder == "decord" and importlib.util.find_spec("decord") is None:
        raise InputError(
            "decoder 'decord' is not installed; install it with pip install 'vdit-video[decord]', "
            "or leave decoder at 'pyav'"
        )


def probe(path: Path | str) -> VideoInfo:
    """Frame count, size, true frame rate and duration of a file. Raises `UnreadableVideo`."""
    return scan(path).info


def scan(path: Path | str) -> FrameTable:
    """Walk a file's packets and decode its first frame.

    Raises:
        UnreadableVideo: no such file, not a video, no frames, or fewer frames than its header promises.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableVideo(path, ABSENT)
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty (0 bytes)")
    if path.suffix.lower() in IMAGE_ENDINGS:
        height, width = read_image(path).shape[:2]
        return FrameTable(VideoInfo(1, height, width, Fraction(1), 1.0), np.zeros(1, np.int64), np.zeros(1))
    with _opened(path) as (container, stream):
        pts, fps, base = _stamps(path, container, stream)
    first = _decode(path, {int(pts[0])}, seek=False).get(int(pts[0]))
    if first is None:
        raise UnreadableVideo(path, "its first frame cannot be decoded")
    height, width = first.shape[:2]
    times = (pts - pts[0]).astype(np.float64) * float(base)
    info = VideoInfo(len(pts), height, width, fps, float(times[-1]) + float(1 / fps))
    return FrameTable(info, pts, times)


class _PyAVReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        stamps = [int(self.table.pts[i]) for i in indices]
        found = _decode(self.path, set(stamps), seek=True)
        if len(found) < len(set(stamps)):  # a seek may land behind its target, or between two key frames
            found = _decode(self.path, set(stamps), seek=False)
        for index, stamp in zip(indices, stamps, strict=True):
            if stamp not in found:
                raise UnreadableVideo(self.path, f"frame {index} cannot be decoded; the file is damaged")
        return _channels_first(np.stack([found[stamp] for stamp in stamps]))


class _DecordReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        import decord  # pyright: ignore[reportMissingImports]

        try:
            video = decord.VideoReader(str(self.path), ctx=decord.cpu(0), num_threads=1)
            return _channels_first(video.get_batch([int(i) for i in indices]).asnumpy())
        except (decord.DECORDError, RuntimeError) as error:
            raise UnreadableVideo(
                self.path, f"decord cannot read it: {str(error).splitlines()[-1]}"
            ) from error


class _ImageReader(VideoReader):
    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "c t h w"]:
        image = read_image(self.path)
        return _channels_first(np.stack([image for _ in indices]))


def _channels_first(frames: np.ndarray) -> UInt8[Tensor, "c t h w"]:
    return rearrange(torch.from_numpy(frames), "t h w c -> c t h w").contiguous()


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """An image as it is meant to be seen, upright; what is transparent lies on middle grey.

    Raises:
        UnreadableVideo: no such file, not an image, several images, or values that have no white.
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise UnreadableVideo(path, ABSENT)
    try:
        with Image.open(path) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # a photograph with smaller copies of itself
                raise UnreadableVideo(
                    path, f"it holds {pictures} pictures; save them as a video, or one as an image"
                )
            return _eight_bits(path, ImageOps.exif_transpose(image))
    except UnreadableVideo:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableVideo(path, f"Pillow cannot read this image ({error})") from error


def _eight_bits(path: Path, image: "Image.Image") -> UInt8[np.ndarray, "h w 3"]:
    """Red, green and blue of an image of any kind; Pillow itself clips values of 16 bits to 255."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.array(image)
        if image.mode == "F" or values.min() < 0 or values.max() > FULL_16:
            raise UnreadableVideo(path, "its values have no white; save it with 8 or 16 bits a channel")
        grey = np.rint(values * (255 / FULL_16)).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo(path, "it holds no video stream")
            stream = container.streams.video[0]
            # Clips are short and several are read at once: threads inside one decoder would only compete.
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.FFmpegError as error:
        raise UnreadableVideo(path, f"FFmpeg cannot read it ({error.strerror})") from error


def _stamps(
    path: Path, container: "InputContainer", stream: "VideoStream"
) -> tuple[Int64[np.ndarray, "t"], Fraction, Fraction]:
    """The time stamps of all frames that are shown, sorted; the frame rate; the time base of the stamps."""
    packets = [_Packet.of(packet, stream) for packet in container.demux(stream) if packet.size]
    whole = sum(not packet.damaged for packet in packets)
    if whole < max(stream.frames, len(packets)):
        promised = max(stream.frames, len(packets))
        raise UnreadableVideo(path, f"it is truncated: {whole} of {promised} frames are there")
    shown = [packet for packet in packets if packet.shown]
    if not shown:
        raise UnreadableVideo(path, "it holds no frames")
    stamps = {packet.pts for packet in shown if packet.pts is not None}
    if len(stamps) < len(shown):
        raise UnreadableVideo(
            path, "its frames lack time stamps of their own; encode it again, for example as mp4"
        )
    pts = np.array(sorted(stamps), dtype=np.int64)
    base = Fraction(stream.time_base or 1)
    declared = _declared_seconds(stream)
    held = float(int(pts[-1] - pts[0]) * base)
    # Matroska counts no frames in its header but tells the stream's duration. A second of tolerance covers
    # long last frames; a stream that ends earlier was cut off.
    if stream.frames == 0 and declared - held > 1:
        raise UnreadableVideo(path, f"it is truncated: {held:.1f} of {declared:.1f} seconds are there")
    fps = stream.average_rate or stream.guessed_rate
    if not fps:  # a single frame has no rate, but it has a duration
        fps = 1 / (shown[0].duration * base) if shown[0].duration else Fraction(1)
    return pts, Fraction(fps), base


@dataclass(frozen=True)
class _Packet:
    """What is worth keeping of a packet; the packets themselves would hold the whole file in memory."""

    pts: int | None
    duration: int
    damaged: bool
    shown: bool

    @classmethod
    def of(cls, packet: "Packet", stream: "VideoStream") -> "_Packet":
        # VP8 keeps alternate reference frames in packets of their own; bit 4 of the first byte is show_frame.
        hidden = stream.codec_context.name == "vp8" and not bytes(packet)[0] >> 4 & 1
        return cls(packet.pts, packet.duration or 0, packet.is_corrupt, not packet.is_discard and not hidden)


def _declared_seconds(stream: "VideoStream") -> float:
    parts = stream.metadata.get("DURATION", "").split(":")
    if len(parts) != 3:
        return 0.0
    seconds = math.fsum(float(part) * scale for part, scale in zip(parts, (3600, 60, 1), strict=True))
    start = float((stream.start_time or 0) * (stream.time_base or 1))
    return seconds - start


def _decode(path: Path, stamps: set[int], seek: bool) -> dict[int, np.ndarray]:
    """The undamaged frames with these time stamps, upright, as `h w c` arrays of uint8."""
    from av.video.reformatter import VideoReformatter

    found: dict[int, np.ndarray] = {}
    to_rgb = VideoReformatter()  # one for all frames: setting it up costs as much as converting a small frame
    with _opened(path) as (container, stream):
        if seek:
            container.seek(min(stamps), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            if frame.pts in stamps and not frame.is_corrupt:
                found[frame.pts] = _upright(to_rgb.reformat(frame, format="rgb24"), frame.rotation)
            if frame.pts >= max(stamps):
                break
    return found


def _upright(rgb: "VideoFrame", rotation: int) -> np.ndarray:
    return np.rot90(rgb.to_ndarray(), round(rotation / 90))  # both count counter-clockwise
