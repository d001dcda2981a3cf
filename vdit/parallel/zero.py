"""Weights, gradients and optimiser states that ranks share (ZeRO), by DeepSpeed.

DeepSpeed takes over the optimiser step: the norm of gradients, clipping and the boundaries of accumulation
are its own. What it does to a module is confined to this file. It runs on CUDA and, over gloo, on CPUs.
Source: Rajbhandari et al. 2020.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils import swap_tensors

from vdit.parallel.optimizer_state import OptimizerState
from vdit.parallel.stepper import Stepper
from vdit.parallel.weights import Weights
from vdit.types import InputError
from vdit.weights.slices import Slice, entry_of, whole_slice
from vdit.weights.source import Entry, WeightSource

__all__ = ["REDUCE_BUCKET", "ZeroStepper", "require_deepspeed", "require_parts", "share_out"]

MOMENTS = ("exp_avg", "exp_avg_sq")

ABSENT = "ZeRO needs DeepSpeed: `pip install 'vdit-video[deepspeed]'`, or parallel.strategy ddp"

REDUCE_BUCKET = 10**8
"""Values of a bucket in which gradients are exchanged. There are up to four buckets, each this large whatever
the size of the model; those of DeepSpeed's default, five times as large, take 7.5 GiB."""


class ZeroStepper(Stepper):
    """A step by DeepSpeed's engine.

    Args:
        module: what is trained. The first rank's weights count; for stage 3 others may have it on `meta`.
        optimizer: AdamW over its weights.
        stage: 1 shares optimiser states, 2 gradients too, 3 weights too.
        limit: gradients are scaled down to this norm.
        offload: whether optimiser states stay in the memory of the CPU.
        half: whether matrix products are in bfloat16.
        patience: how long a process waits for the others in an exchange.

    Raises:
        InputError: DeepSpeed is not installed, or another optimiser.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        stage: int,
        limit: float,
        offload: bool,
        half: bool,
        patience: timedelta | None = None,
    ) -> None:
        require_parts(optimizer)
        deepspeed = started_deepspeed()
        from deepspeed.utils import groups  # pyright: ignore

        if groups._WORLD_GROUP is None:  # which DeepSpeed would make with a patience of its own
            groups._WORLD_GROUP = dist.new_group(range(dist.get_world_size()), timeout=patience)
        self._home = torch.device("cpu") if offload else None
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        self._options = [[key for key in group if key != "params"] for group in optimizer.param_groups]
        if stage == 3:
            share_out(module)
        self._engine, self._zero, _, _ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=_config(stage, limit, offload, half)
        )
        self.module, self.optimizer, self._stage = self._engine, self._zero, stage
        self.weights = SharedWeights(module, self._zero) if stage == 3 else CopiedWeights(module)

    @contextmanager
    def accumulating(self, active: bool) -> Iterator[None]:
        self._engine.set_gradient_accumulation_boundary(not active)
        yield

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss, scale_wrt_gas=False)

    def gradient_norm(self) -> Tensor:
        if self._stage == 3:
            from deepspeed.runtime.utils import combine_grad_norm_groups  # pyright: ignore

            norm = combine_grad_norm_groups(self._zero._get_norm_groups())
        else:
            norm = self._zero.scaled_global_norm()
        norm = torch.as_tensor(norm, dtype=torch.float32)
        return torch.where(norm < 0, torch.nan, norm)  # below 0 stands for one that is no number

    def update(self, norm: Tensor, stay: Bool[Tensor, ""]) -> None:
        # The CPU would read a flag that comes from a device before it has come.
        self._zero.optimizer.found_inf = stay.float().to(self._home or stay.device)
        self._engine.step()

    def optimizer_state(self) -> OptimizerState:
        self._link_moments()
        steps = [state["step"] for state in self._zero.optimizer.state.values() if "step" in state]
        groups: list[dict[str, Any]] = []
        entries: dict[str, Entry] = {}
        slices: list[Slice] = []
        weights = enumerate(p for group in self._groups for p in group)
        for group, live, keys in zip(self._groups, self._zero.param_groups, self._options, strict=True):
            numbered = list(islice(weights, len(group)))
            groups.append({**{key: live[key] for key in keys}, "params": [number for number, _ in numbered]})
            for number, p in numbered if steps else ():
                entries[f"state/{number}/step"] = entry_of(steps[0])
                if dist.get_rank() == 0:
                    slices.append(whole_slice(f"state/{number}/step", steps[0]))
                for name, key in ((f"state/{number}/{key}", key) for key in MOMENTS):
                    entries[name] = Entry(tuple(_shape(p)), torch.float32)
                    slices += [Slice(name, start, part) for start, part in self._moment(p, key)]
        return OptimizerState({"param_groups": groups} | ({} if steps else {"state": {}}), entries, slices)

    def load_optimizer_state(self, settings: Mapping[str, Any], source: WeightSource) -> None:
        saved = source.entries()
        steps = [name for name in saved if name.endswith("/step")]
        if not steps:
            return
        zero, inner = self._zero, self._zero.optimizer
        flat = zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups
        done = source.tensor(steps[0])
        for part in flat:
            begun = {key: torch.zeros_like(part.data) for key in MOMENTS}
            inner.state[part] = {"step": done.to(part.device, copy=True), **begun}
        self._link_moments()
        for number, p in enumerate(p for group in self._groups for p in group):
            for name, key in ((f"state/{number}/{key}", key) for key in MOMENTS):
                if name not in saved:  # one process has none of a weight that no gradient has come to
                    continue
                for start, part in self._moment(p, key):
                    part.copy_(source.part(name, start, start + part.numel()))

    def _link_moments(self) -> None:
        """Tell weights where their moments are. DeepSpeed does so once, when only the first group has any."""
        if self._stage < 3:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _moment(self, p: Any, key: str) -> list[tuple[int, Tensor]]:
        """Where in the flattened whole this rank's part of a moment begins, and the part; or none."""
        if self._stage == 3:
            part, _ = self._zero._get_fp32_opt_state_partition(p, True, optim_state_key=key)
            return _without_padding(part, p.ds_numel)
        if p._hp_mapping is None:
            return []
        return [(p._hp_mapping.lp_fragment_address.start, p._hp_mapping.get_hp_fragment(key))]


