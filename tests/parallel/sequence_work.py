"""What ranks of a sequence group do in tests: the same as one rank alone."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from vdit.models.backbone import Transformer
from vdit.models.native.dit import NativeDiT
from vdit.models.wan.dit import WanDiT
from vdit.parallel.engine import Engine
from vdit.parallel.mesh import Mesh
from vdit.parallel.sequence import SequenceGroup, spread_tokens
from vdit.types import Appended, DenoiserInput, InputError, Tokens

SHAPE = (2, 4, 3, 4, 6)  # 72 tokens, or 18 of 2x2


def native(**more: Any) -> Transformer:
    return NativeDiT(latent_channels=4, text_width=6, width=24, depth=2, heads=4, **more)


def wan(**more: Any) -> Transformer:
    sizes = {"width": 48, "hidden": 32, "heads": 4, "depth": 2, "sigma_channels": 16}
    return WanDiT(latent_channels=4, text_width=6, text_length=9, **sizes, **more)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def told(**more: Any) -> DenoiserInput:
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    sigma = torch.tensor([0.3, 0.8], dtype=torch.float64).view(2, 1, 1, 1)
    return DenoiserInput(drawn(*SHAPE), sigma, text=Tokens(drawn(2, 5, 6, seed=1), mask), **more)


def cases() -> dict[str, tuple[Transformer, DenoiserInput]]:
    by_token = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    first = told().sigma.expand(2, 3, 4, 6).clone()
    first[:, 0] = 0
    images = Appended(drawn(2, 2, 4, 4, 6, seed=4), torch.tensor([[1.5, 2.0]] * 2), torch.eye(2).bool())
    return {
        "native": (native(patch=(1, 2, 2)), told()),
        "native, sigma of tokens": (native(patch=(1, 2, 2)), replace(told(), sigma=by_token)),
        "native, images": (native(patch=(1, 1, 1)), told(appended=images)),
        "native, vectors": (
            native(patch=(1, 2, 2), vectors={"camera": 5}), told(vectors={"camera": drawn(2, 3, 5, seed=5)})
        ),
        "wan": (wan(), told()),
        "wan, first frame": (wan(), replace(told(), sigma=first)),
        "wan, sigma of tokens": (wan(), replace(told(), sigma=by_token)),
        "wan, image": (
            wan(extra_channels=8, image_width=5),
            told(channels=drawn(2, 8, 3, 4, 6, seed=6), image_tokens=drawn(2, 7, 5, seed=7)),
        ),
        "wan, second video": (
            wan(context_channels=7, context_blocks=[1]), told(context=drawn(2, 7, 3, 4, 6, seed=8))
        ),
    }  # fmt: skip


def measured(model: nn.Module, inputs: DenoiserInput) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of something of it."""
    model.zero_grad()
    out = model(inputs)
    (out * drawn(*SHAPE, seed=9)).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def alike(rank: int, world: int) -> None:
    """Output and mean gradients are those of one rank, and what it evaluates is."""
    group = SequenceGroup(dist.group.WORLD, rank, world)
    for name, (model, inputs) in cases().items():
        torch.manual_seed(0)
        model = model.double()
        for value in model.parameters():
            torch.nn.init.normal_(value, std=0.2)
        expected, gradients = measured(model, inputs)
        inside: list[tuple[int, ...]] = []
        model.blocks[1].register_forward_hook(partial(_note, inside))
        spread_tokens(model, group)
        found, own = measured(model, inputs)
        torch.testing.assert_close(found, expected, msg=lambda m, n=name: f"{n}: {m}")
        assert own.keys() == gradients.keys(), name
        for key, value in own.items():
            dist.all_reduce(value)
            torch.testing.assert_close(
                value / world, gradients[key], msg=lambda m, n=name, k=key: f"{n} {k}: {m}"
            )
        n = model.embed(inputs)[0].shape[1]
        assert inside[0][1] == group.parts(n)[rank], name
        with torch.inference_mode():
            torch.testing.assert_close(model.eval()(inputs), expected)
        assert inside[-1] == inside[0], name


def _note(inside: list[tuple[int, ...]], block: nn.Module, args: Any, x: Tensor) -> None:
    inside.append(tuple(x.shape))


def refused(rank: int, world: int) -> None:
    """What cannot be shared is one sentence."""
    group = SequenceGroup(dist.group.WORLD, rank, world)
    with pytest.raises(InputError, match="sequence is about a transformer, and this task has none"):
        spread_tokens(nn.Linear(2, 2), group)
    with pytest.raises(InputError, match=f"sequence {world} does not divide 4 heads"):
        spread_tokens(native(patch=(1, 2, 2)), group)


def say(rank: int, world: int) -> None:
    """Two ranks share a clip each."""
    engine = object.__new__(Engine)  # what Fabric would set up is there already
    engine.mesh = Mesh(rank, world, 2)
    own = [f"clip {engine.mesh.data_rank}"]
    assert engine.gathered(own) == ["clip 0", "clip 0", "clip 1", "clip 1"]
    assert engine.said_of_clips(own) == ["clip 0", "clip 1"]
