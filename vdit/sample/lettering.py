"""Text in pictures: every letter in a font that has it, as far as there is one."""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

__all__ = ["Lettering", "installed_fonts", "one_line"]

NOWHERE = "\U0010ffff"
"""A letter that no font has: what stands for it stands for all that are missing."""

FANCY = ("bold", "italic", "oblique", "mono", "serif", "condensed", "light", "thin", "black", "narrow")
"""Words in the names of fonts that are taken where no plain one will do."""


SHIPPING = ("cvttf-", "fontpkg-")
"""How the names of packages begin that hold a font and nothing else."""


class Lettering:
    """Fonts for some texts: a plain one, and for letters that it lacks others of this machine.

    Where no font has a letter, a box stands in its place, and a warning says what to install.

    Args:
        texts: all that will be drawn.
        size: of the letters, in pixels.
        installed: files of fonts to choose from; those of this machine where it is None.
    """

    def __init__(self, texts: Iterable[str], size: int = 14, installed: Sequence[Path] | None = None) -> None:
        self.fonts = [_plain(size)]
        missing = {letter for text in texts for letter in text if not _joins(letter)}
        missing = _lacking(self.fonts[0], missing)
        files = () if not missing else installed_fonts() if installed is None else installed
        while missing:
            best, left = None, missing
            for file in files:
                font = _opened(file, size)
                without = missing if font is None else _lacking(font, missing)
                if len(without) < len(left):
                    best, left = font, without
                if not left:
                    break
            if best is None:
                warnings.warn(_what_to_install(missing), stacklevel=3)
                break
            self.fonts.append(best)
            missing = left

    def length(self, text: str) -> float:
        """Pixels from the beginning of a text to its end."""
        return sum(font.getlength(part) for font, part in self._parts(text))

    def draw(self, canvas: "ImageDraw", left: float, top: float, text: str) -> None:
        """Draw a line in black."""
        baseline = top + self.fonts[0].getmetrics()[0]
        for font, part in self._parts(text):
            canvas.text((left, baseline), part, "black", font, anchor="ls")
            left += font.getlength(part)

    def _parts(self, text: str) -> Iterator[tuple["FreeTypeFont", str]]:
        """A text in pieces of one font; letters that join others stay with them."""
        part, font = "", self.fonts[0]
        for letter in text:
            own = font
            if not _joins(letter):
                own = next((one for one in self.fonts if not _lacking(one, {letter})), self.fonts[0])
            if own is not font and part:
                yield font, part
                part = ""
            part, font = part + letter, own
        if part:
            yield font, part


def one_line(text: str) -> str:
    """A text as one line, without what has no picture of its own."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return "".join(letter for letter in line if unicodedata.category(letter) != "Cc")


@lru_cache(maxsize=1)
def installed_fonts() -> tuple[Path, ...]:
    """Fonts of this machine as far as matplotlib is there to find them, plain ones first, and of packages."""
    try:
        from matplotlib.font_manager import findSystemFonts
    except ModuleNotFoundError:
        found = []
    else:
        found = sorted({Path(file) for file in findSystemFonts()}, key=lambda file: file.name)
    found.sort(key=lambda file: sum(word in file.name.lower() for word in FANCY))
    return (*found, *_shipped_fonts())


def _shipped_fonts() -> list[Path]:
    from importlib.metadata import distributions

    return [
        Path(str(package.locate_file(file)))
        for package in distributions()
        if package.name.lower().startswith(SHIPPING)
        for file in package.files or ()
        if file.suffix.lower() in (".otf", ".ttf", ".ttc")
    ]


def _plain(size: int) -> "FreeTypeFont":
    """DejaVu Sans, which matplotlib ships: Latin, Greek, Cyrillic, Arabic and more. Else Pillow's own."""
    from PIL import ImageFont

    try:
        import matplotlib
    except ModuleNotFoundError:
        return cast("FreeTypeFont", ImageFont.load_default(size))
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return _opened(file, size) or cast("FreeTypeFont", ImageFont.load_default(size))


@lru_cache(maxsize=4096)
def _opened(file: Path, size: int) -> "FreeTypeFont | None":
    from PIL import ImageFont

    try:
        return ImageFont.truetype(str(file), size)
    except (OSError, ValueError):  # a damaged one, or pictures of one size only
        return None


def _lacking(font: "FreeTypeFont", letters: set[str]) -> set[str]:
    return {letter for letter in letters if not _has(font, letter)}


@lru_cache(maxsize=2**16)
def _has(font: "FreeTypeFont", letter: str) -> bool:
    return _picture(font, letter) != _picture(font, NOWHERE)


@lru_cache(maxsize=2**16)
def _picture(font: "FreeTypeFont", letter: str) -> tuple[tuple[int, int], bytes]:
    mask, _ = font.getmask2(letter)
    return mask.size, bytes(mask)  # pyright: ignore[reportArgumentType]


def _joins(letter: str) -> bool:
    """Whether a letter is drawn with the one before it, or not at all."""
    return letter.isspace() or unicodedata.category(letter) in ("Mn", "Me", "Mc", "Cf", "Cc")


def _what_to_install(missing: set[str]) -> str:
    from importlib.util import find_spec

    letters = "".join(sorted(missing)[:20])
    said = f'no font has the letters "{letters}", and boxes stand in their place on the contact sheet: '
    if find_spec("matplotlib") is None:
        return (
            f"{said}run pip install 'vdit-video[report]', which brings a font and finds those of the machine"
        )
    eastern = any("CJK" in name or "HANGUL" in name or "KANA" in name for name in map(_name, missing))
    if eastern:
        return f"{said}run pip install 'vdit-video[fonts]', or apt-get install fonts-noto-cjk"
    return f"{said}install a font that has them, such as those of apt-get install fonts-noto-core"


def _name(letter: str) -> str:
    return unicodedata.name(letter, "")
