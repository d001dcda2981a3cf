"""Convolutions that are computed in another way give the numbers of torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vdit.nn.conv import Conv3d, EnlargingConv2d


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), (1, 1, 1), (0, 1, 1)),
        ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_taps_give_the_numbers_and_gradients_of_the_whole(kernel, stride, padding, bias: bool, batch: int):
    torch.manual_seed(0)
    layer = Conv3d(4, 6, kernel, stride, padding, bias=bias).double()
    plain = nn.Conv3d(4, 6, kernel, stride, padding, bias=bias).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(batch, 4, 7, 8, 6, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    got, want = layer.by_taps(x), plain(other)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(layer(x), want)
    weight = torch.randn_like(want)
    (got * weight).sum().backward()
    (want * weight).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_small_clips_go_by_taps_and_large_ones_do_not(monkeypatch: pytest.MonkeyPatch):
    layer, taken = Conv3d(4, 4, 3, padding=(0, 1, 1)), []
    by_taps = layer.by_taps
    monkeypatch.setattr(layer, "by_taps", lambda x: taken.append(len(x)) or by_taps(x))
    layer(torch.randn(1, 4, 4, 8, 8))
    assert taken == [1]
    layer(torch.randn(2, 4, 4, 8, 8))
    layer(torch.randn(1, 4, 4, 2000, 1))
    assert taken == [1]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 1)])
def test_enlarging_gives_the_numbers_and_gradients_of_repeating_first(size, channels_last: bool):
    torch.manual_seed(0)
    layer = EnlargingConv2d(3, 5).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    other = x.detach().clone().requires_grad_()
    got = layer(x)
    large = F.interpolate(other, scale_factor=2, mode="nearest")
    want = F.conv2d(large, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(got, want)
    weight = torch.randn_like(want)
    ours = torch.autograd.grad((got * weight).sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad((want * weight).sum(), [other, *layer.parameters()])
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), want)
