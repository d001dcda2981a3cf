"""Given frames: the layouts of the published models, and what known latents mean for loss and solver."""

import dataclasses

import pytest
import torch

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.frames import ImageChannels, ImageTokens, frame_mask
from vdit.text.encoder import ImageEncoder
from vdit.types import ClipBatch, Given, InputError


def clips(frames: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Means(ImageEncoder):
    """Three tokens an image: its mean, less and more."""

    @property
    def fingerprint(self) -> str:
        return "means"

    @property
    def size(self) -> tuple[int, int]:
        return 3, 5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean - 1, mean, mean + 1], dim=1)[..., None].expand(-1, -1, 5)


def test_the_mask_of_a_first_and_a_last_frame_is_that_of_wan():
    given = torch.zeros(1, 13, dtype=torch.bool)
    given[:, [0, -1]] = True
    assert frame_mask(given, 4)[0].T.int().tolist() == [
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
    ]


@pytest.mark.parametrize(("places", "at"), [("first", [0]), ("first_and_last", [0, -1])])
def test_channels_are_the_mask_and_the_latents_of_a_clip_that_is_grey_elsewhere(
    places, at, codec: TiledCodec
):
    condition, pixels = ImageChannels(places), clips()
    found = condition.seen(condition.given(pixels), codec)
    grey = torch.zeros_like(pixels)
    grey[:, :, at] = pixels[:, :, at]
    assert found.shape == (2, 8, 3, 2, 3)
    torch.testing.assert_close(found[:, 4:], codec.encode(grey))
    assert found[:, :4, 0].eq(1).all()
    assert found[:, :4, 1].eq(0).all()
    assert found[0, :4, 2, 0, 0].tolist() == ([0, 0, 0, 1] if -1 in at else [0, 0, 0, 0])


def test_without_a_mask_the_latents_are_those_of_the_image_alone(codec: TiledCodec):
    condition, pixels = ImageChannels(mask=False), clips()
    found = condition.seen(condition.given(pixels), codec)
    torch.testing.assert_close(found[:, :, :1], codec.encode(pixels[:, :, :1]))
    assert found[:, :, 1:].eq(0).all()


def test_tokens_of_both_images_stand_one_after_the_other(codec: TiledCodec):
    condition, pixels = ImageTokens(Means(), "first_and_last"), clips()
    found = condition.seen(condition.given(pixels), codec)
    assert found.shape == (2, 6, 5)
    means = pixels.mean(dim=(1, 3, 4))  # b t
    torch.testing.assert_close(found[:, [1, 4], 0], means[:, [0, -1]])
    assert condition.fingerprint != ImageTokens(Means(), "first").fingerprint


def asked(given: Given | None) -> ClipBatch:
    return ClipBatch(("a",), ("",), torch.ones(1), given=given)


def test_what_is_given_counts_before_what_the_clip_shows(codec: TiledCodec):
    condition, pixels = ImageChannels(), clips()[:1]
    other = condition.given(-pixels)
    batch = ClipBatch(("a",), ("",), torch.ones(1), pixels=pixels)
    torch.testing.assert_close(
        condition.feature(batch, codec), condition.seen(condition.given(pixels), codec)
    )
    torch.testing.assert_close(
        condition.feature(dataclasses.replace(batch, given=other), codec), condition.seen(other, codec)
    )
    with pytest.raises(InputError, match="and got none"):
        condition.check(asked(None))


@pytest.mark.parametrize(
    ("condition", "places", "told"),
    [
        (ImageChannels(), [], r"a first frame \(--first\), and got none"),
        (ImageChannels(), [0, 8], r"a first frame \(--first\), and got frames \[0, 8\]"),
        (ImageChannels("first_and_last"), [0], r"a first and a last frame .*, and got frames \[0\]"),
    ],
)
def test_frames_at_other_places_are_refused(condition, places: list[int], told: str):
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, places] = True
    with pytest.raises(InputError, match=told):
        condition.check(asked(Given(torch.zeros(1, 3, 9, 16, 24), mask)))
