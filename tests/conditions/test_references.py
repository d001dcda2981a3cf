"""References: heard, hidden, left out, and counted."""

from dataclasses import replace

import pytest
import torch

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.references import ReferenceImages
from vdit.data.stack import stack
from vdit.models.native.dit import NativeDiT
from vdit.models.wan.dit import WanDiT
from vdit.types import Clip, ClipBatch, DenoiserInput, InputError, References, Tokens
from vdit.world.flat import Flat
from vdit.world.room import Room
from vdit.world.source import WorldSource


def clip(seed: int, count: int) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(3, 5, 16, 16, generator=generator) * 2 - 1
    return Clip(str(seed), pixels, 8.0, "", references=torch.rand(count, 3, 16, 16, generator=generator))


def asked(batch: ClipBatch, condition: ReferenceImages, codec: TiledCodec) -> ClipBatch:
    latents = codec.encode(torch.zeros(len(batch), 3, 5, 16, 16))
    features = {condition.name: condition.feature(batch, codec)}
    return replace(batch, pixels=None, latents=latents, features=features)


def test_every_reference_is_coded_alone_and_stands_before_the_clip(codec: TiledCodec):
    condition = ReferenceImages(most=2)
    clips = [clip(0, 2), clip(1, 0), clip(2, 1)]
    batch = asked(stack(clips), condition, codec)
    signal = condition.signal(batch)
    inputs = DenoiserInput(torch.zeros_like(batch.latents), torch.ones(3, 1, 1, 1))
    images = condition.fill(inputs, signal).appended
    assert images is not None
    assert images.mask.tolist() == [[True, True], [False, False], [True, False]]
    assert images.frame.tolist() == [[-1, -2]] * 3
    alone = codec.encode(clips[2].references[:1, :, None])
    torch.testing.assert_close(images.latents[2, :1], alone[:, :, 0], atol=1e-5, rtol=1e-5)
    assert torch.equal(condition.null(signal), torch.zeros_like(signal))
    sampled = ClipBatch(("a",), ("",), torch.ones(1), latents=batch.latents[:1])
    assert not condition.feature(sampled, codec).any()
    assert condition.feature(sampled, codec).shape == signal[:1].shape


def test_a_model_hears_references_and_is_the_same_without(codec: TiledCodec):
    torch.manual_seed(0)
    model = NativeDiT(latent_channels=4, text_width=6, width=24, depth=2, heads=2)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.2)
    condition = ReferenceImages()
    signal = condition.signal(asked(stack([clip(0, 1)]), condition, codec))
    text = Tokens(torch.randn(1, 3, 6), torch.ones(1, 3, dtype=torch.bool))
    latents = torch.randn(1, 4, 2, *signal.shape[-2:])
    inputs = DenoiserInput(latents, torch.full((1, 1, 1, 1), 0.5), text)
    plain = model(inputs)
    torch.testing.assert_close(
        model(condition.fill(inputs, condition.null(signal))), plain, atol=1e-5, rtol=0
    )
    assert (model(condition.fill(inputs, signal)) - plain).abs().max() > 0.01


def test_what_cannot_be_learnt_or_asked_is_refused(codec: TiledCodec):
    condition = ReferenceImages(most=1)
    with pytest.raises(InputError, match="these clips have none: give clips that have some"):
        condition.check(stack([replace(clip(0, 1), references=None)]))
    images = References.of([torch.zeros(2, 3, 16, 16)])
    with pytest.raises(InputError, match="takes 1 references a clip, and got 2"):
        condition.check(ClipBatch(("a",), ("",), torch.ones(1), references=images))
    with pytest.raises(InputError, match="most 0"):
        ReferenceImages(most=0)
    wan = WanDiT(4, text_width=6, text_length=8, width=16, hidden=16, heads=2, depth=1)
    with pytest.raises(InputError, match="WanDiT does not accept tokens"):
        wan.check_slots(condition.slots)


def test_portraits_show_whoever_has_a_name_and_nobody_else():
    source = WorldSource(Room(guests=0.5), 12, 5, 32, 32, caption="unnamed", references=True)
    for i in range(12):
        guest, item = source.scene(i).guest, source[i]
        assert item.references is not None
        assert len(item.references) == (guest is not None)
        assert ("someone" in item.caption) == (guest is not None)
        assert guest is None or guest.name not in item.caption
        if guest is not None:
            seen = source.level.judge(item.references[0][:, None].expand(-1, 3, -1, -1), source.scene(i)).seen
            assert seen["character"] == guest.name
    flat = WorldSource(Flat(), 2, 5, 32, 32, references=True)[0].references
    assert flat is not None
    assert len(flat) == 0
