"""What ranks that share weights begin with in tests: what one process has, in the memory of their part."""

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from sequence_work import native, wan
from torch import nn
from zero_work import LIMIT, OPTIM, whole

from vdit.adapters.lora import LoRA, add_lora
from vdit.models.experts import SigmaExperts
from vdit.models.folder import read_backbone, save_backbone
from vdit.models.native.dit import NativeDiT
from vdit.models.wan.dit import WanDiT
from vdit.parallel.engine import Parallel, start_of
from vdit.parallel.zero import ZeroStepper, share_out, started_deepspeed
from vdit.train.optim import build_optimizer

ZERO3 = Parallel(accelerator="cpu", devices=2, strategy="zero3")

M_MMAP_THRESHOLD = -3
"""As malloc.h has it. A rank is a fork: what glibc reads from the environment was read before."""


def hearing() -> nn.Module:
    """A native transformer with all that is silenced after it is made, and a buffer."""
    module = native(patch=(1, 2, 2), camera=(4, 8), extra_channels=5, vectors={"camera": 5, "motion": 3})
    module.register_buffer("table", torch.rand(3, 2))
    return module


def experts() -> nn.Module:
    return SigmaExperts(wan(context_channels=7, context_blocks=[1]), wan(context_channels=7), 0.5)


def adapted(folder: Path) -> nn.Module:
    """Wan from files, frozen and rounded, with updates that are drawn."""
    module = read_backbone(folder, "bfloat16")
    add_lora(module, LoRA(rank=2, targets=("*blocks.*attention.to_*",)))
    return module


def begin(rank: int, world: int, folder: Path) -> None:
    """Weights and buffers right after the set-up are those that one process builds, to the last bit."""
    made: list[Callable[[], nn.Module]] = [hearing, experts, partial(adapted, folder)]
    for make in made:
        torch.manual_seed(3)
        expected = make()
        torch.manual_seed(3)
        with start_of(ZERO3):
            module = make()
        assert {p.is_meta for p in module.parameters()} == {rank > 0}
        stepper = ZeroStepper(module, build_optimizer(module, OPTIM), 3, LIMIT, offload=False, half=False)
        trained = whole(stepper.weights.entries(), stepper.weights.slices(stepper.weights.pieces()))
        assert trained.keys() == {name for name, p in expected.named_parameters() if p.requires_grad}
        for name, value in trained.items():
            assert torch.equal(value, expected.get_parameter(name)), name
        with started_deepspeed().zero.GatheredParameters(list(module.parameters())):
            found = module.state_dict()
            assert found.keys() == expected.state_dict().keys()
            for name, value in expected.state_dict().items():
                assert (found[name].dtype, found[name].device) == (value.dtype, value.device), name
                assert torch.equal(found[name], value), name


def lay_out(folder: Path) -> None:
    """A backbone on disk."""
    module = wan()
    assert isinstance(module, WanDiT)
    save_backbone(WanDiT, module.settings, module.state_dict().items(), folder)


def remember(rank: int, world: int) -> None:
    """Of a model of 200 MB, the first rank has all in memory for a moment, the others their part of it."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)  # what is freed is given back at once
    with start_of(ZERO3):
        small = nn.Linear(512, 512)
    share_out(small)  # what is imported and made once is there now
    dist.barrier()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    with start_of(ZERO3):
        module = NativeDiT(latent_channels=4, text_width=6, width=768, depth=4, heads=4)
    sizes = [p.numel() * p.element_size() for p in module.parameters()]
    share_out(module)
    peak = (resident("VmHWM") - before) / sum(sizes)
    assert sum(sizes) > 190e6
    assert max(sizes) < 0.1 * sum(sizes)
    assert peak > 0.95 if rank == 0 else 0.45 < peak < 0.75, f"rank {rank}: {peak:.2f} of the model"


def resident(what: str) -> int:
    """Bytes of this process in memory, now (`VmRSS`) or at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
