"""Where the parts of a release stand in its folder, in the authors' layout and in that of diffusers."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdit.first_few import first_few
from vdit.types import InputError

__all__ = ["Found", "find_release", "is_release", "read_table"]

WEIGHTS = "diffusion_pytorch_model"
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
WORDS = "tokenizer.json or spiece.model"
"""The words of a tokenizer: either file is enough."""
CUT_SHORT = (".incomplete", ".part", ".partial", ".aria2", ".crdownload")


@dataclass(frozen=True)
class Found:
    """The parts of a release.

    Attributes:
        folder: of the release.
        layout: `original` or `diffusers`.
        backbones: the file of weights or its index, by role: `backbone`, or `high` and `low` for two experts.
        codec: file or folder.
        text: file or folder of the text encoder.
        tokenizer: its folder.
        image: file or folder of the image encoder, where there is one.
    """

    folder: Path
    layout: str
    backbones: Mapping[str, Path]
    codec: Path
    text: Path
    tokenizer: Path
    image: Path | None


def is_release(folder: Path) -> bool:
    """Whether a folder has the parts of a release, rather than of one of them."""
    return (folder / "model_index.json").is_file() or any(_experts(folder)) or bool(_texts(folder))


def find_release(folder: Path) -> Found:
    """The parts of the release in a folder.

    Raises:
        InputError: a part that is missing, or whose download was cut short, with all that was looked for.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give that of a release")
    if cut := sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.suffix in CUT_SHORT):
        raise InputError(f"{folder} holds downloads that did not end: {first_few(cut)}; fetch them again")
    return _diffusers(folder) if (folder / "model_index.json").is_file() else _original(folder)


def read_table(file: Path) -> dict[str, Any]:
    """A JSON file that holds a table of settings. Raises InputError where it does not."""
    try:
        read = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise InputError(f"{file} holds no table of settings")
    return read


def _diffusers(folder: Path) -> Found:
    index = read_table(folder / "model_index.json")
    parts = {name: folder / name for name in ("transformer", "vae", "text_encoder", "tokenizer")}
    second = {"transformer_2": folder / "transformer_2"} if _names(index, "transformer_2") else {}
    there = {f"{name}/": part.is_dir() for name, part in {**parts, **second}.items()}
    _demand(folder, there | {f"tokenizer/{WORDS}": _has_words(parts["tokenizer"])})
    second, image = folder / "transformer_2", folder / "image_encoder"
    first = _weights(parts["transformer"])
    # The first of two is for much noise.
    both = {"high": first, "low": _weights(second)} if second.is_dir() else {"backbone": first}
    return Found(
        folder,
        "diffusers",
        both,
        parts["vae"],
        parts["text_encoder"],
        parts["tokenizer"],
        image if image.is_dir() else None,
    )


def _names(index: Mapping[str, Any], part: str) -> bool:
    """Whether the index of a pipeline has a part, rather than nothing in its place."""
    told = index.get(part)
    return isinstance(told, list) and any(told)


def _original(folder: Path) -> Found:
    high, low = _experts(folder)
    codecs, texts = sorted(folder.glob("*VAE*.pth")), _texts(folder)
    images, tokenizer = sorted(folder.glob("models_clip_*.pth")), folder / "google/umt5-xxl"
    _demand(
        folder,
        {
            f"{WEIGHTS}*.safetensors, or high_noise_model/ and low_noise_model/": bool(
                any(folder.glob(f"{WEIGHTS}*")) or (high and low)
            ),
            "Wan*_VAE.pth": bool(codecs),
            "models_t5_*.pth": bool(texts),
            f"google/umt5-xxl/{WORDS}": _has_words(tokenizer),
        },
    )
    if len(codecs) > 1:
        raise InputError(
            f"{folder} holds {len(codecs)} codecs: {', '.join(f.name for f in codecs)}; keep one"
        )
    both = {"high": _weights(high), "low": _weights(low)} if high and low else {"backbone": _weights(folder)}
    image = images[0] if images else None
    return Found(folder, "original", both, codecs[0], texts[0], tokenizer, image)


def _has_words(tokenizer: Path) -> bool:
    return any(file.is_file() for name in WORDS.split(" or ") for file in tokenizer.glob(name))


def _experts(folder: Path) -> tuple[Path | None, Path | None]:
    high, low = folder / "high_noise_model", folder / "low_noise_model"
    return (high if high.is_dir() else None), (low if low.is_dir() else None)


def _texts(folder: Path) -> list[Path]:
    return sorted(folder.glob("models_t5_*.pth"))


def _weights(folder: Path) -> Path:
    index, single = folder / f"{WEIGHTS}.safetensors.index.json", folder / f"{WEIGHTS}.safetensors"
    variants = [*folder.glob(f"{WEIGHTS}.safetensors.index.*.json"), *folder.glob(f"{WEIGHTS}.*.safetensors")]
    whole = [file for file in variants if not SHARD.search(file.name)]  # saved as fp16, bf16 and so on
    for file in (index, single, *whole):
        if file.is_file() and (file in (index, single) or len(whole) == 1):
            return file
    if whole:
        raise InputError(f"{folder} holds {', '.join(file.name for file in whole)}: keep one of them")
    if parts := sorted(file.name for file in folder.glob(f"{WEIGHTS}-*.safetensors")):
        raise InputError(f"{folder} holds {parts[0]} but no {index.name}: fetch the index, it is small")
    raise InputError(f"{folder} holds no {single.name} and no {index.name}")


def _demand(folder: Path, there: Mapping[str, bool]) -> None:
    missing = [name for name, found in there.items() if not found]
    if missing:
        raise InputError(
            f"{folder} is no whole release of Wan: it lacks {'; '.join(missing)}. "
            "Fetch all of the repository, in the authors' layout or in that of diffusers"
        )
