"""The Wan transformer here and in diffusers, side by side on the same weights and inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vdit.eval.overhead import Overhead, measure_overhead
from vdit.flow.solver import Euler, schedule
from vdit.models.published import backbone_of_config, keymap_of
from vdit.models.wan.dit import WanDiT
from vdit.types import DenoiserInput, InputError, Kept, Tokens

__all__ = ["SIZES", "Race", "Size", "WanRace"]

EQUAL = 4e-5
"""What both may differ by, over the greatest value, before they are timed."""

STEPS, GUIDANCE, TEXT_LENGTH = 20, 5.0, 512


@dataclass(frozen=True)
class Size:
    """What is computed.

    Attributes:
        heads: of 128 channels each, as in the published models.
        hidden: channels inside the feed-forward.
        depth: blocks.
        latents: frames, rows and columns; four latents make a token.
        words: text tokens of the prompt, and of the negative one, before padding.
    """

    heads: int
    hidden: int
    depth: int
    latents: tuple[int, int, int]
    words: tuple[int, int]

    @property
    def tokens(self) -> int:
        """Of the video."""
        t, h, w = self.latents
        return t * (h // 2) * (w // 2)

    def __str__(self) -> str:
        return f"width {128 * self.heads}, {self.depth} blocks, {self.tokens} tokens, float32"


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(1, 344, 4, (3, 16, 16), (24, 60)),
        "medium": Size(3, 1024, 4, (5, 32, 32), (40, 120)),
    }
)


@dataclass(frozen=True)
class Race:
    """One kind of work.

    Attributes:
        what: forward, training or sampling.
        rival: which form of diffusers.
        times: theirs as `full`, ours as `bare`.
    """

    what: str
    rival: str
    times: Overhead


class WanRace:
    """Both implementations with the same random weights.

    diffusers runs as it comes, the branches of guidance one after the other as in its pipelines; and tuned:
    with queries, keys and values fused and both branches in one batch. Its cache of text keys and values
    (0.42.1) knows one other family only.

    Args:
        size: what is computed.

    Raises:
        InputError: diffusers is not installed.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.theirs = _theirs(size)
        self.tuned = _theirs(size)
        self.tuned.fuse_qkv_projections()
        self.ours = _ours(self.theirs)
        generator = torch.Generator().manual_seed(0)
        self.latents = torch.randn(1, 16, *size.latents, generator=generator)
        values = torch.zeros(2, TEXT_LENGTH, self.ours.text_width)
        mask = torch.zeros(2, TEXT_LENGTH, dtype=torch.bool)
        for row, words in enumerate(size.words):
            values[row, :words] = torch.randn(words, self.ours.text_width, generator=generator)
            mask[row, :words] = True
        longest = max(size.words)
        self.padded, self.text = values, Tokens(values[:, :longest], mask[:, :longest])

    def run(self, pairs: int, progress: Callable[[int, int], None]) -> list[Race]:
        """Check that all compute the same, then time them in turns.

        Raises:
            RuntimeError: they do not.
        """
        kinds = [
            ("forward", "diffusers", self.forward_theirs(self.theirs), self.forward_ours),
            ("forward and backward", "diffusers", self.training_theirs, self.training_ours),
            ("20 guided steps", "diffusers", self.sampling_theirs(self.theirs, False), self.sampling_ours),
            (
                "20 guided steps",
                "diffusers, tuned",
                self.sampling_theirs(self.tuned, True),
                self.sampling_ours,
            ),
        ]
        return [Race(what, rival, _timed(what, a, b, pairs, progress)) for what, rival, a, b in kinds]

    def saved_bytes(self) -> tuple[int, int]:
        """Bytes a token that each keeps between forward and backward, weights apart: theirs and ours."""
        kept = (_kept(self.forward_graph_theirs), _kept(self.forward_graph_ours))
        return kept[0] // self.size.tokens, kept[1] // self.size.tokens

    def forward_theirs(self, model: Any) -> Callable[[], Tensor]:
        """One evaluation of the prompt by diffusers."""

        @torch.no_grad()
        def work() -> Tensor:
            return self.call(model, self.latents, 0.6, slice(0, 1))

        return work

    @torch.no_grad()
    def forward_ours(self) -> Tensor:
        """The same here."""
        return self.velocity(self.latents, 0.6, self.rows(slice(0, 1)))

    def forward_graph_theirs(self) -> Tensor:
        """The same with a graph for gradients."""
        return self.call(self.theirs, self.latents, 0.6, slice(0, 1))

    def forward_graph_ours(self) -> Tensor:
        """Likewise here."""
        return self.velocity(self.latents, 0.6, self.rows(slice(0, 1)))

    def training_theirs(self) -> Tensor:
        """The gradient of a squared error in one of the weights, computed with all of them."""
        return _gradient(self.theirs, self.forward_graph_theirs(), "proj_out.weight")

    def training_ours(self) -> Tensor:
        """Likewise here."""
        return _gradient(self.ours, self.forward_graph_ours(), "patch_out.weight")

    def sampling_theirs(self, model: Any, together: bool) -> Callable[[], Tensor]:
        """A whole clip, with both branches one after the other or in one batch."""

        def velocity(x: Tensor, sigma: float) -> Tensor:
            if together:
                prompt, null = self.call(model, torch.cat([x, x]), sigma, slice(0, 2)).chunk(2)
            else:
                prompt, null = (self.call(model, x, sigma, slice(i, i + 1)) for i in (0, 1))
            return null + GUIDANCE * (prompt - null)

        @torch.no_grad()
        def work() -> Tensor:
            return Euler().solve(velocity, self.latents, schedule(STEPS, 3.0))

        return work

    @torch.no_grad()
    def sampling_ours(self) -> Tensor:
        """The same as the sampler does it: one batch, and what the steps have in common once."""
        kept, rows = Kept(), self.rows(slice(0, 2))

        def velocity(x: Tensor, sigma: float) -> Tensor:
            prompt, null = self.velocity(torch.cat([x, x]), sigma, rows, kept).chunk(2)
            return torch.lerp(null, prompt, GUIDANCE)

        return Euler().solve(velocity, self.latents, schedule(STEPS, 3.0))

    def call(self, model: Any, x: Tensor, sigma: float, rows: slice) -> Tensor:
        """One evaluation by diffusers."""
        timestep = torch.full((len(x),), 1000 * sigma)
        return model(x, timestep, self.padded[rows], return_dict=False)[0]

    def velocity(self, x: Tensor, sigma: float, text: Tokens, kept: Kept | None = None) -> Tensor:
        """One evaluation here."""
        return self.ours(DenoiserInput(x, torch.full((len(x), 1, 1, 1), sigma), text, kept=kept))

    def rows(self, rows: slice) -> Tokens:
        """The text of one branch, or of both, as an encoder gives it."""
        longest = max(self.size.words[rows])
        return Tokens(self.text.values[rows, :longest], self.text.mask[rows, :longest])


