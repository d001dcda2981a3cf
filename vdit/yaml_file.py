"""YAML that people write: what it says, or why it cannot be read, in one sentence."""

from pathlib import Path
from typing import Any

import yaml

from vdit.types import InputError

__all__ = ["laid_over", "read_expanded", "read_settings", "read_yaml"]


def read_yaml(file: Path, what: str) -> Any:
    """The content of a file.

    Args:
        file: to read.
        what: it is, as a sentence begins that refuses it.

    Raises:
        InputError: it cannot be read, is not YAML, or has a key twice in one table.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{what} {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {file} is not YAML: it is no text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{what} {file} is not YAML: {line}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{what} {file} is not YAML: {' '.join(str(error).split())}") from error


def read_expanded(file: Path) -> Any:
    """The content of a configuration, with every reference to another file replaced by that file's content.

    Raises:
        InputError: as `read_yaml`, of any of the files.
    """
    return _expanded(read_yaml(file, "configuration"), file.parent)


def read_settings(file: Path) -> dict[str, Any]:
    """`read_expanded` of a file that holds a table. Raises InputError where it holds something else."""
    content = read_expanded(file)
    if not isinstance(content, dict):
        raise InputError(f"configuration {file} holds no table of settings")
    return content


def laid_over(under: Any, over: Any) -> Any:
    """One part of a configuration over another: key by key, unless they are of different classes."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if under.get("class_path") != over.get("class_path", under.get("class_path")):
        return over
    return {**under, **{key: laid_over(under.get(key), value) for key, value in over.items()}}


def _expanded(node: Any, folder: Path) -> Any:
    if isinstance(node, dict):
        return {key: _expanded(value, folder) for key, value in node.items()}
    if isinstance(node, list):
        return [_expanded(value, folder) for value in node]
    if isinstance(node, str) and node.endswith(".yaml"):
        return read_expanded(folder / node)
    if isinstance(node, str) and node.startswith("./"):
        return str(folder / node)
    return node


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        said = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in said:
                problem = f"{key.value!r} is said twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            said.add(key.value)
        return super().construct_mapping(node, deep)
