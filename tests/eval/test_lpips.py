"""LPIPS against torchmetrics', on a VGG-16 with random weights: the trained ones are the user's to bring."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image import lpips as reference

from vdit.eval.lpips import LPIPS
from vdit.types import InputError

WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def vgg() -> nn.Sequential:
    """The convolutions of VGG-16 as torchvision numbers them."""
    torch.manual_seed(0)
    layers, before = [], 3
    for width in WIDTHS:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
            nn.init.kaiming_normal_(layers[-2].weight)
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    weights = {f"features.{name}": value for name, value in vgg().state_dict().items()}
    torch.save({**weights, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def clips(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 3, 32, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_gives_what_torchmetrics_gives(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_: vgg())
    theirs, ours = reference._LPIPS(net="vgg"), LPIPS(file)
    a, b = clips(0), clips(1)
    frames = [
        theirs(one, other).mean() for one, other in zip(a.transpose(1, 2), b.transpose(1, 2), strict=True)
    ]
    torch.testing.assert_close(ours(a, b), torch.stack(frames), atol=1e-6, rtol=1e-5)
    assert ours(a, b).min() > 0.01
    assert ours(a, a).abs().max() == 0
    assert ours.features(a).shape == (2, 512)


def test_it_has_a_gradient_where_nothing_is_seen(file: Path):
    judge, black = LPIPS(file), torch.zeros(1, 3, 1, 16, 16, requires_grad=True)
    with torch.no_grad():
        for p in judge.stages.parameters():
            p.zero_()
    judge(black, clips(0)[:1, :, :1, :16, :16]).sum().backward()
    assert black.grad is not None
    assert black.grad.isfinite().all()


def test_safetensors_do_as_well_and_other_networks_are_refused(file: Path, tmp_path: Path):
    weights = torch.load(file, weights_only=True)
    save_file(weights, tmp_path / "vgg.safetensors")
    again = LPIPS(tmp_path / "vgg.safetensors")
    torch.testing.assert_close(again(clips(0), clips(1)), LPIPS(file)(clips(0), clips(1)))
    del weights["features.28.bias"]
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=r"no VGG-16 of torchvision: features\.28\.bias is missing"):
        LPIPS(tmp_path / "less.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        LPIPS(tmp_path / "nowhere.pth")
