"""Labels: each letter in a font that has it, and a word where there is none."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vdit.sample.lettering import Lettering, one_line


def font_of(file: Path, letters: str) -> Path:
    """A font in which each of these letters is a black square, and what is missing an empty one."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    def square(size: int):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in ((0, size), (size, size), (size, 0)):
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    names = {letter: f"u{ord(letter):x}" for letter in letters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap({ord(letter): name for letter, name in names.items()})
    builder.setupGlyf({".notdef": square(300), **dict.fromkeys(names.values(), square(700))})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    return file


def ink(lettering: Lettering, text: str) -> np.ndarray:
    image = Image.new("L", (120, 30), 255)
    lettering.draw(ImageDraw.Draw(image), 2, 4, text)
    return 255 - np.asarray(image)


def test_accents_and_other_alphabets_need_no_font_of_the_machine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lettering = Lettering(["café Ωmega Привет…"], installed=())
    drawn = [ink(lettering, letter) for letter in "eéèΩП\U0010ffff"]
    assert len({picture.tobytes() for picture in drawn}) == len(drawn)


def test_letters_come_from_the_font_that_has_them(tmp_path: Path):
    few, many = font_of(tmp_path / "few.ttf", "红"), font_of(tmp_path / "many.ttf", "红色")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    lettering = Lettering(["a 红色 b"], installed=(tmp_path / "broken.ttf", few, many))
    assert [Path(str(font.path)).name for font in lettering.fonts[1:]] == ["many.ttf"]
    assert ink(lettering, "色").sum() == pytest.approx(255 * (0.7 * 14) ** 2, rel=0.1)  # the square
    plain = Lettering(["ab"], installed=())
    assert np.array_equal(ink(lettering, "ab"), ink(plain, "ab"))
    assert lettering.length("a色b") == pytest.approx(plain.length("a") + 14 + plain.length("b"))


def test_several_fonts_serve_one_text(tmp_path: Path):
    files = [font_of(tmp_path / f"{i}.ttf", letters) for i, letters in enumerate(("红", "빨"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Lettering(["红 빨"], installed=files).fonts) == 3


@pytest.mark.parametrize(("text", "remedy"), [("红色", "fonts-noto-cjk"), ("हिन्दी", "fonts-noto-core")])
def test_what_no_font_has_is_a_box_and_is_said_once(text: str, remedy: str):
    with pytest.warns(UserWarning, match=f"no font has the letters .* apt-get install {remedy}") as said:
        lettering = Lettering([text, text], installed=())
    assert len(said) == 1
    assert ink(lettering, text).any()


def test_a_package_brings_a_font_for_chinese_japanese_and_korean():
    pytest.importorskip("cvttf_NotoSansCJK_Regular")
    text = "红色 かな 빨강"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lettering = Lettering([text])
    drawn = [ink(lettering, letter) for letter in [*text.replace(" ", ""), "\U0010ffff"]]
    assert len({picture.tobytes() for picture in drawn}) == len(drawn)


def test_a_label_is_one_line_of_what_can_be_drawn():
    assert one_line("a\n b\x07\tc \ud800") == "a b c ?"
    odd = "👩‍👩‍👧 e\u0301 \u202eabc\ufe0f مكعب\U000e0001"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ink(Lettering([odd]), odd).any()
