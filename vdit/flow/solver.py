"""From noise to data: integrating dx/dsigma = velocity(x, sigma) from sigma 1 to 0."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.flow.noise import shift_sigma
from vdit.types import InputError

__all__ = ["Euler", "Heun", "OneStep", "Progress", "Solver", "Velocity", "schedule"]

Velocity = Callable[[Tensor, float], Tensor]
Progress = Callable[[int, int], None]


def schedule(
    steps: int, shift: float = 1.0, first: float = 1.0, last: float = 0.0
) -> Float[Tensor, "steps+1"]:
    """`steps` + 1 sigmas from 1 to 0, evenly spaced and then shifted towards noise.

    Args:
        steps: of the solver.
        shift: see `shift_sigma`.
        first: where the even spacing begins, before the shift; Wan's UniPC begins a little below 1.
        last: the value that the even spacing would reach after the last step, in whose place 0 stands.

    Raises:
        InputError: fewer than one step, or an interval that does not fall within 1 to 0.
    """
    if steps < 1:
        raise InputError(f"steps {steps} must be at least 1")
    if not 0 <= last < first <= 1:
        raise InputError(f"a schedule falls within 1 to 0, not from {first} to {last}")
    # Not by torch.linspace, which rounds otherwise than numpy's: what models are told in whole thousandths of
    # sigma, cut off, follows the latter.
    even = torch.arange(steps, dtype=torch.float64) * ((last - first) / steps) + first
    return torch.cat([shift_sigma(even, shift), even.new_zeros(1)])


class Solver(ABC):
    """A method for the ordinary differential equation of the flow."""

    @abstractmethod
    def solve(
        self,
        velocity: Velocity,
        noise: Float[Tensor, "*shape"],
        sigmas: Float[Tensor, "steps+1"],
        progress: Progress = lambda done, total: None,
    ) -> Float[Tensor, "*shape"]:
        """Walk from `noise` at sigmas[0] to data at sigmas[-1]."""


class OneStep(Solver):
    """A method that remembers nothing of earlier steps."""

    @abstractmethod
    def step(self, velocity: Velocity, x: Tensor, sigma: float, to: float) -> Tensor:
        """x at diffusion time `to`, from x at `sigma`."""

    def solve(
        self,
        velocity: Velocity,
        noise: Float[Tensor, "*shape"],
        sigmas: Float[Tensor, "steps+1"],
        progress: Progress = lambda done, total: None,
    ) -> Float[Tensor, "*shape"]:
        x, points = noise, sigmas.tolist()
        for i, (sigma, to) in enumerate(pairwise(points), start=1):
            x = self.step(velocity, x, sigma, to)
            progress(i, len(points) - 1)
        return x


class Euler(OneStep):
    """First order: one evaluation a step."""

    def step(self, velocity: Velocity, x: Tensor, sigma: float, to: float) -> Tensor:
        return x + (to - sigma) * velocity(x, sigma)


class Heun(OneStep):
    """Second order: the mean of the velocities at both ends, two evaluations a step.

    Source: Karras et al. 2022, alg. 1; the last step, to sigma 0, is an Euler step there and here, as
    the data end of the velocity is where networks are worst.
    """

    def step(self, velocity: Velocity, x: Tensor, sigma: float, to: float) -> Tensor:
        v = velocity(x, sigma)
        guess = x + (to - sigma) * v
        if to == 0:
            return guess
        return x + (to - sigma) * 0.5 * (v + velocity(guess, to))
