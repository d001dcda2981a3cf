"""Published weights are read whole or refused in a sentence."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vdit.types import InputError
from vdit.weights.source import open_weights


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3), "b": torch.randn(2, 1, 1).half()}


def write_safetensors(folder: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> Path:
    names = list(tensors)
    places = {name: f"model-0000{1 + (i > 0)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return index


def write_pickle(folder: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, folder / "model.pth")
    return folder / "model.pth"


def write_old_pickle(folder: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, folder / "model.pth", _use_new_zipfile_serialization=False)
    return folder / "model.pth"


def write_nested(folder: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"module": tensors}, folder / "model.pt")
    return folder / "model.pt"


WRITERS = [write_safetensors, write_shards, write_pickle, write_old_pickle, write_nested]
Write = Callable[[Path, dict[str, Tensor]], Path]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("by_folder", [False, True])
def test_every_format_gives_back_names_shapes_and_values(
    tmp_path: Path, tensors: dict[str, Tensor], write: Write, by_folder: bool
):
    file = write(tmp_path, tensors)
    source = open_weights(tmp_path if by_folder else file)
    assert source.shapes() == {name: tuple(value.shape) for name, value in tensors.items()}
    read = dict(source.tensors())
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_parts_of_flattened_tensors(
    tmp_path: Path, tensors: dict[str, Tensor], write: Write
):
    source = open_weights(write(tmp_path, tensors))
    for name, value in tensors.items():
        for start in range(value.numel() + 1):
            for stop in range(start, value.numel() + 1):
                found = source.part(name, start, stop)
                assert found.dtype == value.dtype
                assert torch.equal(found, value.reshape(-1)[start:stop])
    with pytest.raises(KeyError):
        source.part("c", 0, 1)


def test_a_part_is_read_without_the_rest(
    tmp_path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    """The header once, then the bytes of the part alone; also where the system gives a few at a time."""
    source, read, preadv = open_weights(write_safetensors(tmp_path, tensors)), [], os.preadv

    def noted(handle: int, buffers: list[memoryview], place: int) -> int:
        read.append(preadv(handle, [buffers[0][:7]], place))
        return read[-1]

    monkeypatch.setattr("os.preadv", noted)
    source.part("a.weight", 0, 0)
    header = (tmp_path / "model.safetensors").stat().st_size - sum(v.nbytes for v in tensors.values())
    assert sum(read) == header
    assert torch.equal(source.part("a.weight", 5, 9), tensors["a.weight"].reshape(-1)[5:9])
    assert sum(read) == header + 4 * 4


@pytest.mark.parametrize("cut", [False, True])
def test_a_part_that_is_not_there_is_refused_by_name(tmp_path: Path, tensors: dict[str, Tensor], cut: bool):
    file = write_safetensors(tmp_path, tensors)
    source = open_weights(file)
    if cut:
        os.truncate(file, file.stat().st_size - 1)
    name, size = "b" if cut else "a.weight", 2 if cut else 13
    with pytest.raises(
        InputError, match=rf"model.safetensors does not hold the values 0 to {size} of {name}"
    ):
        source.part(name, 0, size)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_a_file_cut_short_is_refused_by_name(
    tmp_path: Path, tensors: dict[str, Tensor], write: Write, keep: float
):
    write(tmp_path, tensors)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"model.*(cannot be read|is no index)"):
        open_weights(tmp_path)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (ran,)  # pyright: ignore[reportReturnType]

    torch.save({"a": Trap()}, tmp_path / "model.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        open_weights(tmp_path)
    assert not ran.exists()
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"a": Trap()}))
    with pytest.raises(InputError, match="cannot be read as weights"):
        open_weights(tmp_path)
    assert not ran.exists()


def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path):
    torch.save({"step": 3}, tmp_path / "model.pth")
    with pytest.raises(InputError, match="something else than named tensors"):
        open_weights(tmp_path)


def test_places_without_weights_are_refused(tmp_path: Path, tensors: dict[str, Tensor]):
    with pytest.raises(InputError, match=r"none\.safetensors does not exist"):
        open_weights(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="holds no weights"):
        open_weights(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(InputError, match=r"readme\.txt is no file of weights"):
        open_weights(tmp_path / "readme.txt")
    write_safetensors(tmp_path, tensors)
    write_pickle(tmp_path, tensors)
    with pytest.raises(InputError, match=r"holds model\.pth, model\.safetensors: name one"):
        open_weights(tmp_path)


def test_an_index_whose_files_are_gone_is_refused(tmp_path: Path, tensors: dict[str, Tensor]):
    index = write_shards(tmp_path, tensors)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="names files that are not there: model-00002-of-00002"):
        open_weights(index)
