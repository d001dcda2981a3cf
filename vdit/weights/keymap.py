"""Another project's names and shapes of the same weights: a table that is read in both directions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Size, Tensor

from vdit.types import InputError

__all__ = ["LAYOUTS", "Key", "KeyMap", "keys", "layer"]

LAYOUTS = ("original", "diffusers")
"""The file of the authors, and that of the diffusers library and of transformers, which it uses."""

_MOST_NAMES = 20
"""In a message: another model's file can differ in all of a thousand."""


@dataclass(frozen=True)
class Key:
    """One tensor under two names.

    Attributes:
        theirs: its name in the other layout.
        ours: its name in the module here.
        ones: how many dimensions of size 1 theirs has behind ours.
    """

    theirs: str
    ours: str
    ones: int = 0


class KeyMap:
    """All tensors of a module under both names.

    Args:
        layout: what people call the other layout.
        table: one entry a tensor.
    """

    def __init__(self, layout: str, table: Iterable[Key]) -> None:
        self.layout, self.table = layout, tuple(table)
        self.by_theirs = {key.theirs: key for key in self.table}
        assert len(self.by_theirs) == len({key.ours for key in self.table}) == len(self.table)

    def check(
        self, theirs: Mapping[str, Sequence[int]], ours: Mapping[str, Sequence[int]], where: str
    ) -> None:
        """Refuse a file that is not this layout of a module.

        Args:
            theirs: shape of every tensor of the file.
            ours: shape of every tensor of the module that the table names.
            where: the file, for the message.

        Raises:
            InputError: with the names that are missing, not expected, or of another shape.
        """
        missing = sorted(self.by_theirs.keys() - theirs.keys())
        extra = sorted(theirs.keys() - self.by_theirs.keys())
        shapes = [
            f"{key.theirs} {list(theirs[key.theirs])} where {self.theirs_shape(key, ours[key.ours])} fits"
            for key in self.table
            if key.theirs in theirs and list(theirs[key.theirs]) != self.theirs_shape(key, ours[key.ours])
        ]
        found = {"missing": missing, "unexpected": extra, "of another shape": shapes}
        told = "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in found.items() if names)
        if told:
            raise InputError(f"{where} does not fit the {self.layout} layout of this model: {told}")

    @staticmethod
    def theirs_shape(key: Key, ours: Sequence[int]) -> list[int]:
        """The shape that a tensor of ours has in the other layout."""
        return [*ours, *[1] * key.ones]

    def to_ours(self, theirs: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Tensors of a file that was checked, under the names and in the shapes of the module, one by one."""
        for name, tensor in theirs:
            key = self.by_theirs[name]
            yield key.ours, tensor.reshape(Size(tensor.shape[: tensor.ndim - key.ones]))

    def to_theirs(self, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Tensors of the module under the names and in the shapes of the other layout, one by one."""
        for key in self.table:
            tensor = ours[key.ours]
            yield key.theirs, tensor.reshape(self.theirs_shape(key, tensor.shape))


def keys(theirs: str, ours: str, table: Iterable[Key]) -> list[Key]:
    """`table` with a prefix before both names: a block's table at a block's place."""
    return [Key(theirs + key.theirs, ours + key.ours, key.ones) for key in table]


def layer(theirs: str, ours: str) -> list[Key]:
    """The weight and the bias of a layer."""
    return [Key(f"{theirs}.weight", f"{ours}.weight"), Key(f"{theirs}.bias", f"{ours}.bias")]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
