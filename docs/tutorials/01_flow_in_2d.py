#!/usr/bin/env python
"""Flow matching in the plane: the whole method, without a video, in half a minute.

    python docs/tutorials/01_flow_in_2d.py [--out runs/tutorials]

You will learn
  1. what `sigma` is, and the straight line from data to noise that a network learns to walk back;
  2. why training draws sigma from a logit-normal and not evenly, and what a shift does to it;
  3. that the loss cannot reach zero, and why that is no fault;
  4. how a solver turns noise into data, and how far Euler and Heun come with how many evaluations.

Everything below but the network is the code that trains videos: `vdit/flow/` knows no model. A point of the
plane goes through it as a clip of two channels, one frame and one pixel.
"""

import math
import time
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from vdit.draws import Draws
from vdit.flow.noise import LogitNormal, Uniform
from vdit.flow.objective import FlowMatching, noised
from vdit.flow.solver import Euler, Heun, Solver, schedule
from vdit.nn.embed import fourier

TRAINING_STEPS, BATCH, POINTS = 3000, 256, 2000
RACE: list[tuple[str, Solver, int]] = [
    ("Euler", Euler(), 4),
    ("Euler", Euler(), 8),
    ("Euler", Euler(), 16),
    ("Euler", Euler(), 32),
    ("Heun", Heun(), 4),
    ("Heun", Heun(), 8),
]


# ---- the data: two interleaved half circles -------------------------------------------------------------


def two_moons(points: int, generator: torch.Generator) -> Tensor:
    """Points on two half circles, b 2 1 1 1, of about zero mean and unit variance, as latents are."""
    angle = math.pi * torch.rand(points, generator=generator)
    second = torch.rand(points, generator=generator) < 0.5
    x = torch.where(second, 1 - angle.cos(), angle.cos())
    y = torch.where(second, 0.5 - angle.sin(), angle.sin())
    plane = torch.stack([x, y], dim=1) + 0.05 * torch.randn(points, 2, generator=generator)
    plane = (plane - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.50])
    return rearrange(plane, "b c -> b c 1 1 1")


# ---- the network: velocity from a point and its sigma ---------------------------------------------------


class Velocity(nn.Module):
    """A small perceptron. Sigma enters as in the transformer, by cosines and sines; so do x and y."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(2 + 4 * 4 + 32, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        plane = rearrange(x, "b c 1 1 1 -> b c")
        angle = torch.cat([plane * octave for octave in (1, 2, 4, 8)], dim=1)
        features = torch.cat([plane, angle.cos(), angle.sin(), fourier(sigma, 32)], dim=1)
        return rearrange(self.layers(features), "b c -> b c 1 1 1")


def train(network: Velocity, objective: FlowMatching, generator: torch.Generator) -> list[float]:
    """Draw data, sigma and noise; predict the velocity; step. That is all there is to it."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TRAINING_STEPS)
    losses = []
    for number in range(TRAINING_STEPS):
        at = objective.draw(two_moons(BATCH, generator), Draws(number))
        loss = objective.loss(network(at.x, at.sigma), at).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        fall.step()
        losses.append(loss.item())
    return losses


# ---- measuring ------------------------------------------------------------------------------------------


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|: zero where two clouds have one distribution (Szekely 2003)."""
    a, b = (rearrange(x, "b c 1 1 1 -> b c") for x in (a, b))
    n, m = len(a), len(b)
    within = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
    return (2 * torch.cdist(a, b).mean() - within).item()


def loss_at(network: Velocity, objective: FlowMatching, sigma: float) -> float:
    """The error of the velocity at one sigma, on data and noise that never change."""
    fixed = torch.Generator().manual_seed(7)
    x0 = two_moons(POINTS, fixed)
    at = noised(x0, torch.full((POINTS,), sigma), torch.randn(x0.shape, generator=fixed))
    with torch.no_grad():
        return objective.loss(network(at.x, at.sigma), at).mean().item()


# ---- the lesson -----------------------------------------------------------------------------------------


def show_noise_levels() -> None:
    print("2. Which sigmas training visits: share of 10,000 draws in each fifth of [0, 1]")
    levels = [
        ("Uniform()", Uniform()),
        ("LogitNormal()", LogitNormal()),
        ("LogitNormal(shift=3)", LogitNormal(shift=3.0)),
    ]
    for name, distribution in levels:
        share = torch.histc(distribution.sample(10_000, Draws(0)), bins=5, min=0, max=1) / 10_000
        print(f"   {name:22}" + "".join(f"{value:7.0%}" for value in share.tolist()))
    print(
        "   Near 0 the best answer is minus the point, near 1 the noise less the mean of the data: little to"
    )
    print(
        "   learn. The logit-normal works in the middle; a shift moves it to more noise, for larger videos."
    )
    print()


def run_race(velocity: Callable[[Tensor, float], Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Walk the same noise to data with every solver; report how far each ends from the exact end."""
    noise = torch.randn(POINTS, 2, 1, 1, 1, generator=generator)
    data = two_moons(POINTS, generator)
    print("4. From the same noise to data. `off` is the mean distance to where 200 Heun steps end;")
    print("   energy distance compares with data.")
    exact = Heun().solve(velocity, noise, schedule(200))
    fresh = energy_distance(two_moons(POINTS, generator), data)
    print(
        f"   the noise itself                            energy distance {energy_distance(noise, data):.4f}"
    )
    print(f"   other data, the best there is               energy distance {fresh:.4f}")
    ends, off = {}, {}
    for name, solver, steps in RACE:
        calls = 0

        def counted(x: Tensor, sigma: float) -> Tensor:
            nonlocal calls
            calls += 1
            return velocity(x, sigma)

        ends[f"{name} {steps}"] = end = solver.solve(counted, noise, schedule(steps))
        off[f"{name} {steps}"] = distance = (end - exact).flatten(1).norm(dim=1).mean().item()
        print(
            f"   {name:5} {steps:2} steps {calls:3} evaluations   off {distance:.4f}"
            f"   energy distance {energy_distance(end, data):.4f}"
        )
    ratio = off["Euler 16"] / off["Heun 8"]
    print(f"   With 15 evaluations Heun is {ratio:.1f} times as close as Euler with 16.")
    return ends


