"""Token sequences in one tensor, so that a batch of them is one gather."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vdit.types import Tokens

__all__ = ["TokenTable"]

_FIRST_ROWS = 1024


class TokenTable:
    """Token sequences of any lengths, by name, in the order of their last use.

    All lie in one tensor of rows, a token a row. What is dropped leaves rows for what comes, wherever they
    lie, and the first row is zero: it is the padding.
    """

    def __init__(self) -> None:
        self._rows: Float[Tensor, "rows d"] | None = None
        self._free: list[int] = []
        self._places: OrderedDict[str, Int64[Tensor, "_"]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    @property
    def nbytes(self) -> int:
        """What the sequences take up, without the rows that are free."""
        if self._rows is None:
            return 0
        return (len(self._rows) - 1 - len(self._free)) * self._rows[0].nbytes

    def add(self, sequences: Mapping[str, Float[Tensor, "_ d"]]) -> None:
        """Keep copies of sequences, all of one width and type, under names that are new."""
        for name, values in sequences.items():
            rows = self._with_room(values)
            first = len(self._free) - len(values)
            at = torch.tensor(self._free[first:])
            del self._free[first:]
            rows[at] = values
            self._places[name] = at

    def batch(self, names: Sequence[str]) -> Tokens:
        """The sequences of these names, all of them kept here, padded with zeros on the right."""
        assert self._rows is not None
        for name in names:
            self._places.move_to_end(name)
        at = pad_sequence([self._places[name] for name in names], batch_first=True)
        return Tokens(self._rows.index_select(0, at.flatten()).unflatten(0, at.shape), at > 0)

    def shrink(self, nbytes: int) -> None:
        """Drop what was not used for longest until the rest takes up `nbytes` or is one sequence."""
        while self.nbytes > nbytes and len(self) > 1:
            _, at = self._places.popitem(last=False)
            self._free += at.tolist()

    @torch.inference_mode(False)  # made while sampling, it must serve training too
    def _with_room(self, values: Float[Tensor, "_ d"]) -> Float[Tensor, "rows d"]:
        if self._rows is None:
            self._rows = values.new_zeros(1, values.shape[1])
        held, lacking = len(self._rows), len(values) - len(self._free)
        if lacking > 0:
            more = max(lacking, held, _FIRST_ROWS)
            # Not by `cat`, which would write the new rows too: they take up memory once something is in them.
            grown = self._rows.new_empty(held + more, self._rows.shape[1])
            grown[:held] = self._rows
            self._rows = grown
            self._free += range(held, held + more)
        return self._rows
