"""Prompts as Wan's text encoder expects them."""

import html

from vdit.types import InputError

__all__ = ["cleaned"]


def cleaned(prompt: str) -> str:
    """The prompt with broken Unicode mended, HTML entities (twice over) read, and each gap one space.

    Raises:
        InputError: ftfy is not installed, which knows how Unicode breaks.
    """
    try:
        import ftfy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("Wan's prompts are mended by ftfy: pip install 'vdit-video[wan]'") from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())
