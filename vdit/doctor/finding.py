"""What a check found."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State"]

State = Literal["ok", "warning", "wrong", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of what was looked at, in a word or two.
        state: `wrong` is what would stop or spoil a training, `warning` what may.
        sentence: what was found.
        remedy: what to do about it; "" where there is nothing to do.
    """

    name: str
    state: State
    sentence: str
    remedy: str = ""
