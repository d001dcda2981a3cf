"""What a codec computes with: the precision of its weights, where a device has arithmetic for it."""

from typing import Literal

import torch

from vdit.codecs.codec import VideoCodec
from vdit.devices import has_bfloat16

__all__ = ["CodecDtype", "place_codec", "with_weights"]

CodecDtype = Literal["float32", "bfloat16"]


def place_codec(codec: VideoCodec, device: torch.device, dtype: CodecDtype | None = None) -> VideoCodec:
    """Move a codec to a device.

    Args:
        codec: changed in place.
        device: where it is to compute.
        dtype: what it is to compute with; None leaves its weights as they are, but for bfloat16 on a device
            without such arithmetic, where they become float32.
    """
    emulated = codec.dtype == torch.bfloat16 and not has_bfloat16(device)
    wanted = getattr(torch, dtype) if dtype else torch.float32 if emulated else codec.dtype
    return with_weights(codec, wanted).to(device)


def with_weights(codec: VideoCodec, dtype: torch.dtype) -> VideoCodec:
    """Cast the weights of a codec in place; its statistics stay as precise as they are."""
    for weight in codec.parameters():
        weight.data = weight.data.to(dtype)
    return codec
