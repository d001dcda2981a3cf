"""From noise to data: integrating dx/dsigma = velocity(x, sigma) from sigma 1 to 0."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.flow.noise import shift_sigma
from vdit.types import InputError

__all__ = ["Euler", "Heun", "Solver", "Velocity", "schedule"]

Velocity = Callable[[Tensor, float], Tensor]
Progress = Callable[[int, int], None]


def schedule(steps: int, shift: float = 1.0) -> Float[Tensor, "steps+1"]:
    """`steps` + 1 sigmas from 1 to 0, evenly spaced and then shifted towards noise.

    Raises:
        InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"steps {steps} must be at least 1")
    return shift_sigma(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)


class Solver(ABC):
    """A one-step method for the ordinary differential equation of the flow."""

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
        """Walk from `noise` at sigmas[0] to data at sigmas[-1]."""
        x, points = noise, sigmas.tolist()
        for i, (sigma, to) in enumerate(pairwise(points), start=1):
            x = self.step(velocity, x, sigma, to)
            progress(i, len(points) - 1)
        return x


class Euler(Solver):
    """First order: one evaluation a step."""

    def step(self, velocity: Velocity, x: Tensor, sigma: float, to: float) -> Tensor:
        return x + (to - sigma) * velocity(x, sigma)


class Heun(Solver):
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
