"""A module on disk: its weights, and a JSON file that says what it is."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from vdit.types import InputError

__all__ = ["build_described", "description"]

Kind = TypeVar("Kind")


def description(kind: type, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What a class is called and how one of it was made, as JSON, with what else a reader should know."""
    described = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": settings, **facts}
    return json.dumps(described, indent=1) + "\n"


def build_described(file: Path, base: type[Kind]) -> Kind:
    """One of what a file describes, with random weights.

    Raises:
        InputError: the file describes nothing, or no `base`, or arguments that its class does not take.
    """
    try:
        described = json.loads(file.read_text())
        path, settings = described["class_path"], described["init_args"]
        module, _, name = path.rpartition(".")
        kind: Any = getattr(import_module(module), name)
    except (OSError, ValueError, TypeError, KeyError, ImportError, AttributeError) as error:
        raise InputError(f"{file} does not describe a {base.__name__}: {error!r}") from error
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise InputError(f"{file} names {path}, which is no {base.__name__}")
    try:
        return kind(**settings)
    except TypeError as error:
        raise InputError(f"{file} does not fit {path}: {error}") from error
