"""Low-rank updates of linear layers (LoRA), by the library peft."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from vdit.first_few import first_few
from vdit.types import InputError
from vdit.weights.source import Entry, WeightSource

__all__ = ["A", "LoRA", "add_lora", "merged"]

A, B = ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True)
class LoRA:
    """Which layers get an update W + (alpha / rank) B A, and of what size (Hu et al. 2022, eq. 3).

    Args:
        rank: rows of A.
        alpha: scale of the update, over the rank; the rank where it is None.
        targets: patterns of the names of linear layers.
        dropout: of what A sees, in training.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ("*blocks.*attention.to_*", "*blocks.*.mlp.*")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise InputError(
                f"a LoRA needs a rank of at least 1 and targets, not {self.rank} and {self.targets}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"the dropout of a LoRA is {self.dropout}, but must lie in [0, 1)")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return (self.rank if self.alpha is None else self.alpha) / self.rank


def add_lora(module: nn.Module, lora: LoRA) -> frozenset[str]:
    """Give layers of a module their updates, which start at zero, and freeze all else.

    Returns:
        The names of the module's own weights, which training does not change.

    Raises:
        InputError: no layer has such a name, or peft is not installed.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    found = [name for name in linear if any(fnmatchcase(name, pattern) for pattern in lora.targets)]
    if not found:
        raise InputError(
            f"no linear layer is called {' or '.join(lora.targets)}; there are {', '.join(linear[:5])} ..."
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError("LoRA needs peft: pip install 'vdit-video[lora]'") from error
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scale * lora.rank,  # pyright: ignore[reportArgumentType]
        target_modules=found,
        lora_dropout=lora.dropout,
    )
    inject_adapter_in_model(config, module)
    for name in found:  # peft gives updates the precision of what they update, but not on `meta`
        layer = module.get_submodule(name)
        layer.to(layer.get_parameter("base_layer.weight").dtype)
    return frozenset(name for name, value in module.named_parameters() if not value.requires_grad)


def merged(base: WeightSource, updates: Mapping[str, Tensor], scale: float) -> WeightSource:
    """The weights of a base with updates added.

    Args:
        base: of a module before `add_lora`.
        updates: of the same module after it: the pairs of A and B.
        scale: see `LoRA.scale`.

    Raises:
        InputError: an update for a layer that the base does not have.
    """
    layers = {name.removesuffix(A) + ".weight" for name in updates if name.endswith(A)}
    if lost := sorted(layers - base.entries().keys()):
        raise InputError(f"the LoRA is for layers that {base.path} does not have: {first_few(lost)}")
    return _Merged(base, updates, layers, scale)


class _Merged(WeightSource):
    def __init__(
        self, base: WeightSource, updates: Mapping[str, Tensor], layers: set[str], scale: float
    ) -> None:
        super().__init__(base.path)
        self.base, self.updates, self.layers, self.scale = base, updates, layers, scale

    def entries(self) -> Mapping[str, Entry]:
        return self.base.entries()

    def tensor(self, name: str) -> Tensor:
        weight = self.base.tensor(name)
        if name not in self.layers:
            return weight
        layer = name.removesuffix(".weight")
        update = self.updates[layer + B].float() @ self.updates[layer + A].float()
        return (weight.float() + self.scale * update).to(weight.dtype)
