"""What a model reads of the captions of its clips: which are not there, and which are cut."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from vdit.data.report import number_of, printable
from vdit.first_few import first_few
from vdit.text.encoder import TextEncoder
from vdit.types import ClipSource, InputError

__all__ = ["Captions", "captions_of", "read_captions", "refuse_no_captions"]

_AT_ONCE = 10_000  # captions that are split into tokens


@dataclass(frozen=True)
class Cut:
    """A caption that is too long.

    Attributes:
        clips: how many have it.
        caption: all of it.
        left_out: its end, which the model does not read.
    """

    clips: int
    caption: str
    left_out: str


@dataclass(frozen=True)
class Captions:
    """What a model reads of the captions of a source.

    Attributes:
        clips: all of them.
        missing: how many have no caption.
        limit: tokens that the text encoder reads; None where it has no limit.
        cut: the captions that are longer.
        unknown: why these cannot be told; "" where they are.
    """

    clips: int
    missing: int
    limit: int | None
    cut: tuple[Cut, ...]
    unknown: str = ""

    def lines(self) -> Iterator[str]:
        """Sentences for a person."""
        if self.missing:
            yield f"{self.missing} of {self.clips} clips have no caption"
        if self.unknown:
            yield f"whether captions are cut cannot be told: {self.unknown}"
        if self.cut:
            clips = sum(one.clips for one in self.cut)
            ends = first_few([_shortened(one) for one in self.cut], between="; ")
            yield (
                f"{number_of(len(self.cut), 'caption')}, of {number_of(clips, 'clip')}, "
                f"{'is' if len(self.cut) == 1 else 'are'} longer than the {self.limit} tokens (max_tokens) "
                f"that the text encoder reads, and cut. Not read: {ends}"
            )


def _shortened(cut: Cut) -> str:
    begins, lost = cut.caption[:40], cut.left_out
    return printable(f'"{lost[:60]}{"..." if len(lost) > 60 else ""}" of "{begins}..."')


def refuse_no_captions(source: ClipSource, dropout: float) -> None:
    """Refuse to train on text where there is none, unless every caption is to be left out.

    Raises:
        InputError: no clip has a caption, and the share of captions that are left out is below 1.
    """
    if dropout < 1 and not any(source.caption(i) for i in range(len(source))):
        raise InputError(
            f"none of the {len(source)} training clips has a caption, so the model would learn nothing of "
            "text: write one for each (a.txt beside a.mp4, or a column 'caption' in a list), or set "
            "task.init_args.caption_drop: 1 to train without text"
        )


@lru_cache(maxsize=4)
def captions_of(source: ClipSource) -> Counter[str]:
    """How many clips have each caption, by their first clips; kept, for a world draws its scenes to tell."""
    return Counter(source.caption(i) for i in range(len(source)))


def read_captions(source: ClipSource, text: TextEncoder) -> Captions:
    """What `text` reads of the captions of a source; needs no weights, whatever is cached."""
    clips = captions_of(source)
    cut, unknown = [], ""
    captions = list(clips)
    try:
        for start in range(0, len(captions), _AT_ONCE):
            some = captions[start : start + _AT_ONCE]
            ends = text.cut(some)
            cut += [Cut(clips[one], one, end) for one, end in zip(some, ends, strict=True) if end]
    except InputError as error:  # embeddings that are kept serve without the files of the encoder
        unknown = str(error)
    return Captions(len(source), clips[""], text.max_tokens, tuple(cut), unknown)
