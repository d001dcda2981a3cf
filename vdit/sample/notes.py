"""What clips do not show of what was given for them, in sentences for a person.

They go one way: whoever reads an input says what is lost of it, the command prints them, and `settings.json`
and the mp4 keep them.
"""

from collections.abc import Sequence

from vdit.text.encoder import TextEncoder

__all__ = ["cut_prompts"]

SHOWN = 80
"""Letters of what is left out that a sentence quotes."""


def cut_prompts(encoder: TextEncoder, prompts: Sequence[str], what: str = "the prompt") -> list[str]:
    """For each prompt what the model does not read of it; "" where it reads all.

    Args:
        encoder: of the model.
        prompts: what it is to read.
        what: the prompts are called in the sentences.

    Raises:
        InputError: the encoder's files cannot be used.
    """
    return [_sentence(what, rest, encoder.max_tokens) for rest in encoder.cut(prompts)]


def _sentence(what: str, rest: str, most: int | None) -> str:
    if not rest:
        return ""
    quoted = rest if len(rest) <= SHOWN else f"{rest[:SHOWN]}…"
    return f'{what} is cut: it is longer than the {most} tokens that the model reads, and without "{quoted}"'