def _timed(
    what: str,
    theirs: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    pairs: int,
    progress: Callable[[int, int], None],
) -> Overhead:
    expected = theirs()
    difference = ((expected - ours()).abs().max() / expected.abs().max()).item()
    if difference > EQUAL:
        raise RuntimeError(f"{what} differs by {difference:.1e}: no use in timing it")
    return measure_overhead(theirs, ours, pairs, progress)


def _gradient(model: torch.nn.Module, velocity: Tensor, name: str) -> Tensor:
    model.zero_grad(set_to_none=True)
    velocity.square().mean().backward()
    gradient = model.get_parameter(name).grad
    assert gradient is not None
    return gradient


def _kept(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward leaves in memory beside its result, by the allocator's own account."""
    forward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = forward()
    left = sum(event.self_cpu_memory_usage for event in profiled.key_averages())
    return left - result.untyped_storage().nbytes()


def _theirs(size: Size) -> Any:
    try:
        from diffusers import WanTransformer3DModel
    except ImportError as error:
        raise InputError("bench wan compares with diffusers: pip install 'vdit-video[oracle]'") from error
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=size.heads, ffn_dim=size.hidden, num_layers=size.depth, text_dim=512
    )
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return model


def _ours(theirs: Any) -> WanDiT:
    model = backbone_of_config({"_class_name": "WanTransformer3DModel", **theirs.config}, "diffusers")
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(dict(keymap_of(model, "diffusers").to_ours(theirs.state_dict().items(), own)))
    return model
