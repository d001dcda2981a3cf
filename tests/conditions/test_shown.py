"""Two ways to show images beside a clip: what each puts where, and that both are heard."""

from dataclasses import replace

import pytest
import torch

from vdit.conditions.shown import WAYS, latent_place
from vdit.models.native.dit import NativeDiT
from vdit.types import Appended, DenoiserInput, InputError, Slot, Tokens


def images(*frames: tuple[int, ...]) -> Appended:
    """One image a frame, -1 for none, a row of them a clip."""
    at = torch.tensor(frames)
    latents = torch.randn(*at.shape, 4, 2, 4, generator=torch.Generator().manual_seed(0))
    return Appended(latents, latent_place(at.clamp(min=0).float(), 4), at >= 0)


def some_input() -> DenoiserInput:
    generator = torch.Generator().manual_seed(2)
    text = Tokens(torch.randn(2, 3, 6, generator=generator), torch.ones(2, 3, dtype=torch.bool))
    latents = torch.randn(2, 4, 3, 2, 4, generator=generator)
    return DenoiserInput(latents, torch.full((2, 1, 1, 1), 0.4), text)


def test_channels_say_which_pixel_frame_an_image_is_and_hold_its_latents():
    shown = images((8, -1), (2, 5))
    channels = WAYS["channels"].fill(some_input(), shown, 4).channels
    assert channels is not None
    assert channels.shape == (2, 8, 3, 2, 4)
    assert channels[0, :4, :, 0, 0].T.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert channels[1, :4, :, 1, 3].T.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert torch.equal(channels[0, 4:, 2], shown.latents[0, 0])
    assert torch.equal(channels[1, 4:, 1], shown.latents[1, 0])
    assert not channels[0, 4:, :2].any()


def test_of_two_images_in_one_latent_frame_the_later_stays():
    shown = images((5, 7), (5, -1))
    channels = WAYS["channels"].fill(some_input(), shown, 4).channels
    assert channels is not None
    assert channels[:, :4, 2, 0, 0].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert torch.equal(channels[0, 4:, 2], shown.latents[0, 1])


@pytest.mark.parametrize("way", WAYS)
def test_a_model_hears_images_either_way(way: str):
    torch.manual_seed(0)
    model = NativeDiT(latent_channels=4, text_width=6, width=24, depth=1, heads=2, extra_channels=8)
    nothing, shown = images((-1,), (-1,)), images((8,), (3,))
    fill = WAYS[way].fill
    assert WAYS[way].slot in model.slots
    fresh = model(some_input())
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    heard = model(fill(some_input(), shown, 4))
    torch.testing.assert_close(model(fill(some_input(), nothing, 4)), model(some_input()), atol=1e-4, rtol=0)
    assert (heard - model(some_input())).abs().amax((1, 2, 3, 4)).min() > 0.01
    assert not torch.equal(fresh, heard)


def test_a_fresh_model_adds_nothing_for_channels_and_vectors():
    model = NativeDiT(4, 6, 24, 1, 2, extra_channels=8, vectors={"fps": 3, "camera": 5})
    assert {Slot.CHANNELS, Slot.VECTORS} <= model.slots
    for name, value in model.named_parameters():
        if not name.startswith(("channels_in", "vectors_in")):
            torch.nn.init.normal_(value, std=0.3)
    plain = some_input()
    told = WAYS["channels"].fill(plain, images((8,), (3,)), 4)
    told = replace(told, vectors={"fps": torch.randn(2, 1, 3), "camera": torch.randn(2, 3, 5)})
    torch.testing.assert_close(model(told), model(plain), atol=1e-4, rtol=0)


def test_numbers_of_a_frame_reach_its_tokens_and_those_of_a_clip_all():
    torch.manual_seed(0)
    model = NativeDiT(4, 6, 24, 1, 2, vectors={"fps": 3, "camera": 5})
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    vectors = {"fps": torch.randn(2, 1, 3), "camera": torch.randn(2, 3, 5)}
    _, stream = model.embed(replace(some_input(), vectors=vectors))
    assert stream.vector.shape[1] == 3
    assert stream.row is not None
    assert stream.row.tolist() == [0, 0, 1, 1, 2, 2]
    other = vectors | {"camera": vectors["camera"].clone()}
    other["camera"][:, 1] += 1
    _, changed = model.embed(replace(some_input(), vectors=other))
    moved = (changed.vector - stream.vector).abs().amax((0, 2))
    assert moved[1] > 0.01
    assert moved[[0, 2]].max() == 0
    with pytest.raises(InputError, match="4 numbers are said of fps, and this model takes"):
        model.embed(replace(some_input(), vectors={"fps": torch.zeros(2, 1, 4)}))


def test_images_beside_a_clip_are_not_told_what_is_said_of_its_frames():
    torch.manual_seed(0)
    model = NativeDiT(4, 6, 24, 1, 2, vectors={"camera": 5})
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    inputs = WAYS["tokens"].fill(some_input(), images((8,), (3,)), 4)
    rows = []
    for seed in (0, 1):
        numbers = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed))
        _, stream = model.embed(replace(inputs, vectors={"camera": numbers}))
        assert stream.vector.shape[1] == 4
        rows.append(stream.vector)
    assert torch.equal(rows[0][:, 3], rows[1][:, 3])
    assert (rows[0][:, :3] - rows[1][:, :3]).abs().min(1).values.max() > 0
