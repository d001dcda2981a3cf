"""Perceptual distance between pictures, by a trained network whose weights a package carries."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from vdit.types import InputError

__all__ = ["PerceptualDistance", "ShiftTolerantLPIPS", "mean_over_frames"]

PIXELS_AT_ONCE = 2**21
"""Of frames that a judge looks at together: what a VGG keeps of them takes a few GiB."""

# What the package imports and does not use here; torchvision has no build for every torch.
_UNUSED = ("torchvision", "torchvision.models", "IPython", "torchsummary")


class PerceptualDistance(nn.Module, ABC):
    """How different clips look, frame by frame. Differentiable in both clips.

    Attributes:
        name: for tables; numbers of different names cannot be compared.
        features_name: of what `features` gives.
        least: rows and columns that frames need.
    """

    name: str
    features_name: str
    least: int

    @abstractmethod
    def forward(self, a: Float[Tensor, "b 3 t h w"], b: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b"]:
        """The distance of clips with pixels in [-1, 1], the mean over frames."""

    @abstractmethod
    def features(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        """What the network sees in a clip, for a Fréchet distance."""


class ShiftTolerantLPIPS(PerceptualDistance):
    """ST-LPIPS, from the package stlpips-pytorch: 0 for equal pictures.

    It forgives shifts of a pixel or two. It is not LPIPS, and its numbers are not comparable with LPIPS.
    Source: Ghildyal & Liu 2022.

    Args:
        net: `alex`, or the slower `vgg`: who trains on one can be judged by the other.

    Raises:
        InputError: the package is not installed.
    """

    least = 32

    def __init__(self, net: Literal["alex", "vgg"] = "alex") -> None:
        super().__init__()
        if find_spec("stlpips_pytorch") is None:
            raise InputError("perceptual scores need stlpips-pytorch: pip install 'vdit-video[perceptual]'")
        with _stand_ins(), torch.device("cpu"):  # trained weights, wherever else things are being built
            from stlpips_pytorch.stlpips import LPIPS

            model: Any = LPIPS(net=net, variant="shift_tolerant", verbose=False)
        self.model = model.eval().requires_grad_(False)
        title = {"alex": "AlexNet", "vgg": "VGG"}[net]
        self.name = f"ST-LPIPS ({title})"
        self.features_name = f"ST-LPIPS {title}, last layer, mean over a clip"

    def forward(self, a: Float[Tensor, "b 3 t h w"], b: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b"]:
        one, other = (rearrange(x.float(), "b c t h w -> (b t) c h w") for x in (a, b))
        return reduce(self.model(one, other), "(b t) 1 1 1 -> b", "mean", b=len(a))

    def features(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        frames = rearrange(clips.float(), "b c t h w -> (b t) c h w")
        last = self.model.net(self.model.scaling_layer(frames))[-1]
        return reduce(last, "(b t) d h w -> b d", "mean", b=len(clips))


def mean_over_frames(
    judge: Callable[..., Float[Tensor, "b *d"]], *clips: Float[Tensor, "b 3 t h w"]
) -> Float[Tensor, "b *d"]:
    """What a judge that takes means over frames says of whole clips, from a part of their frames at a time.

    Args:
        judge: a `PerceptualDistance`, or its `features`.
        clips: what it looks at, of one size.
    """
    b, _, t, h, w = clips[0].shape
    parts = [clip.split(max(1, PIXELS_AT_ONCE // (b * h * w)), dim=2) for clip in clips]
    means = [judge(*frames) * (frames[0].shape[2] / t) for frames in zip(*parts, strict=True)]
    return torch.stack(means).sum(0)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty modules for what the package imports in vain, gone again afterwards."""
    absent = [name for name in _UNUSED if name not in sys.modules]
    for name in absent:
        sys.modules[name] = _Empty(name)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


class _Empty(ModuleType):
    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None
