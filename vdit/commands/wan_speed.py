"""How fast a Wan transformer trains on an accelerator: seconds a step, and arithmetic a second."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vdit.models.wan.dit import WanDiT
from vdit.types import DenoiserInput, Tokens

__all__ = ["KERNELS", "SHAPES", "Shape", "Speed", "measure_speed"]

KERNELS: Mapping[str, SDPBackend | None] = MappingProxyType(
    {"auto": None, "cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
)
WARM_STEPS = 3


@dataclass(frozen=True)
class Shape:
    """What is trained.

    Attributes:
        width: channels of a token.
        hidden: channels inside the feed-forward.
        depth: blocks.
        latents: frames, rows and columns; four latents make a token.
        optimise: whether a step ends with AdamW, or with the gradients.
    """

    width: int
    hidden: int
    depth: int
    latents: tuple[int, int, int]
    optimise: bool
    words: int = 128

    @property
    def tokens(self) -> int:
        """Of the video."""
        t, h, w = self.latents
        return t * (h // 2) * (w // 2)

    @property
    def flops(self) -> float:
        """Of a step: a forward by counting its matrix products, and twice that for the backward."""
        n, d, f, m = self.tokens, self.width, self.hidden, self.words + 1
        own = 8 * n * d**2 + 4 * n**2 * d
        text = 4 * n * d**2 + 4 * m * d**2 + 4 * n * m * d
        return 3.0 * self.depth * (own + text + 4 * n * d * f)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "1.3b": Shape(1536, 8960, 30, (21, 60, 104), optimise=True),  # 81x480x832
        "14b-stack": Shape(5120, 13824, 2, (24, 52, 120), optimise=False),  # 37,440 tokens
        "tiny": Shape(256, 512, 2, (2, 8, 8), optimise=True),
    }
)


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        seconds: of each step.
        flops: of a step.
        peak: bytes of memory of the accelerator at most; 0 on a CPU.
    """

    seconds: tuple[float, ...]
    flops: float
    peak: int

    @property
    def median(self) -> float:
        """Seconds of the middle step."""
        return statistics.median(self.seconds)

    @property
    def teraflops(self) -> float:
        """10^12 operations a second."""
        return self.flops / self.median / 1e12


def measure_speed(
    shape: Shape,
    device: torch.device,
    steps: int,
    compiled: bool,
    kernel: Literal["auto", "cudnn", "flash"],
    progress: Callable[[int, int], None],
) -> Speed:
    """Train on random latents in bfloat16, float32 weights, nothing recomputed but norms and activations.

    Args:
        shape: of model and clip.
        device: where.
        steps: timed ones, after a few that are not.
        compiled: whether each block is compiled.
        kernel: of attention.
        progress: called with (steps done, in all).
    """
    torch.manual_seed(0)
    with device:
        model = WanDiT(width=shape.width, hidden=shape.hidden, heads=shape.width // 128, depth=shape.depth)
    if compiled:
        for block in model.blocks:
            block.compile()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device.type == "cuda")
    inputs = _inputs(shape, device)
    backend = KERNELS[kernel]
    seconds = []
    for step in range(WARM_STEPS + steps):
        started = time.perf_counter()
        with sdpa_kernel(backend) if backend is not None else nullcontext():
            _step(model, inputs, optimiser, shape.optimise)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step >= WARM_STEPS:
            seconds.append(time.perf_counter() - started)
        progress(step + 1, WARM_STEPS + steps)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Speed(tuple(seconds), shape.flops, peak)


def _inputs(shape: Shape, device: torch.device) -> DenoiserInput:
    latents = torch.randn(1, 16, *shape.latents, device=device)
    text = Tokens(
        torch.randn(1, shape.words, 4096, device=device),
        torch.ones(1, shape.words, dtype=torch.bool, device=device),
    )
    return DenoiserInput(latents, torch.full((1, 1, 1, 1), 0.6, device=device), text)


def _step(model: WanDiT, inputs: DenoiserInput, optimiser: torch.optim.Optimizer, optimise: bool) -> Tensor:
    with torch.autocast(inputs.latents.device.type, dtype=torch.bfloat16):
        loss = (model(inputs).float() - inputs.latents).square().mean()
    loss.backward()
    if optimise:
        optimiser.step()
    optimiser.zero_grad()
    return loss.detach()
