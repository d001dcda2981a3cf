import pytest
import torch

from vdit.codecs.tiling import TiledCodec
from vdit.codecs.wan.codec import WanCodec


@pytest.fixture(scope="module")
def codec() -> TiledCodec:
    """Small and untrained, with four frames a latent."""
    torch.manual_seed(0)
    return TiledCodec(
        WanCodec(latent_channels=4, encoder_width=4, decoder_width=4).eval().requires_grad_(False)
    )
