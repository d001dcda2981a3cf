"""What third parties do to published weights: prefixes before all names, and numbers of eight bits."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vdit.types import InputError
from vdit.weights.source import Entry, WeightSource

__all__ = ["as_published", "only_prefix", "renamed", "with_prefix", "without_prefix"]

PREFIXES = ("model.diffusion_model.", "diffusion_model.")
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = (".scale_weight", ".weight_scale")
"""Behind the name of a layer: what its weight in eight bits is to be multiplied by."""

BESIDE = (".scale_input", ".input_scale")
"""Behind the name of a layer: what only arithmetic in eight bits needs."""

MARKS = ("scaled_fp8",)


def as_published(source: WeightSource) -> WeightSource:
    """A file of a third party under its authors' names and with its authors' numbers.

    Raises:
        InputError: numbers of eight bits without their scales.
    """
    return _unscaled(without_prefix(source, PREFIXES))


def without_prefix(source: WeightSource, prefixes: Sequence[str]) -> WeightSource:
    """The source with the first of `prefixes` that all names have taken off them."""
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in source.entries()):
            return _Stripped(source, prefix)
    return source


def only_prefix(source: WeightSource, prefix: str) -> WeightSource:
    """The tensors of a source whose names begin so, without that beginning."""
    return _Stripped(source, prefix)


def with_prefix(source: WeightSource, prefix: str) -> WeightSource:
    """The source with a beginning before all names."""
    return renamed(source, {name: prefix + name for name in source.entries()})


def renamed(source: WeightSource, names: Mapping[str, str]) -> WeightSource:
    """The source with other names for some of its tensors."""
    return _Renamed(source, names)


def _unscaled(source: WeightSource) -> WeightSource:
    entries = source.entries()
    small = [name for name, entry in entries.items() if entry.dtype in EIGHT_BITS]
    if not [name for name in small if name not in MARKS]:
        return source
    scales = {
        name.removesuffix(end) + ".weight": name for end in SCALES for name in entries if name.endswith(end)
    }
    if bare := sorted(name for name in small if name not in scales and name not in MARKS):
        raise InputError(
            f"{source.path} holds {len(bare)} tensors of eight bits without a scale, such as {bare[0]}: what "
            "their values are cannot be told; give the file of 16 or 32 bits"
        )
    return _Unscaled(source, scales)


class _Stripped(WeightSource):
    """Those of a source's tensors whose names begin alike, without that beginning."""

    def __init__(self, source: WeightSource, prefix: str) -> None:
        super().__init__(source.path)
        self.source, self.prefix = source, prefix

    def entries(self) -> Mapping[str, Entry]:
        found = self.source.entries().items()
        return {
            name.removeprefix(self.prefix): entry for name, entry in found if name.startswith(self.prefix)
        }

    def tensor(self, name: str) -> Tensor:
        return self.source.tensor(self.prefix + name)


class _Renamed(WeightSource):
    def __init__(self, source: WeightSource, names: Mapping[str, str]) -> None:
        super().__init__(source.path)
        self.source = source
        self.origins = {names.get(name, name): name for name in source.entries()}

    def entries(self) -> Mapping[str, Entry]:
        found = self.source.entries()
        return {name: found[origin] for name, origin in self.origins.items()}

    def tensor(self, name: str) -> Tensor:
        return self.source.tensor(self.origins[name])


class _Unscaled(WeightSource):
    """A source of eight bits and scales as bfloat16, which holds the product to its last place."""

    def __init__(self, source: WeightSource, scales: Mapping[str, str]) -> None:
        super().__init__(source.path)
        self.source, self.scales = source, scales

    def entries(self) -> Mapping[str, Entry]:
        return {
            name: Entry(entry.shape, torch.bfloat16) if name in self.scales else entry
            for name, entry in self.source.entries().items()
            if name not in MARKS and not name.endswith((*SCALES, *BESIDE))
        }

    def tensor(self, name: str) -> Tensor:
        value = self.source.tensor(name)
        if name not in self.scales:
            return value
        scale = self.source.tensor(self.scales[name]).float()
        if scale.ndim == 1 and scale.numel() > 1:  # one a row
            scale = scale.reshape(-1, *[1] * (value.ndim - 1))
        return (value.float() * scale).bfloat16()
