"""What third parties do to published weights is undone, or refused in a sentence."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vdit.types import InputError
from vdit.weights.foreign import as_published
from vdit.weights.source import WeightSource, open_weights


def source(folder: Path, tensors: dict[str, Tensor]) -> WeightSource:
    save_file(tensors, folder / "model.safetensors")
    return as_published(open_weights(folder))


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
def test_a_prefix_of_all_names_is_taken_off(tmp_path: Path, prefix: str):
    tensors = {"a.weight": torch.randn(2, 3), "b": torch.randn(4)}
    found = source(tmp_path, {prefix + name: value for name, value in tensors.items()})
    assert found.shapes() == {name: tuple(value.shape) for name, value in tensors.items()}
    assert all(torch.equal(found.tensor(name), tensors[name]) for name in tensors)
    assert dict(found.tensors()).keys() == tensors.keys()


def test_a_prefix_of_some_names_stays(tmp_path: Path):
    found = source(tmp_path, {"diffusion_model.a": torch.ones(2), "b": torch.ones(3)})
    assert found.shapes().keys() == {"diffusion_model.a", "b"}


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_eight_bits_are_multiplied_by_their_scales(tmp_path: Path, rows: bool, name: str):
    value = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    scale = (value.abs().amax(dim=1) if rows else value.abs().max()) / 400  # f8_e4m3 ends at 448
    small = (value / (scale[:, None] if rows else scale)).to(torch.float8_e4m3fn)
    tensors = {"a.weight": small, f"a.{name}": scale, "a.bias": torch.ones(3), "a.scale_input": torch.ones(1)}
    tensors["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    found = source(tmp_path, tensors)
    assert found.shapes() == {"a.weight": (3, 5), "a.bias": (3,)}
    assert {entry.dtype for entry in found.entries().values()} == {torch.bfloat16, torch.float32}
    back = dict(found.tensors())["a.weight"]
    assert back.dtype is torch.bfloat16
    torch.testing.assert_close(back.float(), value, rtol=0.07, atol=0.02)


def test_eight_bits_without_scales_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"1 tensors of eight bits without a scale, such as a\.weight"):
        source(tmp_path, {"a.weight": torch.ones(2, 2).to(torch.float8_e5m2), "a.bias": torch.ones(2)})
