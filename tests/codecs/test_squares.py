import pytest
import torch

from vdit.codecs.native.squares import Squares, waves
from vdit.types import InputError


@pytest.mark.parametrize(
    ("side", "basis"), [(1, "pixels"), (3, "pixels"), (1, "haar"), (2, "haar"), (8, "haar")]
)
def test_what_enters_leaves_unchanged_and_keeps_its_length(side: int, basis):
    squares, pixels = Squares(side, basis), torch.randn(2, 3, 4, 2 * side, 3 * side)
    channels = squares.to_channels(pixels)
    assert channels.shape == (2, squares.channels, 4, 2, 3)
    torch.testing.assert_close(squares.to_pixels(channels), pixels)
    torch.testing.assert_close(channels.norm(), pixels.norm())
    assert not squares.state_dict()


def test_wavelets_are_means_and_differences():
    assert torch.allclose(
        waves(2) * 2, torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1.0]])
    )
    torch.testing.assert_close(waves(8) @ waves(8).mT, torch.eye(64))
    torch.testing.assert_close(waves(4)[0], torch.full((16,), 0.25))
    assert waves(4)[1:].sum(1).abs().max() < 1e-6  # all others are blind to what is even


def test_an_even_picture_is_all_in_the_first_wavelet_of_each_colour():
    colours = torch.tensor([0.2, -0.4, 1.0])
    channels = Squares(4, "haar").to_channels(colours.view(1, 3, 1, 1, 1).expand(1, 3, 2, 8, 8))
    torch.testing.assert_close(channels[0, ::16, 0, 0, 0], 4 * colours)
    others = [i for i in range(48) if i % 16]
    assert channels[:, others].abs().max() < 1e-6


def test_sides_that_no_square_has_are_refused():
    with pytest.raises(InputError, match="patch is 0, but must be at least 1"):
        Squares(0)
    with pytest.raises(InputError, match="patch is 6, but must be a power of 2"):
        Squares(6, "haar")
