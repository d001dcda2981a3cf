"""Prompts from a file: a text with one a line, or a list with a column of them."""

from dataclasses import dataclass
from pathlib import Path

from vdit.data.rows import LIST_ENDINGS, Row, column_of, read_rows
from vdit.types import InputError

__all__ = ["LARGEST_SEED", "Prompt", "PromptFile", "read_prompts"]

LARGEST_SEED = 2**63 - 2**31
"""Below what torch takes, with room for one more a prompt."""

TEXT_ENDINGS = ("", ".txt")


@dataclass(frozen=True)
class Prompt:
    """What one clip is to show.

    Attributes:
        text: the prompt.
        seed: of its noise, where a list says it.
    """

    text: str
    seed: int | None = None


@dataclass(frozen=True)
class PromptFile:
    """What a file of prompts says.

    Attributes:
        prompts: one for each line or row that has one.
        unread: names of columns that nothing reads.
    """

    prompts: tuple[Prompt, ...]
    unread: tuple[str, ...] = ()


def read_prompts(file: Path) -> PromptFile:
    """The prompts of a file: lines of a `.txt`, rows of a `.csv`, `.tsv` or `.jsonl`.

    In a list they stand in the column `caption`, by any name that lists of clips may have for it (`prompt`,
    `text`); a column `seed` may say the seed of each.

    Raises:
        InputError: the file is missing, has another ending, is not UTF-8, or has no prompts; a row without
            one, or with a seed that is none.
    """
    endings = f"{TEXT_ENDINGS[1]} {' '.join(LIST_ENDINGS)}"
    if not file.is_file():
        what = "is a folder: give a text file" if file.is_dir() else "does not exist"
        raise InputError(f"prompt file {file} {what}")
    if file.suffix.lower() in LIST_ENDINGS:
        rows = [row for row in read_rows(file, "caption") if row.cells]
        names = dict.fromkeys(name for row in rows for name, _ in row.cells)
        unread = tuple(name for name in names if column_of(name) != "caption" and not _is_seed(name))
        found = PromptFile(tuple(_prompt(row) for row in rows), unread)
    elif file.suffix.lower() in TEXT_ENDINGS:
        found = PromptFile(tuple(Prompt(line) for line in _lines(file)))
    else:
        raise InputError(f"prompt file {file} ends in {file.suffix!r}; the accepted endings are {endings}")
    if not found.prompts:
        raise InputError(f"prompt file {file} is empty: write one prompt a line")
    return found


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"prompt file {file} is not UTF-8 text: save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip()]


def _prompt(row: Row) -> Prompt:
    text, seeds = row.columns().get("caption"), [value for name, value in row.cells if _is_seed(name)]
    if not isinstance(text, str) or not text.strip():
        has = ", ".join(name for name, _ in row.cells)
        raise InputError(f"{row.where}: no 'prompt' column with what to show; it has {has}")
    if not seeds:
        return Prompt(text.strip())
    said = str(seeds[0]).strip()
    if isinstance(seeds[0], bool) or not said.isdecimal() or int(said) >= LARGEST_SEED:
        raise InputError(f"{row.where}: seed {said} must be a whole number, 0 or more, and below 2^63")
    return Prompt(text.strip(), int(said))


def _is_seed(name: str) -> bool:
    return name.strip().lower() == "seed"
