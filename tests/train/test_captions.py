"""A run says what it reads of its captions: which are missing, and which are cut."""

from collections.abc import Sequence

import pytest

from vdit.data.mixture import Mixture, Part
from vdit.text.encoder import TextEncoder
from vdit.train.captions import read_captions, refuse_no_captions
from vdit.types import Clip, InputError, Tokens


class Captioned:
    """A source of captions alone."""

    fingerprint = ""

    def __init__(self, *captions: str) -> None:
        self.captions = captions

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> Clip:
        raise AssertionError("captions are read without decoding")

    def caption(self, index: int) -> str:
        return self.captions[index]


class ThreeWords(TextEncoder):
    """Reads three words."""

    max_tokens = 3
    width, fingerprint = 1, ""

    def encode(self, prompts: Sequence[str]) -> Tokens:
        raise AssertionError("nothing is embedded")

    def cut(self, prompts: Sequence[str]) -> list[str]:
        return [" ".join(prompt.split()[3:]) for prompt in prompts]


class Gone(ThreeWords):
    """Has lost its files."""

    def cut(self, prompts: Sequence[str]) -> list[str]:
        raise InputError("no tokenizer here")


def test_a_run_on_text_needs_some():
    empty = Captioned("", "")
    with pytest.raises(InputError, match=r"none of the 2 .* a caption.*caption_drop: 1 to train"):
        refuse_no_captions(empty, 0.1)
    with pytest.raises(InputError, match="none of the 4 training clips"):
        refuse_no_captions(Mixture([Part(empty, 1), Part(empty, 1)]), 0)
    refuse_no_captions(empty, 1)
    refuse_no_captions(Mixture([Part(empty, 1), Part(Captioned("a cat"), 1)]), 0.1)


def test_captions_that_are_missing_or_cut_are_counted_and_named():
    long = "a cat jumps over \x1b[31m a dog"
    source = Mixture([Part(Captioned("a cat", "", long), 1), Part(Captioned(long, "", ""), 1)])
    found = read_captions(source, ThreeWords())
    assert (found.clips, found.missing, len(found.cut)) == (6, 3, 1)
    assert (found.cut[0].clips, found.cut[0].caption) == (2, long)
    missing, cut = found.lines()
    assert missing == "3 of 6 clips have no caption"
    assert cut.startswith("1 caption, of 2 clips, is longer than the 3 tokens")
    assert r"over \x1b[31m a dog" in cut
    assert list(read_captions(Captioned("a cat"), ThreeWords()).lines()) == []


def test_many_that_are_cut_are_shortened_for_a_person_alone():
    found = read_captions(Captioned(*(f"a b c {i}" for i in range(30))), ThreeWords())
    assert [one.left_out for one in found.cut] == [str(i) for i in range(30)]
    [line] = found.lines()
    assert line.endswith("; and 25 more")


def test_an_encoder_without_its_files_is_told():
    [line] = read_captions(Captioned("a cat"), Gone()).lines()
    assert line == "whether captions are cut cannot be told: no tokenizer here"
