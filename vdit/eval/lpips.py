"""LPIPS itself, on a VGG-16 that the user brings."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from vdit.eval.perceptual import PerceptualDistance
from vdit.types import InputError
from vdit.weights.source import open_weights

__all__ = ["LPIPS"]

# Channels of the convolutions of each stage (Simonyan & Zisserman 2015, table 1, column D).
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# By which pixels in [-1, 1] come to the mean and deviation of the pictures that VGG was trained on.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(PerceptualDistance):
    """LPIPS 0.1 with VGG-16: weighed squared differences of unit-length features, 0 for equal pictures.

    The weights of the five layers travel with torchmetrics; those of VGG-16 do not, and are the user's.
    Source: Zhang et al. 2018, eq. 1.

    Args:
        weights: torchvision's VGG-16, such as `vgg16-397923af.pth`, or the same as safetensors.

    Raises:
        InputError: a file that is missing, damaged or of another network.
    """

    name = "LPIPS (VGG)"
    features_name = "VGG-16, last layer, mean over a clip"
    least = 16

    def __init__(self, weights: Path | str) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stages())
        self.heads = nn.ParameterList(_heads())
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.shift: Tensor
        self.scale: Tensor
        self._load(Path(weights))
        self.eval().requires_grad_(False)

    def forward(self, a: Float[Tensor, "b 3 t h w"], b: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b"]:
        one, other = (rearrange(x.float(), "b c t h w -> (b t) c h w") for x in (a, b))
        found = one.new_zeros(len(one))
        for x, y, head in zip(self._layers(one), self._layers(other), self.heads, strict=True):
            apart = (_unit(x) - _unit(y)).square()
            found = found + torch.einsum("c, n c h w -> n h w", head, apart).mean((1, 2))
        return reduce(found, "(b t) -> b", "mean", b=len(a))

    def features(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 512"]:
        *_, last = self._layers(rearrange(clips.float(), "b c t h w -> (b t) c h w"))
        return reduce(last, "(b t) d h w -> b d", "mean", b=len(clips))

    def _layers(self, frames: Float[Tensor, "n 3 h w"]) -> Iterator[Tensor]:
        """What each stage sees, before its pooling."""
        x = (frames - self.shift) / self.scale
        for stage in self.stages:
            x = stage(x)
            yield x

    def _load(self, file: Path) -> None:
        own = {
            f"features.{i}.{kind}": getattr(layer, kind)
            for i, layer in enumerate(layer for stage in self.stages for layer in stage)  # pyright: ignore
            if isinstance(layer, nn.Conv2d)
            for kind in ("weight", "bias")
        }
        shapes = (source := open_weights(file)).shapes()
        wrong = [name for name, tensor in own.items() if shapes.get(name) != tuple(tensor.shape)]
        if wrong:
            raise InputError(f"{file} is no VGG-16 of torchvision: {wrong[0]} is missing or of another shape")
        with torch.no_grad():
            for name, tensor in source.tensors():
                if name in own:
                    own[name].copy_(tensor)


def _stages() -> Iterator[nn.Sequential]:
    """The layers in torchvision's order, so that the n-th is its `features.n`."""
    before = 3
    for i, widths in enumerate(STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if i else []
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        yield nn.Sequential(*layers)


def _heads() -> list[Tensor]:
    """How much each channel of each layer counts."""
    package = find_spec("torchmetrics")
    assert package is not None  # vdit requires it
    assert package.origin is not None
    file = Path(package.origin).parent / "functional/image/lpips_models/vgg.pth"
    found = dict(open_weights(file).tensors())
    return [found[f"lin{i}.model.1.weight"].flatten() for i in range(len(STAGES))]


def _unit(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Every position at length 1; inside the root, so that nothing seen still has a gradient."""
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8)
