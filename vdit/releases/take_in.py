"""A release, taken in: a folder of this project that samples and trains.

model.yaml    how the parts are put together, and how they are sampled: the arguments of a `FlowTask`
backbone/     the transformer; for two experts high/ and low/
codec/        the autoencoder
text/         the text encoder, as transformers reads it, with its tokenizer
image/        the image encoder, where there is one
published/    what else of the release others read (`vdit.releases.published`)
import.json   where all this is from
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import vdit
from vdit.codecs.folder import save_codec
from vdit.codecs.published import import_facts
from vdit.models.folder import save_backbone
from vdit.models.wan.dit import WanDiT
from vdit.releases.published import keep_published, published_bytes
from vdit.releases.release import Part, Release
from vdit.releases.settings import Settled
from vdit.releases.variant import conditions_of
from vdit.types import InputError
from vdit.weights.exchange import finite_tensors
from vdit.weights.files import disk_refusal
from vdit.weights.fingerprint import fingerprint
from vdit.weights.shards import save_shards
from vdit.weights.source import open_weights

__all__ = ["DESCRIPTION", "REPORT", "take_in", "written_aside"]

DESCRIPTION, REPORT = "model.yaml", "import.json"
READ, EXPERTS = "vdit.models.folder.read_backbone", "vdit.models.experts.SigmaExperts"
LEVELS = "vdit.flow.noise.LogitNormal"
LICENCE = "Wan 2.1 and 2.2 are published under Apache-2.0; a derived release may say otherwise"

Progress = Callable[[str, int, int], None]


def take_in(release: Release, out: Path, recipe: Settled, progress: Progress) -> dict[str, Any]:
    """Write a release as a model of this project. The folder is whole or not there.

    Args:
        release: looked through.
        out: must not exist, or be empty.
        recipe: how it is sampled, and why.
        progress: called with (part, bytes done, bytes in all).

    Returns:
        What was found, as it stands in `import.json`.

    Raises:
        InputError: values that are not finite, or a disk that is too small.
    """
    backbones = {role: f"./{role}" for role in release.backbones}
    report = _report(release, recipe)
    needed = published_bytes(release) + sum(_bytes(part) for part in _parts(release).values())
    with written_aside(out, needed) as aside:
        for role, part in release.backbones.items():
            tensors = _told(part, role, progress)
            save_backbone(WanDiT, dict(part.config), tensors, aside / role)
        codec = open_weights(release.found.codec)
        save_codec(release.codec, aside / "codec", import_facts(codec, release.found.layout))
        _save_encoder(release.text, aside / "text", "text", progress)
        for file in sorted(release.found.tokenizer.iterdir()):
            if file.is_file():
                shutil.copyfile(file, aside / "text" / file.name)
        if release.image is not None:
            _save_encoder(release.image, aside / "image", "image", progress)
        keep_published(release, aside)
        (aside / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        (aside / DESCRIPTION).write_text(_description(release, backbones, recipe.sampling))
    return report


@contextmanager
def written_aside(out: Path, needed: int) -> Iterator[Path]:
    """A folder for `needed` bytes that takes the name `out` when the block ends well, else vanishes.

    Raises:
        InputError: `out` is there already, or the disk is too small or full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and is not empty: give another --to")
    parent = next(path for path in out.absolute().parents if path.exists())
    if (free := shutil.disk_usage(parent).free) < needed:
        raise InputError(
            f"{out} needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} are free: make room, or give "
            "another --to"
        )
    aside = out.with_name(f".writing_{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        if out.exists():
            out.rmdir()
        aside.replace(out)
    except OSError as error:
        raise disk_refusal(error, out, "Nothing was written.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _parts(release: Release) -> dict[str, Part]:
    encoders = {"text": release.text} | ({"image": release.image} if release.image else {})
    return {**release.backbones, **encoders}


def _bytes(part: Part) -> int:
    used = [e for name, e in part.source.entries().items() if name in part.table.by_theirs]
    return sum(entry.dtype.itemsize * torch.Size(entry.shape).numel() for entry in used)


def _told(part: Part, name: str, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a part under their names here, one by one, with how far they have come."""
    total, done = _bytes(part), 0
    progress(name, 0, total)
    for ours, tensor in finite_tensors(part.source, part.table, part.shapes):
        yield ours, tensor
        done += tensor.nbytes
        progress(name, done, total)


def _precision(part: Part) -> str:
    """In what an encoder runs: the precision of its weights. Float16 would overflow, and float32 holds it."""
    kinds = {entry.dtype for entry in part.source.entries().values()}
    return "float32" if kinds <= {torch.float32, torch.float16} else "bfloat16"


def _save_encoder(part: Part, folder: Path, name: str, progress: Progress) -> None:
    folder.mkdir()
    save_shards(_told(part, name, progress), folder, "model")
    (folder / "config.json").write_text(json.dumps(dict(part.config), indent=1) + "\n")


def _report(release: Release, recipe: Settled) -> dict[str, Any]:
    told = {}
    for name, part in _parts(release).items():
        entries = part.source.entries()
        told[name] = {
            "file": part.source.path.name,
            "tensors": len(part.table.table),
            "left_out": sorted(name for name in entries if part.table.leaves_out(name)),
            "weights": sum(torch.Size(shape).numel() for shape in part.shapes.values()),
            "dtypes": sorted({str(entry.dtype).removeprefix("torch.") for entry in entries.values()}),
            "fingerprint": fingerprint(part.source.shapes()),
        }
    return {
        "variant": release.variant,
        "layout": release.found.layout,
        "from": release.found.folder.name,
        "vdit": vdit.__version__,
        "licence": LICENCE,
        "sampling": {
            name: {"value": recipe.sampling[name], "from": why} for name, why in recipe.origins.items()
        },
        "notes": recipe.notes,
        "parts": told,
    }


def _description(release: Release, backbones: Mapping[str, str], recipe: Mapping[str, Any]) -> str:
    settings = next(iter(release.backbones.values())).config
    read = {role: {"class_path": READ, "init_args": {"folder": place}} for role, place in backbones.items()}
    backbone: dict[str, Any] = read.get("backbone") or {
        "class_path": EXPERTS,
        "init_args": {**read, "boundary": recipe["boundary"]},
    }
    text = {"model": "./text", "max_tokens": settings["text_length"], "clean": True}
    text["dtype"] = _precision(release.text)
    told = {
        "backbone": backbone,
        "codec": "./codec",
        "text": {"class_path": "vdit.text.t5.T5", "init_args": text},
        "levels": {"class_path": LEVELS, "init_args": {"shift": recipe["shift"]}},
        "conditions": conditions_of(release.variant, settings, "./image"),
        "sampling": dict(recipe),
    }
    head = f"# {release.variant}, taken in from {release.found.folder.name}. {LICENCE}.\n"
    head += "# A path that begins with ./ is one beside this file.\n"
    return head + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=110)
