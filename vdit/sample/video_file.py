"""Videos out: H.264 files that say they are AI-generated.

Every file carries the mark three times, so that one survives where another is stripped: in the title and
comment that players show, in the `synopsis` tag with the prompt, and as an XMP packet with the IPTC property
`DigitalSourceType`, the field that picture agencies and provenance tools read.
"""

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from xml.sax.saxutils import escape, unescape

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vdit.sample.yuv import to_yuv420
from vdit.types import InputError

__all__ = ["AI_GENERATED", "frame_rate", "read_metadata", "to_bytes", "write_video", "written_aside"]

# IPTC news code for media made by a trained model, http://cv.iptc.org/newscodes/digitalsourcetype/
AI_GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

# The mp4 box of an XMP packet (XMP specification part 3, 1.2.7.1): type `uuid` with this identifier.
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def write_video(
    path: Path | str,
    pixels: Float[Tensor, "c t h w"],
    fps: float | Fraction,
    metadata: Mapping[str, str] | None = None,
    crf: int = 17,
) -> None:
    """Encode a clip as H.264 mp4 that plays everywhere, marked as AI-generated.

    The file appears whole or not at all. Sizes must be even for 4:2:0 colour: an odd height or width is
    padded by repeating the last row or column.

    Args:
        path: the mp4 to write; folders are made.
        pixels: RGB in [-1, 1]; values outside are clipped.
        fps: frames per second; kept exactly in the file.
        metadata: texts to keep with the clip (prompt, seed, checkpoint ...), read back by `read_metadata`.
        crf: x264 quality, 0 (lossless luma) to 51; 17 is visually lossless.

    Raises:
        InputError: not three channels, no frames, values that are not finite, fps or crf out of range.
    """
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    rate = frame_rate(fps)
    _check(pixels, crf)
    even = _even(pixels)
    height, width = even.shape[2:]
    with written_aside(Path(path)) as aside:
        with av.open(str(aside), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            container.metadata.update(_tags(metadata or {}))
            # With mbtree x264 (core 165) seems to read memory that it has not written: clips 32, 96 and 176
            # wide, no multiples of 64, came out as other files from one time to the next.
            options = {"crf": str(crf), "preset": "medium", "mbtree": "0"}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            # Untagged files are shown with whichever matrix a player guesses from the size: say which it is.
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
            stream.codec_context.color_primaries = ColorPrimaries.BT709
            stream.codec_context.color_trc = ColorTrc.BT709
            for index, rgb in enumerate(even.unbind(1)):
                frame = av.VideoFrame.from_ndarray(to_yuv420(rgb), format="yuv420p")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with aside.open("ab") as file:
            file.write(_xmp_box())


def read_metadata(path: Path | str) -> dict[str, str]:
    """The texts given to `write_video`, with `title`, `comment` and `digital_source_type` where present.

    Raises:
        InputError: the file cannot be read.
    """
    import av

    try:
        with av.open(f"file:{path}", options={"export_xmp": "1"}, metadata_errors="replace") as container:
            tags = dict(container.metadata)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: its metadata cannot be read ({error})") from error
    found = {key: tags[key] for key in ("title", "comment") if key in tags}
    mark = re.search(r"<Iptc4xmpExt:DigitalSourceType>(.*?)<", tags.get("xmp", ""))
    if mark:
        found["digital_source_type"] = unescape(mark[1])
    try:
        found.update(json.loads(tags.get("synopsis", "{}")))
    except ValueError:  # another program's synopsis
        found["synopsis"] = tags["synopsis"]
    return found


def frame_rate(fps: float | Fraction) -> Fraction:
    """Frames per second as a file has them. Raises InputError where a file cannot have them."""
    rate = Fraction(fps).limit_denominator(1001) if fps > 0 else Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(f"fps must lie above 0 and at most 1000, got {float(fps):g}")
    return rate


def _check(pixels: Tensor, crf: int) -> None:
    if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape:
        raise InputError(
            f"a video needs pixels 'c t h w' with 3 channels and a frame, got {tuple(pixels.shape)}"
        )
    if not torch.isfinite(pixels).all():
        bad = (~torch.isfinite(pixels)).float().mean().item()
        raise InputError(
            f"{bad:.1%} of the pixels are not finite, so there is no picture to write; was it trained?"
        )
    if not 0 <= crf <= 51:
        raise InputError(f"crf must lie between 0 and 51, got {crf}")


def to_bytes(pixels: Float[Tensor, "c t h w"]) -> UInt8[np.ndarray, "t h w c"]:
    """Pixels in [-1, 1] as RGB bytes; values outside are clipped."""
    scaled = ((pixels.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return rearrange(scaled, "c t h w -> t h w c").numpy()


def _even(pixels: Float[Tensor, "c t h w"]) -> Float[Tensor, "c t h_even w_even"]:
    h, w = pixels.shape[2:]
    return torch.nn.functional.pad(pixels, (0, w % 2, 0, h % 2), mode="replicate")


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        "title": metadata.get("title", "AI-generated video"),
        "comment": f"This video is AI-generated. digitalSourceType={AI_GENERATED}",
        "description": metadata.get("prompt", ""),
        "synopsis": json.dumps(dict(metadata), ensure_ascii=False),
    }


def _xmp_box() -> bytes:
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{escape(AI_GENERATED)}</Iptc4xmpExt:DigitalSourceType>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
    body = b"uuid" + _XMP_UUID + packet
    return (len(body) + 4).to_bytes(4, "big") + body


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem[:60]}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
