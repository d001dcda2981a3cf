import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdit.types import InputError
from vdit.weights.slices import Layout, Slice, entry_of, whole_slice
from vdit.weights.source import open_weights

DTYPES = [
    torch.int64, torch.float64, torch.float32, torch.int32, torch.bfloat16, torch.float16, torch.int16,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def drawn() -> dict[str, Tensor]:
    """Tensors of every kind and of odd sizes, in no order, with names that JSON must spell with care."""
    torch.manual_seed(0)
    found = {f"{i % 5}.{dtype}": (torch.randn(3, 5) * 9).to(dtype) for i, dtype in enumerate(DTYPES)}
    found |= {
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 4),
        "é": torch.ones(7),
        'a"\\\n\x01': torch.ones(2),
    }
    found["turned"] = torch.randn(4, 6).T
    return dict(sorted(found.items(), reverse=True))


def layout(tensors: dict[str, Tensor]) -> Layout:
    return Layout({name: entry_of(value) for name, value in tensors.items()})


def test_a_file_is_to_the_byte_the_one_of_the_library(tmp_path: Path):
    tensors = drawn()
    layout(tensors).write(tmp_path / "ours", [whole_slice(n, t) for n, t in tensors.items()], header=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "theirs", {})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_slices_of_several_in_any_order_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where the system takes only a few bytes at a time."""
    tensors, file, write = drawn(), tmp_path / "a.safetensors", os.pwrite
    parts: list[list[Slice]] = [[], [], []]
    for name, value in tensors.items():
        flat, cut = value.reshape(-1), value.numel() // 3
        for rank, (start, end) in enumerate(((0, cut), (cut, 2 * cut), (2 * cut, value.numel()))):
            parts[rank].append(Slice(name, start, flat[start:end]))
    monkeypatch.setattr("os.pwrite", lambda handle, data, place: write(handle, data[:7], place))
    for rank in (2, 0, 1):
        layout(tensors).write(file, parts[rank], header=rank == 0)
    monkeypatch.undo()
    found = load_file(file)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].shape == value.shape
        assert torch.equal(found[name].view(torch.uint8) if value.ndim else found[name],
                           value.contiguous().view(torch.uint8) if value.ndim else value)  # fmt: skip


def test_nothing_can_be_read_back(tmp_path: Path):
    layout({}).write(tmp_path / "a.safetensors", [], header=True)
    assert load_file(tmp_path / "a.safetensors") == {}
    assert dict(open_weights(tmp_path / "a.safetensors").tensors()) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        Slice("a", 2, torch.zeros(3)),
        Slice("a", 0, torch.zeros(2, dtype=torch.float64)),
        Slice("a", 0, torch.zeros(2, 2)),
    ],
)
def test_what_is_no_part_of_a_tensor_is_not_written(tmp_path: Path, wrong: Slice):
    with pytest.raises(ValueError, match=r"no part of a, \(2, 2\) of torch.float32"):
        layout({"a": torch.zeros(2, 2)}).write(tmp_path / "a", [wrong], header=True)


def test_numbers_that_the_format_does_not_know_are_refused():
    with pytest.raises(
        InputError, match=r"b is of torch.complex128, which cannot be saved: known are torch.int64"
    ):
        layout({"b": torch.zeros(2, dtype=torch.complex128)})
