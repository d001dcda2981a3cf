"""The file of CLIP in the authors' layout: a vision tower, and a text side that no video model computes with.

Wan's code loads this file strictly, text side and all, and opens the tokenizer of that side. So what a
release has of them is kept at import and given out again. Releases in the layout of diffusers have neither.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from vdit.weights.keymap import KeyMap
from vdit.weights.source import WeightSource

__all__ = ["CLIP_FILE", "text_side", "write_clip"]

CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"

WIDTH, HIDDEN, BLOCKS, WORDS, PLACES = 1024, 4096, 24, 250002, 514
"""Of XLM-RoBERTa large, which is the text side of Wan's CLIP."""


def text_side(source: WeightSource, table: KeyMap) -> dict[str, Tensor]:
    """The tensors of a CLIP file that are no part of its vision tower; none where they were filled in."""
    found = {name: source.tensor(name) for name in source.entries() if name not in table.by_theirs}
    whole = all(tensor.untyped_storage().nbytes() >= tensor.nbytes for tensor in found.values())
    return found if whole else {}


def write_clip(
    vision: Iterable[tuple[str, Tensor]], text: Iterable[tuple[str, Tensor]], out: Path
) -> list[str]:
    """Write a file that the authors' class loads strictly.

    What is missing of the text side, or of the layer that joins both sides, is zeros, of which the file holds
    one alone: `torch.load` gives tensors of the full shape.

    Args:
        vision: tensors of the vision tower under their names in the file.
        text: those of the text side, as far as there are any.
        out: the file.

    Returns:
        The names that had to be filled in.

    Raises:
        OSError: the disk is full.
    """
    tensors = dict(chain(vision, text))
    dtype = next(iter(tensors.values())).dtype
    wanted = {"visual.head": (tensors["visual.pre_norm.weight"].shape[0], WIDTH)} | _text_shapes()
    missing = {name: shape for name, shape in wanted.items() if name not in tensors}
    tensors |= {name: torch.zeros((), dtype=dtype).expand(shape) for name, shape in missing.items()}
    torch.save(tensors, out)
    return list(missing)


def _text_shapes() -> dict[str, tuple[int, ...]]:
    norm = {"weight": (WIDTH,), "bias": (WIDTH,)}
    square = {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}
    block = {f"attn.{name}": square for name in "qkvo"} | {"norm1": norm, "norm2": norm}
    block |= {"ffn.0": {"weight": (HIDDEN, WIDTH), "bias": (HIDDEN,)}}
    block |= {"ffn.2": {"weight": (WIDTH, HIDDEN), "bias": (WIDTH,)}}
    shapes = {
        "log_scale": (),
        "textual.token_embedding.weight": (WORDS, WIDTH),
        "textual.type_embedding.weight": (1, WIDTH),
        "textual.pos_embedding.weight": (PLACES, WIDTH),
        "textual.head.0.weight": (WIDTH, WIDTH),
        "textual.head.2.weight": (WIDTH, WIDTH),
    }
    shapes |= {f"textual.norm.{name}": shape for name, shape in norm.items()}
    for i in range(BLOCKS):
        for layer, parts in block.items():
            shapes |= {f"textual.blocks.{i}.{layer}.{name}": shape for name, shape in parts.items()}
    return shapes
