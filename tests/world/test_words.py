from itertools import permutations

import numpy as np
import pytest

from vdit.world.flat_scene import BACKGROUNDS
from vdit.world.words import COLOURS, article, listing, number


def test_colours_stay_apart_also_where_blur_mixes_them_with_a_background():
    for (_, mixed), (other, colour) in permutations(COLOURS.items(), 2):
        for name, background in BACKGROUNDS.items():
            line = np.subtract(mixed, background)
            offset = np.subtract(colour, background)
            share = np.clip(offset @ line / (line @ line), 0, 1)
            assert np.linalg.norm(offset - share * line) > 0.25, (other, name)


def test_no_colour_is_near_a_background():
    for colour in COLOURS.values():
        for background in BACKGROUNDS.values():
            assert np.linalg.norm(np.subtract(colour, background)) > 0.45


@pytest.mark.parametrize(
    ("phrase", "expected"), [("orange cube", "an orange cube"), ("red ball", "a red ball")]
)
def test_article(phrase: str, expected: str):
    assert article(phrase) == expected


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_listing(phrases: list[str], expected: str):
    assert listing(phrases) == expected


def test_number():
    assert [number(0), number(3), number(9), number(12)] == ["no", "three", "nine", "12"]
