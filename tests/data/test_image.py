"""Images are read as a viewer shows them."""

import struct

import numpy as np
import pytest
from PIL import Image

from vdit.data.image import read_image
from vdit.data.media import UnreadableVideo

RED = (200, 60, 30)


def picture(mode: str = "RGB", colour: tuple[int, ...] = RED) -> Image.Image:
    image = Image.new("RGB", (8, 8), colour)
    return image.quantize() if mode == "P" else image.convert(mode)


def profile(xyz: list[tuple[float, float, float]], gamma: float) -> bytes:
    """A profile of three primaries (as XYZ under D50) and a gamma, ICC.1:2001-04."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1)
    tags = {b"desc": text + bytes(-len(text) % 4), b"cprt": b"text" + bytes(8)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)
    for name, values in zip((b"r", b"g", b"b"), xyz, strict=True):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*values)
        tags[name + b"TRC"] = curve
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(data), len(value))
        data += value
    size = at + len(data)
    head = (
        struct.pack(">I4sI4s4s4s", size, b"test", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    )
    head += bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + data


P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_colours_of_a_profile_become_those_of_an_ordinary_screen(tmp_path, name):
    options = (
        {"quality": 100, "subsampling": 0}
        if name == "a.jpg"
        else {"lossless": True}
        if name == "a.webp"
        else {}
    )
    picture().save(tmp_path / name, icc_profile=profile(P3, 2.0), **options)
    xyz = (np.array(RED) / 255) ** 2.0 @ np.array(P3)
    light = (xyz @ np.linalg.inv(SRGB)).clip(0, 1)
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(read_image(tmp_path / name)[4, 4] - expected).max() <= 2
    assert np.abs(expected - RED).max() > 10


def test_a_profile_that_cannot_be_understood_is_passed_over(tmp_path):
    picture().save(tmp_path / "a.png", icc_profile=b"no profile")
    assert read_image(tmp_path / "a.png")[4, 4].tolist() == [*RED]


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tif"),
        ("YCbCr", "a.jpg"),
        ("P", "a.png"),
        ("RGB", "a.bmp"),
        ("RGB", "a.webp"),
    ],
)
def test_all_kinds_of_colours_are_read(tmp_path, mode, name):
    options = {"quality": 100} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
    picture(mode).save(tmp_path / name, **options)
    assert np.abs(read_image(tmp_path / name)[4, 4].astype(int) - RED).max() <= 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_photographs_stand_upright(tmp_path, turn):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[8:, 16:] = (250, 0, 0), (0, 0, 250)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


def test_images_of_16_bits_and_of_8_are_the_same_picture(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "8.png")
    for name in ("16.png", "16.tiff"):
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), read_image(tmp_path / "8.png"))


def test_what_is_transparent_lies_on_grey(tmp_path):
    seen = np.zeros((2, 2, 4), np.uint8)
    seen[0] = (250, 10, 0, 255)
    seen[1] = (0, 255, 0, 0)
    Image.fromarray(seen).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[0] == [250, 10, 0]).all()
    assert (image[1] == 128).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9, 200, 60, 30])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    image = read_image(tmp_path / "p.png")
    assert np.abs(image[0, 0] - np.array([164, 94, 79])).max() <= 1
    assert (image[1] == 128).all()
    picture().save(tmp_path / "t.png", transparency=RED)
    assert (read_image(tmp_path / "t.png") == 128).all()


@pytest.mark.parametrize("values", [np.full((2, 2), 0.5, np.float32), np.full((2, 2), 70_000, np.int32)])
def test_an_image_whose_values_have_no_white_is_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableVideo, match="its values have no white"):
        read_image(tmp_path / "a.tiff")


def test_a_damaged_header_is_refused_by_name(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("RGB", (40, 30)).save(path)
    raw = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * entries, len(raw))  # where the next picture is told
    path.write_bytes(raw + bytes(6))  # which has no size
    with pytest.raises(UnreadableVideo, match="Pillow cannot read this image"):
        read_image(path)