class CopiedWeights(Weights):
    """Every rank computes with all weights, and is in charge of an equal slice of each (ZeRO 1 and 2)."""

    def __init__(self, module: nn.Module) -> None:
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def pieces(self) -> dict[str, Tensor]:
        return {name: p.detach().reshape(-1)[slice(*self._own(p))] for name, p in self._live.items()}

    def piece(self, name: str, source: WeightSource) -> Tensor:
        return source.part(name, *self._own(self._live[name]))

    def entries(self) -> dict[str, Entry]:
        return {name: entry_of(p) for name, p in self._live.items()}

    def slices(self, pieces: Mapping[str, Tensor]) -> list[Slice]:
        first = {name: self._own(p)[0] for name, p in self._live.items()}
        return [Slice(name, first[name], piece) for name, piece in pieces.items() if piece.numel()]

    @torch.no_grad()
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(_gathered(pieces[name], p.shape))

    def _own(self, p: Tensor) -> tuple[int, int]:
        """Where this rank's slice of a flattened weight begins and ends; the last ones may be shorter."""
        length, rank = -(-p.numel() // dist.get_world_size()), dist.get_rank()
        return min(rank * length, p.numel()), min((rank + 1) * length, p.numel())


class SharedWeights(Weights):
    """Every rank has a slice of each weight, and whole ones only while they are computed with (ZeRO 3)."""

    def __init__(self, module: nn.Module, zero: Any) -> None:
        self._live: dict[str, Any] = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._zero = zero

    def pieces(self) -> dict[str, Tensor]:
        return {name: p.ds_tensor.detach() for name, p in self._live.items()}

    def piece(self, name: str, source: WeightSource) -> Tensor:
        piece = torch.zeros(self._live[name].ds_tensor.numel(), dtype=source.entries()[name].dtype)
        for start, part in _without_padding(piece, self._live[name].ds_numel):
            part.copy_(source.part(name, start, start + part.numel()))
        return piece

    def entries(self) -> dict[str, Entry]:
        return {name: Entry(tuple(p.ds_shape), p.ds_tensor.dtype) for name, p in self._live.items()}

    def slices(self, pieces: Mapping[str, Tensor]) -> list[Slice]:
        return [
            Slice(name, start, part)
            for name, piece in pieces.items()
            for start, part in _without_padding(piece, self._live[name].ds_numel)
        ]

    @torch.no_grad()
    def put(self, pieces: Mapping[str, Tensor]) -> None:
        self._zero._partition_all_parameters()
        for name, p in self._live.items():
            p.ds_tensor.copy_(pieces[name])
        if kept := self._zero.persistent_parameters:
            kept[0].all_gather(kept)


def share_out(module: nn.Module) -> None:
    """Give every rank its slices of the first rank's weights, and all of its buffers (ZeRO 3).

    One weight goes after the other, over the device: a rank whose module is on `meta` has no more of it in
    memory at any time than its slices and one weight, and the first rank lets go of each that is shared.
    """
    cutter = started_deepspeed().zero.Init(nn.Module(), dtype=torch.float32)
    device, first = cutter.local_device, dist.get_rank() == 0
    made = {name: (tuple(p.shape), p.dtype) for name, p in module.named_parameters()}
    told: list[Any] = [made]
    dist.broadcast_object_list(told)
    if differ := sorted(made.items() ^ told[0].items(), key=str):
        raise RuntimeError(f"this rank made other weights than the first, such as {differ[:2]}")
    for p in module.parameters():
        if p.is_meta and not first:
            swap_tensors(p, nn.Parameter(torch.empty_like(p, device=device), p.requires_grad))
        cutter._convert_to_zero_parameters([p])
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            own = buffer.to(device) if first else torch.empty_like(buffer, device=device)
            dist.broadcast(own, 0)
            part._buffers[name] = own


def require_parts(optimizer: torch.optim.Optimizer) -> None:
    """Raises InputError where an optimiser cannot do with parts of weights."""
    if not isinstance(optimizer, torch.optim.AdamW):
        raise InputError(
            f"ZeRO cuts every weight into parts, and {type(optimizer).__name__} needs whole matrices: "
            "leave out optim.muon, or train with parallel.strategy ddp"
        )


def require_deepspeed() -> None:
    """Raises InputError where the package is not installed; it is not imported."""
    if find_spec("deepspeed") is None:
        raise InputError(ABSENT)


def started_deepspeed() -> Any:
    """The package, told of the processes that are there. Raises InputError where it is not installed.

    On a CPU it would first compile an operation for shared memory, for a minute, and a process that is killed
    then leaves a lock that every later one waits for. Gloo does without.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    try:
        import deepspeed  # pyright: ignore
    except ImportError as error:
        raise InputError(ABSENT) from error
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False)
    return deepspeed


def _config(stage: int, limit: float, offload: bool, half: bool) -> dict[str, Any]:
    where = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": limit,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**12,
        "torch_autocast": {"enabled": half, "dtype": "bfloat16"},
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": torch.cuda.is_available(),
            "reduce_bucket_size": REDUCE_BUCKET,
            **({"offload_optimizer": where} if offload else {}),
        },
    }


def _shape(p: Any) -> torch.Size:
    return p.ds_shape if hasattr(p, "ds_shape") else p.shape


def _without_padding(part: Tensor, whole: int) -> list[tuple[int, Tensor]]:
    """Where this rank's of equal parts of `whole` values begins, and the part without what fills it up."""
    start = dist.get_rank() * part.numel()
    length = min(part.numel(), whole - start)
    return [(start, part[:length])] if length > 0 else []


def _gathered(piece: Tensor, shape: torch.Size) -> Tensor:
    """A whole weight from every rank's slice, of which the last ones may be shorter."""
    world = dist.get_world_size()
    length = -(-shape.numel() // world)
    own = torch.cat([piece, piece.new_zeros(length - piece.numel())]) if piece.numel() < length else piece
    slices = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(slices, own.contiguous())
    return torch.cat(slices)[: shape.numel()].view(shape)
