"""GGUF files, converted once to a folder that loads in a fraction of the time."""

import logging
import os
import shutil
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from vdit.digests import file_digest
from vdit.text.depth import keep_blocks
from vdit.text.quiet import quiet_transformers
from vdit.types import InputError

__all__ = ["converted"]

_log = logging.getLogger(__name__)


def converted(path: Path, layer: int | None) -> Path:
    """The folder with the dequantised weights and the tokenizer of a GGUF file; made if it is not there.

    It stands under `$VDIT_CACHE`, else `~/.cache/vdit`, and is named by the file's contents and the layer.
    Only the blocks up to `layer` are kept, in float32, which holds the dequantised values exactly. The folder
    appears whole or not at all, so any number of processes may ask for it at once.

    Raises:
        InputError: the packages that read GGUF are absent, or the file cannot be read.
    """
    root = Path(os.environ.get("VDIT_CACHE") or Path.home() / ".cache" / "vdit").expanduser() / "text"
    kept = "all" if layer is None else str(layer)
    folder = root / f"{path.stem}-{file_digest(path)[:16]}-layer-{kept}"
    if folder.is_dir():
        return folder
    absent = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if absent:
        raise InputError(
            f"reading {path.name} needs {' and '.join(absent)}, not installed; "
            f"run: pip install gguf accelerate"
        )
    _log.info("converting %s once, to %s", path.name, folder)
    partial = root / f"{folder.name}.partial-{uuid.uuid4().hex}"
    partial.mkdir(parents=True)
    try:
        _convert(path, layer, partial)
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster; its folder holds the same.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(path: Path, layer: int | None, folder: Path) -> None:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    place = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "local_files_only": True,
    }
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(**place)
            keep_blocks(config, layer, path.name)
            tokenizer = AutoTokenizer.from_pretrained(**place)
            model = AutoModel.from_pretrained(**place, config=config, **_unpacked())
        except InputError:
            raise
        except Exception as error:  # each reader fails in its own way on a damaged file
            raise InputError(
                f"{path} cannot be read as a GGUF model ({error}); give another file, or a folder"
            ) from error
        try:
            tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path.name} could not be converted to {folder.parent}: {error}. Make room, or set "
                "VDIT_CACHE to another folder"
            ) from error
    for file in folder.iterdir():
        # safetensors writes for the owner alone; a cache may be shared as far as its folder is.
        file.chmod(folder.stat().st_mode & 0o666)


def _unpacked() -> dict[str, Any]:
    """Options by which the weights are dequantised; packed ones could not be saved."""
    try:
        from transformers import GgufConfig
    except ImportError:  # older releases know no packed weights
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
