import math

import pytest
import torch
from einops import rearrange, repeat

from vdit.nn.attention import Attend, Attention, FlashAttend
from vdit.nn.rope import grid_positions, rotation
from vdit.types import InputError


def explicit(q, k, v, mask=None):
    """softmax(q k^T / sqrt(d)) v, written out."""
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    return torch.einsum("bhnm,bmhd->bnhd", scores.exp() / scores.exp().sum(-1, keepdim=True), v)


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return torch.randn(2, 5, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8)


def test_attend_is_the_softmax_formula(qkv):
    torch.testing.assert_close(Attend()(*qkv), explicit(*qkv))


def test_masked_positions_are_not_attended_to(qkv):
    q, k, v = qkv
    mask = torch.tensor([[True] * 4 + [False] * 3, [True] * 7])
    out = Attend()(q, k, v, mask)
    torch.testing.assert_close(out, explicit(q, k, v, mask))
    torch.testing.assert_close(out[:1], Attend()(q[:1], k[:1, :4], v[:1, :4]))
    assert not torch.allclose(out[:1], Attend()(q, k, v)[:1], atol=1e-2)


def test_attention_is_projections_norm_and_the_formula():
    torch.manual_seed(0)
    module = Attention(width=12, heads=3, context_width=5)
    for norm in (module.norm_q, module.norm_k):
        torch.nn.init.normal_(norm.weight)
    x, context = torch.randn(2, 4, 12), torch.randn(2, 6, 5)
    mask = torch.tensor([[True] * 5 + [False], [True] * 6])

    def normed(y, norm):
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight

    q = rearrange(module.to_q(x), "b n (heads d) -> b n heads d", heads=3)
    k, v = (
        rearrange(to(context), "b m (heads d) -> b m heads d", heads=3) for to in (module.to_k, module.to_v)
    )
    out = explicit(normed(q, module.norm_q), normed(k, module.norm_k), v, mask)
    expected = module.to_out(rearrange(out, "b n heads d -> b n (heads d)"))
    torch.testing.assert_close(module(x, context, mask=mask), expected)


def test_rotated_self_attention_follows_its_tokens_through_a_permutation():
    torch.manual_seed(0)
    module = Attention(width=16, heads=2)
    x, turns = torch.randn(2, 12, 16), rotation(grid_positions(2, 2, 3, torch.device("cpu")), 8)
    order = torch.randperm(12)
    out = module(x, x, turns)
    moved = module(x[:, order], x[:, order], turns[:, order])
    torch.testing.assert_close(moved, out[:, order])
    assert not torch.allclose(module(x[:, order], x[:, order], turns), out[:, order], atol=1e-3)


def test_a_rotation_may_differ_from_clip_to_clip():
    torch.manual_seed(0)
    module = Attention(width=16, heads=2)
    x, turns = torch.randn(2, 6, 16), rotation(grid_positions(1, 2, 3, torch.device("cpu")), 8)
    both = torch.cat([turns, turns.flip(1)])
    expected = torch.cat([module(x[:1], x[:1], turns), module(x[1:], x[1:], turns.flip(1))])
    torch.testing.assert_close(module(x, x, both), expected)
    torch.testing.assert_close(module(x, x, repeat(turns, "1 n d -> b n d", b=2)), module(x, x, turns))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="width 10 is not divisible by heads 4"):
        Attention(10, 4)


def test_flash_attention_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.nn.attention.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install flash-attn"):
        FlashAttend()
