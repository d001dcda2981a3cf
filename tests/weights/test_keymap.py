import re

import pytest
import torch

from vdit.types import InputError
from vdit.weights.keymap import Form, Key, KeyMap, keys

TABLE = KeyMap("toy", [*keys("x.", "y.", [Key("gamma", "weight", form=Form(behind=2))]), Key("bias", "b")])
OURS = {"y.weight": torch.arange(3.0), "b": torch.randn(2, 2)}


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def test_there_and_back_changes_nothing():
    theirs = dict(TABLE.to_theirs(OURS))
    assert shapes(theirs) == {"x.gamma": (3, 1, 1), "bias": (2, 2)}
    TABLE.check(shapes(theirs), shapes(OURS), "file")
    back = dict(TABLE.to_ours(theirs.items(), shapes(OURS)))
    assert back.keys() == OURS.keys()
    assert all(torch.equal(back[name], OURS[name]) for name in OURS)


def test_everything_that_does_not_fit_is_named_at_once():
    theirs = {"x.gamma": (4, 1, 1), "z": (1,), "q": (2,)}
    told = (
        "file does not fit the toy layout of this model: 1 missing: bias; 2 unexpected: q, z; "
        "1 of another shape: x.gamma [4, 1, 1] where [3, 1, 1] fits"
    )
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        TABLE.check(theirs, shapes(OURS), "file")


def test_of_very_many_names_the_first_are_told():
    theirs = {f"n{i:03}": (1,) for i in range(25)}
    with pytest.raises(
        InputError, match=r"2 missing: bias, x\.gamma; 25 unexpected: n000, .* n019 and 5 more$"
    ):
        TABLE.check(theirs, shapes(OURS), "file")
