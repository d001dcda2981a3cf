import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdit.eval.peak_memory import peak_memory
from vdit.text.encoder import pad
from vdit.text.table import TokenTable


def test_gives_what_padding_the_sequences_gives_and_drops_the_longest_unused():
    draw = random.Random(0)
    table, kept = TokenTable(), OrderedDict[str, torch.Tensor]()
    for turn in range(200):
        new = {f"{turn} {i}": torch.randn(draw.randint(1, 400), 3).half() for i in range(draw.randint(0, 3))}
        table.add(new)
        kept.update(new)
        names = draw.choices(list(kept), k=draw.randint(1, 6)) if kept else []
        for name in names:
            kept.move_to_end(name)
        if names:
            tokens, expected = table.batch(names), pad([kept[name] for name in names])
            assert torch.equal(tokens.values, expected.values)
            assert torch.equal(tokens.mask, expected.mask)
        limit = draw.choice([500, 5_000, 20_000])
        table.shrink(limit)
        while sum(values.nbytes for values in kept.values()) > limit and len(kept) > 1:
            kept.popitem(last=False)
        assert len(table) == len(kept)
        assert all(name in table for name in kept)
        assert table.nbytes == sum(values.nbytes for values in kept.values())


def test_rows_that_are_dropped_are_used_again():
    table = TokenTable()
    for turn in range(100):
        table.add({str(turn): torch.randn(300, 3)})
        table.shrink(0)
    assert table._rows is not None
    assert len(table._rows) < 5_000


def test_a_batch_stays_when_its_sequences_are_dropped():
    table = TokenTable()
    table.add({"a": torch.ones(2, 3)})
    tokens = table.batch(["a"])
    table.add({"b": torch.zeros(2, 3)})
    table.shrink(0)
    table.add({"c": torch.zeros(2, 3)})
    assert torch.equal(tokens.values, torch.ones(1, 2, 3))


def test_what_is_kept_while_sampling_serves_training():
    table = TokenTable()
    layer = torch.nn.Linear(3, 3)
    with torch.inference_mode():
        table.add({"a": torch.ones(2, 3)})
        table.add({"b": torch.ones(2_000, 3), "one more": torch.ones(1, 3)})
    table.add({"c": torch.ones(2, 3)})
    layer(table.batch(["a", "b", "c"]).values).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.sum() == 3 * 3 * 2_004


def growing(held: int) -> Callable[[], object]:
    table = TokenTable()
    table.add({"small": torch.randn(1, 1024)})  # what libraries keep is not the table's
    table = TokenTable()
    table.add({"large": torch.randn(held // 4096, 1024)})
    more = torch.randn(1, 1024)
    return lambda: table.add({"more": more})


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_rows_that_were_never_used_take_up_no_memory():
    held = 64 * 2**20
    needed = peak_memory(growing, held)
    assert needed is not None
    assert needed < 1.2 * held  # what is held is copied; as much again is free
