"""The feed-forward half of a transformer block."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear, GELU (tanh form), Linear.

    Shapes: `... d_in` -> `... d_out`.
    """

    def __init__(self, d_in: int, hidden: int, d_out: int, bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(d_in, hidden, bias=bias)
        self.act = nn.GELU(approximate="tanh")
        self.down = nn.Linear(hidden, d_out, bias=bias)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return self.down(self.act(self.up(x)))
