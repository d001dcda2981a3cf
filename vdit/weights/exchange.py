"""Weights in from another project's layout, and out to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vdit.types import InputError
from vdit.weights.files import disk_refusal, save_tensors, sync
from vdit.weights.keymap import LAYOUTS, KeyMap, Shapes
from vdit.weights.source import WeightSource

__all__ = ["export_weights", "finite_tensors", "import_published", "import_weights"]


@torch.no_grad()
def import_weights(module: nn.Module, source: WeightSource, table: KeyMap) -> None:
    """Load weights under the names of `table` into `module`, tensor by tensor.

    Names and shapes are checked before the first tensor is read. Tensors that the table does not name, such
    as statistics, stay as they are.

    Raises:
        InputError: names or shapes that do not fit, all of them listed, or values that are not finite.
    """
    own = module.state_dict()
    shapes = {name: tuple(own[name].shape) for name in table.ours}
    table.check(source.shapes(), shapes, str(source.path))
    for name, tensor in finite_tensors(source, table, shapes):
        own[name].copy_(tensor)


def finite_tensors(source: WeightSource, table: KeyMap, shapes: Shapes) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a source that was checked, under the names of this project, one by one.

    Raises:
        InputError: at the first that holds a value that is not finite.
    """
    for name, tensor in table.to_ours(source.tensors(), shapes):
        if not torch.isfinite(tensor).all():
            raise InputError(f"{source.path} holds values that are not finite, in what is {name} here")
        yield name, tensor


def import_published(
    module: nn.Module, source: WeightSource, keys: Callable[[str], KeyMap], layout: str | None
) -> str:
    """`import_weights` in one of `LAYOUTS`; None is that which has most of the source's names.

    Args:
        module: of the size of the weights.
        source: the weights.
        keys: the table of a layout.
        layout: the one that they are in.

    Returns:
        The layout.
    """
    names = source.shapes().keys()
    tables = [keys(name) for name in ([layout] if layout else LAYOUTS)]
    table = max(tables, key=lambda table: len(names & table.by_theirs.keys()))
    import_weights(module, source, table)
    return table.layout


def export_weights(module: nn.Module, table: KeyMap, file: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the weights of `module` under the names of `table`: safetensors, or a pickle by any other suffix.

    The file is whole or not there.

    Args:
        module: with the weights.
        table: their names in the file.
        file: to write.
        dtype: of the weights in the file; None is that of the module.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    theirs = table.to_theirs(module.state_dict())
    tensors = {name: value.to(dtype or value.dtype).contiguous() for name, value in theirs}
    aside = file.with_name(f".writing_{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            save_tensors(tensors, aside, {"format": "pt"})
        else:
            torch.save(tensors, aside)
        sync(aside)
        aside.replace(file)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise disk_refusal(cause, file.parent, "Nothing was exported.") from error
    return file
