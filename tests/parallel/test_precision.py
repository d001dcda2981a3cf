"""In mixed precision products are in bfloat16, and what goes in and comes out is not."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from vdit.parallel.engine import Engine, Parallel

SIGMA = torch.tensor([0.999, 0.3])


class Made(NamedTuple):
    product: Tensor
    count: Tensor


class Looks(nn.Module):
    """Remembers what it was given, and what its layer made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, more: tuple[Tensor, ...]) -> Made:
        product = self.layer(x)
        self.seen = [x, *more, product]
        return Made(product, torch.arange(3))


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_products_alone_are_narrowed(precision, dtype: torch.dtype):
    module = Looks()
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    stepper = Engine(Parallel("cpu", precision=precision)).setup(module, optimizer, limit=1.0)
    x = torch.randn(2, 4)
    made = stepper.module(x, (SIGMA,))
    assert torch.equal(module.seen[0], x)
    assert torch.equal(module.seen[1], SIGMA)
    assert module.seen[2].dtype == dtype
    assert (made.product.dtype, made.count.dtype) == (torch.float32, torch.int64)
    stepper.backward(made.product.square().mean())
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
