"""Long lists, shortened for a person."""

from collections.abc import Sequence
from typing import Literal

__all__ = ["first_few"]


def first_few(texts: Sequence[str], most: int = 5, between: Literal[", ", "; "] = ", ") -> str:
    """The first few of some texts, and how many more there are: "a, b and 3 more", "a; b; and 3 more".

    Args:
        texts: names, or what stands between semicolons where it has commas of its own.
        most: texts that are shown.
        between: what parts them.
    """
    shown, more = between.join(texts[:most]), len(texts) - most
    return f"{shown}{between.strip(' ,')} and {more} more" if more > 0 else shown
