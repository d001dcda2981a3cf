"""The network that learns to tell clips from what a codec makes of them."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vdit.types import InputError

__all__ = ["PatchCritic"]


class PatchCritic(nn.Module):
    """A 3D convolutional network that gives an opinion on every patch of a clip: above 0 looks real.

    Each stage halves rows and columns, and from the second on frames too; clips of any number of frames, one
    included, go through. It looks at later frames as at earlier ones: it is no part of the codec.
    Source: PatchGAN (Isola et al. 2017, sec. 3.2.2), with time as a third axis.

    Shapes: `b 3 t h w` -> `b 1 t' h' w'`.

    Args:
        widths: channels at each stage; more stages see larger patches.
        groups: of the norms after every stage but the first.

    Raises:
        InputError: no stage, or a width that the groups do not divide.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), groups: int = 8) -> None:
        super().__init__()
        if not widths or groups < 1 or any(width < 1 or width % groups for width in widths):
            raise InputError(
                f"the critic's widths {list(widths)} must be one or more multiples of its {groups} groups"
            )
        self.least = 2 ** len(widths)
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            before, stride_t = (3, 1) if i == 0 else (widths[i - 1], 2)
            layers.append(nn.Conv3d(before, width, (3, 4, 4), (stride_t, 2, 2), padding=1))
            if i > 0:
                layers.append(nn.GroupNorm(groups, width))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 3, padding=1))

    def forward(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 1 t_patch h_patch w_patch"]:
        return self.layers(pixels)
