"""Another project's names and shapes of the same weights: a table that is read in both directions."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from vdit.first_few import first_few
from vdit.types import InputError

__all__ = ["LAYOUTS", "Form", "Key", "KeyMap", "Shapes", "keys", "layer"]

LAYOUTS = ("original", "diffusers")
"""The file of the authors, and that of the diffusers library and of transformers, which it uses."""

Shapes = Mapping[str, Sequence[int]]

_MOST_NAMES = 20
"""In a message: another model's file can differ in all of a thousand."""


@dataclass(frozen=True)
class Form:
    """How a tensor of theirs lies beside ours.

    Attributes:
        before: dimensions of size 1 that theirs has before ours.
        behind: dimensions of size 1 that theirs has behind ours.
        transposed: whether theirs has the axes of ours in reverse order.
    """

    before: int = 0
    behind: int = 0
    transposed: bool = False

    def shape(self, ours: Sequence[int]) -> list[int]:
        """The shape of theirs where ours has this one."""
        return [*[1] * self.before, *(reversed(ours) if self.transposed else ours), *[1] * self.behind]

    def to_theirs(self, ours: Tensor) -> Tensor:
        """Ours as theirs lies."""
        turned = ours.permute(*range(ours.ndim - 1, -1, -1)) if self.transposed else ours
        return turned.reshape(self.shape(ours.shape))

    def to_ours(self, theirs: Tensor) -> Tensor:
        """Theirs as ours lies."""
        bare = theirs.reshape(theirs.shape[self.before : theirs.ndim - self.behind])
        return bare.permute(*range(bare.ndim - 1, -1, -1)) if self.transposed else bare


SAME = Form()


@dataclass(frozen=True)
class Key:
    """One tensor of theirs, and what it is here.

    Attributes:
        theirs: its name in the other layout.
        ours: its name in the module here; several where it holds several of ours along its first axis.
        form: how it lies.
    """

    theirs: str
    ours: str | tuple[str, ...]
    form: Form = SAME

    @property
    def parts(self) -> tuple[str, ...]:
        """Its names here, one or several."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def shape(self, ours: Shapes) -> list[int]:
        """The shape of theirs for these shapes of ours."""
        first, *rest = (ours[name] for name in self.parts)
        joined = [first[0] + sum(shape[0] for shape in rest), *first[1:]] if rest else first
        return self.form.shape(joined)

    def to_ours(self, theirs: Tensor, ours: Shapes) -> Iterator[tuple[str, Tensor]]:
        """What is ours of a tensor of theirs."""
        tensor = self.form.to_ours(theirs)
        if len(self.parts) == 1:
            yield self.parts[0], tensor
            return
        yield from zip(self.parts, tensor.split([ours[name][0] for name in self.parts]), strict=True)

    def to_theirs(self, ours: Mapping[str, Tensor]) -> Tensor:
        """The tensor of theirs that holds these of ours."""
        tensors = [ours[name] for name in self.parts]
        return self.form.to_theirs(tensors[0] if len(tensors) == 1 else torch.cat(tensors))


class KeyMap:
    """All tensors of a module under both names.

    Args:
        layout: what people call the other layout.
        table: one entry a tensor of theirs.
        ignored: patterns of names that the other layout may have and that are nothing here.
        optional: names of tensors of theirs that a file may lack.
    """

    def __init__(
        self,
        layout: str,
        table: Iterable[Key],
        ignored: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> None:
        self.layout, self.table, self.ignored = layout, tuple(table), tuple(ignored)
        self.optional = frozenset(optional)
        self.by_theirs = {key.theirs: key for key in self.table}
        self.ours = frozenset(name for key in self.table for name in key.parts)
        assert len(self.by_theirs) == len(self.table)
        assert len(self.ours) == sum(len(key.parts) for key in self.table)

    def leaves_out(self, theirs: str) -> bool:
        """Whether a name is one of those that are nothing here."""
        return any(fnmatchcase(theirs, pattern) for pattern in self.ignored)

    def held(self, ours: Collection[str]) -> list[Key]:
        """The entries for a module's tensors, without optional ones that are not among them."""
        return [k for k in self.table if k.theirs not in self.optional or all(p in ours for p in k.parts)]

    def check(self, theirs: Shapes, ours: Shapes, where: str) -> None:
        """Refuse a file that is not this layout of a module.

        Args:
            theirs: shape of every tensor of the file.
            ours: shape of every tensor of the module that the table names.
            where: the file, for the message.

        Raises:
            InputError: with the names that are missing, not expected, or of another shape.
        """
        missing = sorted(self.by_theirs.keys() - theirs.keys() - self.optional)
        extra = sorted(n for n in theirs.keys() - self.by_theirs.keys() if not self.leaves_out(n))
        shapes = [
            f"{key.theirs} {list(theirs[key.theirs])} where {key.shape(ours)} fits"
            for key in self.table
            if key.theirs in theirs and list(theirs[key.theirs]) != key.shape(ours)
        ]
        found = {"missing": missing, "unexpected": extra, "of another shape": shapes}
        told = "; ".join(
            f"{len(names)} {what}: {first_few(names, _MOST_NAMES)}" for what, names in found.items() if names
        )
        if told:
            raise InputError(f"{where} does not fit the {self.layout} layout of this model: {told}")

    def to_ours(self, theirs: Iterable[tuple[str, Tensor]], ours: Shapes) -> Iterator[tuple[str, Tensor]]:
        """Tensors of a file that was checked, under the names and in the shapes of the module, one by one."""
        for name, tensor in theirs:
            if name in self.by_theirs:
                yield from self.by_theirs[name].to_ours(tensor, ours)

    def to_theirs(self, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Tensors of the module under the names and in the shapes of the other layout, one by one."""
        for key in self.held(ours):
            yield key.theirs, key.to_theirs(ours)


def keys(theirs: str, ours: str, table: Iterable[Key]) -> list[Key]:
    """`table` with a prefix before both names: a block's table at a block's place."""
    return [Key(theirs + key.theirs, _prefixed(ours, key.ours), key.form) for key in table]


def layer(theirs: str, ours: str) -> list[Key]:
    """The weight and the bias of a layer."""
    return [Key(f"{theirs}.weight", f"{ours}.weight"), Key(f"{theirs}.bias", f"{ours}.bias")]


def _prefixed(prefix: str, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return prefix + names if isinstance(names, str) else tuple(prefix + name for name in names)
