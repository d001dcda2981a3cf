"""A video that every test can make and recognise."""

import torch
from torch import Tensor


def moving_waves(t: int, h: int, w: int) -> Tensor:
    """Smooth waves that move, pixels 'c t h w' in [-0.9, 0.9]; every frame differs from every other."""
    k = torch.arange(t)[:, None, None] / 20
    y = torch.arange(h)[None, :, None] / h
    x = torch.arange(w)[None, None, :] / w
    waves = [torch.sin(6 * x + 3 * k + 0 * y), torch.cos(5 * y - 2 * k + 0 * x), torch.sin(4 * (x + y) + k)]
    return torch.stack(waves) * 0.9
