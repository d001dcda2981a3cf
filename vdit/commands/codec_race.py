"""The Wan autoencoder here and in diffusers, side by side on the same weights and clips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vdit.codecs.published import codec_of_config, keymap_of
from vdit.codecs.wan.codec import WanCodec
from vdit.eval.overhead import Overhead, measure_overhead
from vdit.eval.peak_memory import peak_memory
from vdit.types import InputError

__all__ = ["SIZES", "CodecRace", "Race", "Size"]

EQUAL = 2e-5
"""What both may differ by, of pixels and latents, before they are timed."""


@dataclass(frozen=True)
class Size:
    """What is coded.

    Attributes:
        width: channels of the first stage; 96 is the published model.
        frames: latent frames.
        side: pixel rows and columns.
    """

    width: int
    frames: int
    side: int

    def __str__(self) -> str:
        return f"width {self.width}, {1 + 4 * (self.frames - 1)}x{self.side}x{self.side}"


SIZES: Mapping[str, Size] = MappingProxyType(
    {"tiny": Size(8, 5, 64), "medium": Size(32, 5, 128), "full": Size(96, 3, 128)}
)


@dataclass(frozen=True)
class Race:
    """One direction at one size.

    Attributes:
        what: decode or encode.
        times: theirs as `full`, ours as `bare`.
        theirs: bytes that diffusers needs beside weights and input, at most; None where not measured.
        ours: the same of this project.
    """

    what: str
    times: Overhead
    theirs: int | None
    ours: int | None


class CodecRace:
    """Both implementations with the same random weights.

    Raises:
        InputError: diffusers is not installed.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.theirs: Any = _theirs(size)
        self.ours = _ours(self.theirs)

    @torch.no_grad()
    def run(self, pairs: int, progress: Callable[[int, int], None]) -> list[Race]:
        """Check that both compute the same, then time them in turns.

        Raises:
            RuntimeError: they do not.
        """
        races = []
        for what in ("decode", "encode"):
            theirs, ours = (_work(what, codec, self.size) for codec in (self.theirs, self.ours))
            difference = (theirs() - ours()).abs().max().item()
            if difference > EQUAL:
                raise RuntimeError(f"{what} differs by {difference:.1e}: no use in timing it")
            times = measure_overhead(theirs, ours, pairs, progress)
            peaks = [peak_memory(_alone, (what, whose, self.size)) for whose in ("theirs", "ours")]
            races.append(Race(what, times, *peaks))
        return races


def _theirs(size: Size) -> Any:
    try:
        from diffusers import AutoencoderKLWan
    except ImportError as error:
        raise InputError("bench codec compares with diffusers: pip install 'vdit-video[oracle]'") from error
    torch.manual_seed(0)
    return AutoencoderKLWan(base_dim=size.width, z_dim=16).eval().requires_grad_(False)


def _ours(theirs: Any) -> WanCodec:
    codec = codec_of_config({"_class_name": "AutoencoderKLWan", **theirs.config}, "diffusers")
    assert isinstance(codec, WanCodec)
    own = codec.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    for name, tensor in keymap_of(codec, "diffusers").to_ours(theirs.state_dict().items(), shapes):
        own[name].copy_(tensor)
    return codec.eval().requires_grad_(False)


def _inputs(size: Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, size.frames, size.side // 8, size.side // 8, generator=generator)
    frames = 1 + 4 * (size.frames - 1)
    return latents, torch.rand(1, 3, frames, size.side, size.side, generator=generator) * 2 - 1


def _work(what: str, codec: Any, size: Size) -> Callable[[], Tensor]:
    return partial(_decode if what == "decode" else _encode, codec, *_inputs(size))


def _decode(codec: Any, latents: Tensor, pixels: Tensor) -> Tensor:
    if isinstance(codec, WanCodec):
        return codec.reconstruct(latents).clamp_(-1, 1)
    return codec.decode(latents).sample


def _encode(codec: Any, latents: Tensor, pixels: Tensor) -> Tensor:
    if isinstance(codec, WanCodec):
        return codec.posterior(pixels).mean
    return codec.encode(pixels).latent_dist.mean


def _alone(asked: tuple[str, str, Size]) -> Callable[[], Tensor]:
    what, whose, size = asked
    torch.set_grad_enabled(False)
    theirs = _theirs(size)
    codec = theirs if whose == "theirs" else _ours(theirs)
    return _work(what, codec, size)
