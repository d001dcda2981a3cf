"""Codecs of a few thousand weights, all at random, so that no path is shut."""

from collections.abc import Callable

import pytest
import torch

from vdit.codecs.native.codec import NativeCodec

TINY = {
    "latent_channels": 4,
    "patch": 2,
    "widths": (6, 8, 8),
    "encoder_blocks": (0, 1, 1),
    "decoder_blocks": (1, 0, 1),
    "strides": ((2, 2), (2, 1)),
}


@pytest.fixture(scope="session")
def tiny_codec() -> Callable[..., NativeCodec]:
    """`tiny_codec(seed=0, fresh=False, **settings)`: 4x4x4 by default; fresh is as training begins."""

    def build(seed: int = 0, fresh: bool = False, **changed) -> NativeCodec:
        torch.manual_seed(seed)
        codec = NativeCodec(**(TINY | changed))
        if fresh:
            return codec.requires_grad_(False).eval()
        with torch.no_grad():
            for p in codec.parameters():
                p.add_(0.1 * torch.randn(p.shape))
            codec.latent_mean.normal_()
            codec.latent_std.uniform_(0.5, 2)
        return codec.requires_grad_(False).eval()

    return build