def draw(
    network: Velocity, ends: dict[str, Tensor], losses: list[float], file: Path, generator: torch.Generator
) -> None:
    """Three rows: data on its way to noise, the velocity field, and where the solvers end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 9), layout="constrained")
    axes = figure.subplots(3, 5)
    x0 = two_moons(800, generator)
    noise = torch.randn(x0.shape, generator=generator)
    for axis, sigma in zip(axes[0], (0.0, 0.25, 0.5, 0.75, 1.0), strict=True):
        axis.scatter(*noised(x0, torch.full((800,), sigma), noise).x.flatten(1).T, s=2, c="tab:blue")
        axis.set_title(f"x at sigma {sigma}")
    ticks = torch.linspace(-2.4, 2.4, 17)
    grid = rearrange(torch.stack(torch.meshgrid(ticks, ticks, indexing="xy")), "c h w -> (h w) c 1 1 1")
    for axis, sigma in zip(axes[1, :4], (0.1, 0.4, 0.7, 1.0), strict=True):
        with torch.no_grad():
            to_data = -network(grid, torch.full((len(grid),), sigma)).flatten(1)
        axis.quiver(*grid.flatten(1).T, *to_data.T, color="tab:gray", width=0.004)
        axis.set_title(f"towards data, at sigma {sigma}")
    smooth = torch.tensor(losses).unfold(0, 50, 50).mean(1)
    axes[1, 4].plot(range(50, len(losses) + 1, 50), smooth)
    axes[1, 4].set_title("training loss")
    names = ("Euler 4", "Euler 8", "Euler 16", "Heun 4", "Heun 8")
    for axis, name in zip(axes[2], names, strict=True):
        axis.scatter(*ends[name].flatten(1).T, s=1, c="tab:orange")
        axis.set_title(f"{name} steps")
    for axis in (*axes[0], *axes[1, :4], *axes[2]):
        axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = ArgumentParser(description="Flow matching in the plane.")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorials"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so small a network is faster on one core than on several
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    print("1. The line: x_sigma = (1 - sigma) * data + sigma * noise, and its velocity = noise - data")
    point, far = two_moons(1, generator), torch.randn(1, 2, 1, 1, 1, generator=generator)
    for sigma in (0.0, 0.5, 1.0):
        at = noised(point, torch.tensor([sigma]), far)
        x, v = (tuple(round(value, 2) for value in t.flatten().tolist()) for t in (at.x, at.velocity))
        print(f"   sigma {sigma:.1f}   x {x}   velocity {v}")
    print()

    show_noise_levels()

    network, objective = Velocity(), FlowMatching(LogitNormal())
    before = [loss_at(network, objective, sigma) for sigma in (0.1, 0.5, 0.9)]
    started = time.perf_counter()
    losses = train(network, objective, generator)
    print(f"3. Trained {TRAINING_STEPS} steps in {time.perf_counter() - started:.0f} s; loss at sigma")
    for sigma, first in zip((0.1, 0.5, 0.9), before, strict=True):
        print(f"   {sigma:.1f}   {first:.3f} before, {loss_at(network, objective, sigma):.3f} after")
    print("   What is left is no error: one point lies on many lines, and the network learns their mean.")
    print()

    def velocity(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return network(x, torch.full((len(x),), sigma))

    ends = run_race(velocity, generator)
    if find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    draw(network, ends, losses, out / "01_flow_in_2d.png", generator)
    print(f"\nThe picture: {out / '01_flow_in_2d.png'}")


if __name__ == "__main__":
    main()
