"""Solvers that learn from earlier steps: one evaluation a step, second order.

Both work on what the network says of the data, m = x - sigma * velocity, and on the logarithm of the signal
to noise ratio, lambda = log(1 - sigma) - log(sigma). Between two points with h = lambda' - lambda, the exact
solution for a constant m is x' = sigma'/sigma * x - (1 - sigma') * (exp(-h) - 1) * m; what differs is what
they do about m that changes.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from vdit.flow.solver import Progress, Solver, Velocity

__all__ = ["DPMSolverPP", "UniPC"]


@dataclass(frozen=True)
class _Known:
    """What the network said of the data at an earlier point."""

    sigma: float
    data: Tensor


@dataclass(frozen=True)
class _Stride:
    """A step from one sigma to another."""

    sigma: float
    to: float

    @property
    def h(self) -> float:
        """Its length on the scale of lambda."""
        return _snr(self.to) - _snr(self.sigma)

    @property
    def phi(self) -> float:
        """exp(-h) - 1."""
        return math.expm1(-self.h)

    def constant(self, x: Tensor, data: Tensor) -> Tensor:
        """Where the step ends if the network's opinion of the data stays as it is."""
        return self.to / self.sigma * x - (1 - self.to) * self.phi * data

    def predicted(self, x: Tensor, now: _Known, before: _Known | None) -> Tensor:
        """Where the step ends, to second order after a point before; the last step to first order."""
        x = self.constant(x, now.data)
        if before is None or self.to == 0:
            return x
        return x - 0.5 * (1 - self.to) * self.phi * self.slope(now, before)

    def slope(self, now: _Known, before: _Known) -> Tensor:
        """How that opinion would change along the step if it went on changing as before."""
        behind = _snr(now.sigma) - _snr(before.sigma)
        return (now.data - before.data) * (0.0 if math.isinf(behind) else self.h / behind)


class DPMSolverPP(Solver):
    """DPM-Solver++(2M), midpoint form; the last step is of first order (Lu et al. 2022, alg. 2)."""

    def solve(
        self,
        velocity: Velocity,
        noise: Float[Tensor, "*shape"],
        sigmas: Float[Tensor, "steps+1"],
        progress: Progress = lambda done, total: None,
    ) -> Float[Tensor, "*shape"]:
        x, points, before = noise, sigmas.tolist(), None
        for i, (sigma, to) in enumerate(pairwise(points), start=1):
            now = _Known(sigma, x - sigma * velocity(x, sigma))
            x, before = _Stride(sigma, to).predicted(x, now, before), now
            progress(i, len(points) - 1)
        return x


class UniPC(Solver):
    """UniPC of order 2 with B(h) = exp(h) - 1 (Zhao et al. 2023, alg. 1 and 2; B2 in their table 5).

    Every step is predicted, and corrected by what the network says at its end, which the next step needs
    anyway. The first and the last step are of first order.
    """

    def solve(
        self,
        velocity: Velocity,
        noise: Float[Tensor, "*shape"],
        sigmas: Float[Tensor, "steps+1"],
        progress: Progress = lambda done, total: None,
    ) -> Float[Tensor, "*shape"]:
        x, points = noise, sigmas.tolist()
        last: tuple[Tensor, _Stride, _Known, _Known | None] | None = None  # the step that led here
        for i, (sigma, to) in enumerate(pairwise(points), start=1):
            now = _Known(sigma, x - sigma * velocity(x, sigma))
            before = None
            if last is not None:
                x, before = _corrected(*last, now), last[2]
            stride = _Stride(sigma, to)
            last = (x, stride, now, before)
            x = stride.predicted(x, now, before)
            progress(i, len(points) - 1)
        return x


def _corrected(x: Tensor, stride: _Stride, now: _Known, before: _Known | None, end: _Known) -> Tensor:
    """Where a step that began at `x` ends, once the network has spoken at its end too."""
    x = stride.constant(x, now.data)
    scale, change = (1 - stride.to) * stride.phi, end.data - now.data
    if before is None:
        return x - 0.5 * scale * change
    # Two weights that make both orders exact: the 2x2 system of Zhao et al. 2023, eq. 9, solved.
    back = -stride.h
    first = (stride.phi / back - 1) / stride.phi
    second = 2 * ((stride.phi / back - 1) / back - 0.5) / stride.phi
    place = (_snr(before.sigma) - _snr(now.sigma)) / stride.h
    of_slope = (first - second) / (1 - place)
    return x - scale * (of_slope * stride.slope(now, before) + (first - of_slope) * change)


def _snr(sigma: float) -> float:
    """lambda: half the logarithm of the signal to noise ratio."""
    if sigma in (0.0, 1.0):
        return math.inf if sigma == 0 else -math.inf
    return math.log1p(-sigma) - math.log(sigma)
