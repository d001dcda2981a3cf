from collections.abc import Sequence

import pytest
import torch

from vdit.conditions.caption import Caption
from vdit.draws import Draws
from vdit.text.encoder import TextEncoder, pad
from vdit.types import ClipBatch, DenoiserInput, InputError, Slot, Tokens


class Letters(TextEncoder):
    """One token a letter, its number in every channel; "" is one token of zeros."""

    @property
    def width(self) -> int:
        return 3

    @property
    def fingerprint(self) -> str:
        return "letters"

    def encode(self, prompts: Sequence[str]) -> Tokens:
        codes = [[ord(c) for c in prompt] or [0] for prompt in prompts]
        return pad([torch.tensor(row).float()[:, None].expand(-1, 3) for row in codes])


def read(tokens: Tokens) -> list[str]:
    """The prompts behind the tokens that the mask lets through."""
    rows = zip(tokens.values, tokens.mask, strict=True)
    return ["".join(chr(int(v[0])) for v in values[mask]).strip("\0") for values, mask in rows]


def batch(*captions: str) -> ClipBatch:
    ids = tuple(f"clip{i}" for i in range(len(captions)))
    return ClipBatch(ids, captions, torch.full((len(captions),), 8.0))


def test_the_signal_is_the_captions():
    tokens = Caption(Letters()).signal(batch("a red star", "sun"))
    assert tokens.values.shape == (2, 10, 3)
    assert read(tokens) == ["a red star", "sun"]


def test_the_null_is_the_empty_prompt_for_every_clip():
    caption = Caption(Letters())
    null = caption.null(caption.signal(batch("a red star", "sun", "moon")))
    assert read(null) == [""] * 3
    assert null.mask.any(1).all()  # at least one token: attention over none is not a number


@pytest.mark.parametrize("other", ["", "nothing that is worth a look"])
def test_mix_hides_the_hidden_clips_alone(other: str):
    caption = Caption(Letters())
    signal, instead = caption.signal(batch("a red star", "sun", "moon")), caption.signal(batch(*[other] * 3))
    mixed = caption.mix(signal, instead, torch.tensor([False, True, False]))
    assert read(mixed) == ["a red star", other, "moon"]
    every = caption.mix(signal, instead, torch.ones(3, dtype=torch.bool))
    assert read(every) == [other] * 3


def test_training_hides_what_mixing_would_hide():
    caption, clips = Caption(Letters(), drop=0.5), batch(*["a red star", "sun", "moon", "a comet"] * 4)
    signal, hidden = caption.signal(clips), Draws(3).uniform(16) < 0.5
    said = read(caption.drawn(clips, Draws(3)))
    assert said == read(caption.mix(signal, caption.null(signal), hidden))
    assert 0 < said.count("") < 16


@pytest.mark.parametrize("other", ["", "nothing that is worth a look"])
def test_stack_keeps_both_one_after_the_other(other: str):
    caption = Caption(Letters())
    both = caption.stack([caption.signal(batch("a red star", "sun")), caption.signal(batch(other, other))])
    assert read(both) == ["a red star", "sun", other, other]


def test_apply_fills_the_text_slot_and_nothing_else():
    caption = Caption(Letters())
    inputs = DenoiserInput(torch.zeros(1, 4, 1, 2, 2), torch.zeros(1, 1, 1, 1))
    signal = caption.signal(batch("sun"))
    filled = caption.fill(inputs, signal)
    assert filled.text is signal
    assert filled.latents is inputs.latents
    assert inputs.text is None
    assert caption.slots == {Slot.TEXT}


def test_a_caption_has_no_weights_to_train():
    assert list(Caption(Letters()).parameters()) == []


@pytest.mark.parametrize("drop", [-0.1, 1.1])
def test_probabilities_outside_their_range_are_refused(drop: float):
    with pytest.raises(InputError, match=rf"Caption drop {drop} must lie in \[0, 1\]"):
        Caption(Letters(), drop=drop)
