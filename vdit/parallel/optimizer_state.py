"""The state of an optimiser as it is saved: tensors under flat names, and everything else as plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vdit.weights.slices import Slice
from vdit.weights.source import Entry

__all__ = ["OptimizerState", "joined", "parted"]


@dataclass(frozen=True)
class OptimizerState:
    """What one process would save of an optimiser over whole weights, as it is spread over ranks.

    Attributes:
        settings: groups of weights and all that is no tensor, as JSON can hold it; on every rank.
        entries: what every tensor is, by names such as `state/12/exp_avg`; on every rank.
        slices: what this rank saves of them; not copies.
    """

    settings: Mapping[str, Any]
    entries: Mapping[str, Entry]
    slices: Sequence[Slice]


def parted(state: Mapping[Any, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of nested dictionaries under flat names, and what is left without them."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif isinstance(value, Mapping) and value:
            below, left = parted(value)
            tensors |= {f"{key}/{name}": tensor for name, tensor in below.items()}
            if left:
                rest[str(key)] = left
        else:
            rest[str(key)] = value
    return tensors, rest


def joined(tensors: Iterable[tuple[str, Tensor]], rest: Mapping[str, Any]) -> dict[Any, Any]:
    """What `parted` was given: names that are numbers are numbers again, and options' lists are tuples."""
    state = _settled(rest)
    for name, tensor in tensors:
        *above, last = name.split("/")
        place = state
        for key in above:
            place = place.setdefault(_key(key), {})
        place[_key(last)] = tensor
    return state


def _settled(rest: Mapping[str, Any]) -> dict[Any, Any]:
    """Values that were JSON, as an optimiser has them."""
    found = {}
    for name, value in rest.items():
        if isinstance(value, Mapping):
            found[_key(name)] = _settled(value)
        elif name == "param_groups":
            found[name] = [_group(group) for group in value]
        else:
            found[_key(name)] = value
    return found


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    lists = {key: tuple(value) for key, value in group.items() if isinstance(value, list) and key != "params"}
    return {**group, **lists}


def _key(name: str) -> str | int:
    return int(name) if name.isdecimal() else name
