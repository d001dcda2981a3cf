"""How many blocks of a decoder are run."""

from typing import Any

from vdit.types import InputError

__all__ = ["keep_blocks"]


def keep_blocks(config: Any, layer: int | None, name: str) -> int:
    """Cuts a transformers configuration to the blocks that hidden state `layer` needs; returns how many.

    Args:
        config: changed in place; weights of the blocks that it no longer has are never read.
        layer: index into `hidden_states` of transformers: 0 is the embedding, k what follows block k, -1 what
            follows the last block. None means -1.
        name: the model, for messages.

    Raises:
        InputError: the model has no such layer, or is no decoder.
    """
    total = getattr(config, "num_hidden_layers", None)
    if not isinstance(total, int) or getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f'text encoder "{name}" ({config.model_type}) is no decoder-only language model; '
            f"for T5 and UMT5 use vdit.text.t5.T5"
        )
    blocks = total if layer is None else layer + (total + 1 if layer < 0 else 0)
    if not 1 <= blocks <= total:
        raise InputError(
            f'text encoder "{name}": layer {layer} is outside 1..{total} (or -{total}..-1); '
            f"take one of its {total} layers"
        )
    for key, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == total:  # e.g. the kind of attention of each block
            setattr(config, key, value[:blocks])
    config.num_hidden_layers = blocks
    return blocks
