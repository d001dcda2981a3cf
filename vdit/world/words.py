"""The words captions are made of, and what those words mean in numbers; shared by every level."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = ["COLOURS", "RGB", "article", "listing", "number"]

RGB = tuple[float, float, float]

# Saturated, so that none is mistaken for a neutral background, and apart from one another also where blur has
# mixed them with one: no colour lies near the line from another colour to a neutral.
COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (0.88, 0.06, 0.08),
        "green": (0.08, 0.66, 0.14),
        "blue": (0.08, 0.20, 0.95),
        "yellow": (0.98, 0.88, 0.08),
        "orange": (1.00, 0.50, 0.00),
        "purple": (0.50, 0.08, 0.72),
        "cyan": (0.08, 0.84, 0.90),
        "pink": (1.00, 0.36, 0.72),
    }
)

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def article(phrase: str) -> str:
    """The phrase behind its indefinite article: "an orange cube", "a red cube"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def number(count: int) -> str:
    """A count in words up to nine, in digits above: "two", "12"."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def listing(phrases: Sequence[str]) -> str:
    """Phrases joined as in a sentence: "a", "a and b", "a, b and c"."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
