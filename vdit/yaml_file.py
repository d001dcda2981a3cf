"""YAML that people write: what it says, or why it cannot be read, in one sentence."""

from pathlib import Path
from typing import Any

import yaml

from vdit.types import InputError

__all__ = ["read_yaml"]


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
