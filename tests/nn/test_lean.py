"""Lean layers compute what the plain ones do, forward and backward, and keep less."""

import pytest
import torch
from torch import Tensor, nn

from vdit.nn.lean import LeanMLP, LeanRMSNorm, gated_sum, lean_branch, norm_modulate
from vdit.nn.mlp import MLP


@pytest.fixture(autouse=True)
def nothing_is_too_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.nn.lean.SMALL", 0)


def gradients(outputs: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(9)).to(outputs)
    return list(torch.autograd.grad((outputs * weight).sum(), inputs))


def kept_bytes(forward, *own: Tensor) -> int:
    found: dict[int, int] = {}
    apart = {value.untyped_storage().data_ptr() for value in own}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in apart:
            found[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        alive = forward()
    assert alive.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("rows", [1, 5])
def test_norm_and_modulation_are_adaln(rows: int):
    torch.manual_seed(0)
    x, shift, scale = (torch.randn(2, n, 8, dtype=torch.float64, requires_grad=True) for n in (5, rows, rows))
    plain = nn.functional.layer_norm(x, (8,), eps=1e-6) * (1 + scale) + shift
    lean = norm_modulate(x, shift, scale, 1e-6)
    torch.testing.assert_close(lean, plain)
    torch.testing.assert_close(gradients(lean, [x, shift, scale]), gradients(plain, [x, shift, scale]))
    assert torch.autograd.gradcheck(lambda *a: norm_modulate(*a, 1e-6), (x, shift, scale))
    with torch.no_grad():
        torch.testing.assert_close(norm_modulate(x, shift, scale, 1e-6), plain)


def test_rms_norm_is_that_of_torch():
    torch.manual_seed(0)
    lean, plain = LeanRMSNorm(8, eps=1e-6).double(), nn.RMSNorm(8, eps=1e-6).double()
    nn.init.normal_(lean.weight)
    plain.load_state_dict(lean.state_dict())
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(lean(x), plain(x))
    torch.testing.assert_close(gradients(lean(x), [x, lean.weight]), gradients(plain(x), [x, plain.weight]))
    assert torch.autograd.gradcheck(lean, (x,))


@pytest.mark.parametrize("bf16", [False, True])
def test_the_feed_forward_is_the_plain_one_and_computes_its_activation_again(bf16: bool):
    torch.manual_seed(0)
    lean, plain = LeanMLP(8, 32, 8), MLP(8, 32, 8)
    plain.load_state_dict(lean.state_dict())
    x = torch.randn(2, 50, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        ours, theirs = lean(x), plain(x)
    assert torch.equal(ours, theirs)
    mine = gradients(ours, [x, *lean.parameters()])
    assert all(
        torch.equal(a, b) for a, b in zip(mine, gradients(theirs, [x, *plain.parameters()]), strict=True)
    )
    own = [x, *lean.parameters(), *plain.parameters()]
    less = kept_bytes(lambda: plain(x), *own) - kept_bytes(lambda: lean(x), *own)
    assert less == 4 * 100 * 32  # the activation, once


@pytest.mark.parametrize("bf16", [False, True])
def test_a_branch_computes_its_norm_again_once_for_all_that_read_it(bf16: bool):
    torch.manual_seed(0)
    norm, layers = nn.LayerNorm(8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    x = torch.randn(2, 50, 8, requires_grad=True)
    calls: list[Tensor] = []

    def counted(y: Tensor) -> Tensor:
        calls.append(y)
        return norm(y)

    def read(y: Tensor) -> Tensor:
        return sum((layer(y) for layer in layers), torch.zeros(()))

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        lean = lean_branch(x, counted, read)
        plain = read(norm(x).bfloat16() if bf16 else norm(x))
    own = [x, *norm.parameters(), *layers.parameters()]
    torch.testing.assert_close(gradients(lean, own), gradients(plain, own), atol=0, rtol=0)
    assert len(calls) == 2


def test_lean_norms_keep_their_input_alone():
    x = torch.randn(2, 50, 8, requires_grad=True)
    rows = torch.randn(2, 1, 8, requires_grad=True)
    assert (
        kept_bytes(lambda: norm_modulate(x, rows, rows, 1e-6), x, rows) == 2 * 4 * 100
    )  # mean and deviation
    norm = LeanRMSNorm(8, eps=1e-6)
    assert kept_bytes(lambda: norm(x), x, norm.weight) == 4 * 100


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_a_gated_sum_keeps_what_was_made_as_it_is(device: str):
    x, gate = torch.randn(2, 50, 8, device=device), torch.randn(2, 1, 8, device=device, requires_grad=True)
    made = torch.randn(2, 50, 8, device=device).bfloat16().requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16):
        assert kept_bytes(lambda: gated_sum(x, gate, made), x, gate, made) == 0
        total = gated_sum(x, gate, made)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, x + gate * made.float())
    torch.testing.assert_close(
        gradients(total, [gate, made]), gradients(x + gate * made.float(), [gate, made]), atol=1e-2, rtol=1e-2
    )


def test_what_is_small_is_not_computed_again_by_a_hook(monkeypatch: pytest.MonkeyPatch):
    lean, plain = LeanMLP(8, 32, 8), MLP(8, 32, 8)
    x, own = torch.randn(2, 50, 8, requires_grad=True), [*lean.parameters(), *plain.parameters()]
    monkeypatch.setattr("vdit.nn.lean.SMALL", 100 * 32 + 1)
    assert kept_bytes(lambda: lean(x), x, *own) == kept_bytes(lambda: plain(x), x, *own)
    monkeypatch.setattr("vdit.nn.lean.SMALL", 100 * 32)
    assert kept_bytes(lambda: lean(x), x, *own) < kept_bytes(lambda: plain(x), x, *own)
