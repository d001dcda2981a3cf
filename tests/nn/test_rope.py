import math

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from vdit.nn.rope import axis_split, grid_positions, rotate, rotation

WIDTHS = st.integers(1, 64).map(lambda half: 2 * half)


@given(WIDTHS)
def test_axis_split_is_even_and_complete(width: int):
    split = axis_split(width)
    assert sum(split) == width
    assert all(part >= 0 and part % 2 == 0 for part in split)
    assert split[1] == split[2] <= split[0]


def test_axis_split_is_that_of_wan():
    assert axis_split(128) == (44, 42, 42)


def test_grid_positions_are_in_the_order_of_tokens():
    positions = grid_positions(2, 3, 4, torch.device("cpu"))
    expected = [[t, h, w] for t in range(2) for h in range(3) for w in range(4)]
    assert positions.tolist() == [expected]


def test_rotation_turns_pairs_by_the_angles_of_the_paper():
    [turns] = rotation(torch.tensor([[[3.0, 5.0, 7.0]]]), 12, theta=100.0)
    angles = [3 * 100.0 ** (-2 * i / 4) for i in range(2)]
    angles += [position * 100.0 ** (-2 * i / 4) for position in (5, 7) for i in range(2)]
    expected = torch.tensor([complex(math.cos(a), math.sin(a)) for a in angles])
    torch.testing.assert_close(turns[0], expected)
    x = torch.arange(12.0)
    pairs = torch.tensor([complex(x[2 * i], x[2 * i + 1]) for i in range(6)]) * expected
    rotated = rotate(rearrange(x, "d -> 1 1 1 d"), turns[None])
    torch.testing.assert_close(rotated.flatten(), torch.view_as_real(pairs).flatten())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=9, max_size=9), WIDTHS, st.integers(0, 100))
def test_scores_depend_on_position_differences_alone(places: list[float], width: int, seed: int):
    a, b, move = torch.tensor(places).reshape(3, 3)
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 1, 1, width, generator=generator) for _ in range(2))

    def score(at_q, at_k):
        turned = [rotate(x, rotation(at[None, None], width)) for x, at in ((q, at_q), (k, at_k))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(a + move, b + move), score(a, b), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_see_a_shift_along_every_axis(axis: int):
    x = torch.ones(1, 1, 1, 24)
    at = torch.zeros(1, 1, 3)
    at[..., axis] = 1
    still, moved = rotate(x, rotation(torch.zeros(1, 1, 3), 24)), rotate(x, rotation(at, 24))
    assert (still * moved).sum() < (still * still).sum() - 0.1


def test_norms_are_preserved_and_the_origin_does_not_turn():
    x = torch.randn(2, 24, 3, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rotation(grid_positions(2, 3, 4, x.device), 16))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1:], x[:, 1:], atol=0.1)


def test_half_precision_is_kept_and_turned_in_float32():
    x = torch.randn(1, 24, 2, 16, generator=torch.Generator().manual_seed(0))
    turns = rotation(grid_positions(2, 3, 4, x.device), 16)
    half = rotate(x.bfloat16(), turns)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, rotate(x.bfloat16().float(), turns).bfloat16())
