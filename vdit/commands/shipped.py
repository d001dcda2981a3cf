"""Configurations that come with the project."""

from pathlib import Path

import vdit
from vdit.types import InputError

__all__ = ["shipped"]


def shipped(name: str, option: str) -> Path:
    """A file of `configs/`.

    Args:
        name: its path there.
        option: what to give instead where it is not.

    Raises:
        InputError: the package was installed without its repository.
    """
    file = Path(vdit.__file__).parents[1] / "configs" / name
    if not file.is_file():
        raise InputError(f"configs/{name} is not beside the package: run from a clone, or give {option}")
    return file
