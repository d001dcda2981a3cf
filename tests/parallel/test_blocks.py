"""Blocks that are computed again or compiled give what they gave, and keep less."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from sequence_work import cases, measured, told, wan
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vdit.parallel.blocks import Recompute, compile_blocks, recompute_blocks
from vdit.types import InputError

NAMES = list(cases())


@pytest.fixture(autouse=True)
def lean_layers_at_any_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.nn.lean.SMALL", 0)


def drawn(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = model.double()
    for value in model.parameters():
        nn.init.normal_(value, std=0.2)
    return model


@pytest.mark.parametrize("what", ["selective", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_computed_again_is_the_same(name: str, what: Recompute):
    model, inputs = cases()[name]
    expected = measured(drawn(model), inputs)
    recompute_blocks(model, what)
    found = measured(model, inputs)
    assert torch.equal(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    for key, value in found[1].items():
        torch.testing.assert_close(value, expected[1][key], rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(inputs), expected[0])


class Alive(TorchDispatchMode):
    """Bytes of all storages that were made inside and are still there; calls of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, Any] = {}
        self.attended = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.attended += "scaled_dot_product" in str(func) and "backward" not in str(func)
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self.storages[storage._cdata] = weakref.ref(storage), storage.nbytes()
        return out

    def bytes(self) -> int:
        return sum(size for alive, size in self.storages.values() if alive() is not None)


def kept(what: Recompute | None) -> tuple[int, int]:
    """Bytes between forward and backward, and how often attention was computed in all."""
    torch.manual_seed(0)
    model = wan()
    if what is not None:
        recompute_blocks(model, what)
    inputs = told()
    inputs = replace(inputs, latents=torch.randn(2, 4, 3, 32, 32), sigma=inputs.sigma.float())
    assert inputs.text is not None
    inputs = replace(inputs, text=inputs.text._replace(values=inputs.text.values.float()))
    with Alive() as alive:
        out = model(inputs)
        between = alive.bytes()
        out.sum().backward()
    return between, alive.attended


def test_less_is_kept_and_attention_is_computed_again_only_in_full():
    none, selective, full = (kept(what) for what in (None, "selective", "full"))
    assert full[0] < selective[0] < 0.5 * none[0]
    assert none[1] == selective[1]
    assert full[1] == 2 * none[1]


@pytest.fixture
def compilers() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["none", "selective", "full"])
@pytest.mark.parametrize("name", ["native", "wan"])
def test_compiled_blocks_give_what_they_gave(name: str, what: Recompute, compilers):
    model, inputs = cases()[name]
    expected = measured(drawn(model), inputs)
    if what != "none":
        recompute_blocks(model, what)
    compile_blocks(model)
    found = measured(model, inputs)
    torch.testing.assert_close(found[0], expected[0])
    for key, value in found[1].items():
        torch.testing.assert_close(value, expected[1][key])


def test_a_task_without_a_transformer_is_refused():
    with pytest.raises(InputError, match="recompute full is about a transformer, and this task has none"):
        recompute_blocks(nn.Linear(2, 2), "full")
    with pytest.raises(InputError, match="compile is about a transformer"):
        compile_blocks(nn.Linear(2, 2))
