"""Feed-forward networks: a plain one, and the gated one of a transformer block."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["MLP", "GatedMLP"]


class MLP(nn.Module):
    """Linear, GELU (tanh form), Linear.

    Shapes: `... d_in` -> `... d_out`.
    """

    def __init__(self, d_in: int, hidden: int, d_out: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_in, hidden)
        self.act = nn.GELU(approximate="tanh")
        self.down = nn.Linear(hidden, d_out)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return self.down(self.act(self.up(x)))


class GatedMLP(nn.Module):
    """Two Linears, one through silu and times the other, and a Linear (SwiGLU; Shazeer 2020, eq. 6).

    A product of two things seen in a token is one unit here; sums of bent lines need many for it.

    Shapes: `... d` -> `... d`.

    Args:
        width: channels of a token.
        hidden: channels after the product.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))
