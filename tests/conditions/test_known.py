"""Known frames: what the model sees, what carries no loss, what training draws, what sampling keeps."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from small_wan import Letters

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.caption import Caption
from vdit.conditions.known import KnownFrames
from vdit.denoiser import Denoiser
from vdit.draws import Draws
from vdit.flow.noise import Uniform
from vdit.flow.objective import FlowMatching, noised
from vdit.models.native.dit import NativeDiT
from vdit.models.wan.dit import WanDiT
from vdit.sample.sampler import Sampler, Sampling, Wish
from vdit.train.step import FlowStep
from vdit.types import ClipBatch, DenoiserInput, Given, InputError

ALL = {"none": 1.0, "first": 1.0, "last": 1.0, "first_and_last": 1.0, "keyframes": 1.0, "prefix": 1.0}


def clips(frames: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def model(condition: KnownFrames) -> Denoiser:
    torch.manual_seed(0)
    backbone = NativeDiT(latent_channels=4, text_width=6, width=24, depth=2, heads=2, patch=(1, 2, 2))
    for value in backbone.parameters():  # zeros would hide what is not heard
        torch.nn.init.normal_(value, std=0.3)
    return Denoiser(backbone, [Caption(Letters()), condition]).eval()


def in_training(condition: KnownFrames, codec: TiledCodec, pixels: torch.Tensor) -> ClipBatch:
    """A batch as training has it."""
    batch = ClipBatch(("a", "b"), ("red", "a green star"), torch.ones(2), pixels=pixels)
    features = {condition.name: condition.feature(batch, codec)}
    return replace(batch, pixels=None, latents=codec.encode(pixels), features=features)


def in_sampling(
    condition: KnownFrames, codec: TiledCodec, pixels: torch.Tensor, frames: Sequence[int]
) -> ClipBatch:
    """A batch as sampling has it."""
    mask = torch.zeros(2, pixels.shape[2], dtype=torch.bool)
    mask[:, frames] = True
    given = Given(pixels * mask[:, None, :, None, None], mask)
    noise = torch.randn(codec.encode(pixels).shape, generator=torch.Generator().manual_seed(5))
    batch = ClipBatch(("a", "b"), ("red", "a green star"), torch.ones(2), latents=noise, given=given)
    return replace(batch, features={condition.name: condition.feature(batch, codec)})


@pytest.mark.parametrize(
    ("place", "frames"),
    [
        ("first", [0]),
        ("last", [8]),
        ("first_and_last", [0, 8]),
        ("keyframes", [4]),
        ("prefix", range(5)),
    ],
)
def test_training_and_sampling_show_the_same(place: str, frames: Sequence[int], codec: TiledCodec):
    """The very same signal from a cached clip and from given frames; so what was learnt is what is asked."""
    condition = KnownFrames({"last": 1e-9, place: 1.0})
    trained = condition.signal(in_training(condition, codec, clips()))
    asked = condition.signal(in_sampling(condition, codec, clips(), frames))
    assert torch.equal(trained.known, asked.known)
    known = trained.known[:, None, :, None, None]
    torch.testing.assert_close(trained.latents * known, asked.latents * known)
    assert torch.equal(trained.images.mask, asked.images.mask)
    torch.testing.assert_close(trained.images.latents, asked.images.latents)
    torch.testing.assert_close(trained.images.frame, asked.images.frame)


def test_known_latents_are_clean_and_have_no_sigma(codec: TiledCodec):
    condition = KnownFrames()
    signal = condition.signal(in_training(condition, codec, clips()))
    noise = torch.randn(2, 4, 3, 2, 2)
    inputs = condition.fill(DenoiserInput(noise, torch.full((2, 1, 1, 1), 0.7)), signal)
    torch.testing.assert_close(inputs.latents[:, :, :1], codec.encode(clips()[:, :, :1]))
    assert torch.equal(inputs.latents[:, :, 1:], noise[:, :, 1:])
    assert inputs.sigma[:, 0].eq(0).all()
    assert inputs.sigma[:, 1:].eq(0.7).all()
    assert inputs.appended is None


def test_known_latents_carry_no_loss_and_no_gradient(codec: TiledCodec):
    condition = KnownFrames()
    signal = condition.signal(in_training(condition, codec, clips()))
    objective, x0 = FlowMatching(Uniform()), codec.encode(clips())
    at = noised(x0, torch.tensor([0.3, 0.8]), torch.randn_like(x0))
    velocity = torch.randn_like(x0, requires_grad=True)
    loss = objective.loss(velocity, at, condition.known(signal).mask)
    loss.sum().backward()
    assert velocity.grad is not None
    assert velocity.grad[:, :, 0].eq(0).all()
    assert velocity.grad[:, :, 1:].ne(0).all()
    rest = (velocity - at.velocity)[:, :, 1:].square().flatten(1).mean(1)
    torch.testing.assert_close(loss, rest)
    nothing = torch.zeros_like(condition.known(signal).mask)
    torch.testing.assert_close(objective.loss(velocity, at, nothing), objective.loss(velocity, at))


@pytest.mark.parametrize("frames", [[], [0], [8], [0, 8], [3, 8], [0, 1, 2, 3, 4, 5]])
def test_what_is_hidden_leaves_a_model_of_text_alone(frames: list[int], codec: TiledCodec):
    condition = KnownFrames(ALL)
    denoiser, batch = model(condition), in_sampling(condition, codec, clips(), frames)
    caption, signal = denoiser.signals(batch)
    sigma = torch.tensor([0.4, 0.9])
    hidden = denoiser(batch.latents, sigma, (caption, condition.null(signal)))
    alone = Denoiser(denoiser.backbone, [Caption(Letters())])
    torch.testing.assert_close(hidden, alone(batch.latents, sigma, (caption,)), atol=1e-5, rtol=1e-5)
    seen = condition.signal(batch)
    both = condition.mix(seen, condition.null(seen), torch.tensor([True, False]))
    mixed = denoiser(batch.latents, sigma, (caption, both))
    torch.testing.assert_close(mixed[0], hidden[0], atol=1e-5, rtol=1e-5)
    shown = denoiser(batch.latents, sigma, (caption, seen))
    torch.testing.assert_close(mixed[1], shown[1], atol=1e-5, rtol=1e-5)
    assert torch.allclose(shown, hidden, atol=1e-3) == (not frames)


def test_an_image_beside_the_clip_is_heard_by_what_it_shows_and_where(codec: TiledCodec):
    condition, sigma = KnownFrames(ALL), torch.tensor([0.4, 0.9])
    denoiser = model(condition)

    def velocity(pixels: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        batch = in_sampling(condition, codec, pixels, frames)
        return denoiser(batch.latents, sigma, denoiser.signals(batch))

    same = clips()[:, :, :1].expand(-1, -1, 9, -1, -1)
    at_six, at_eight = velocity(same, [6]), velocity(same, [8])
    assert not torch.allclose(at_six, at_eight, atol=1e-3)
    assert not torch.allclose(at_six, velocity(-same, [6]), atol=1e-3)


def test_all_that_is_given_comes_back_to_the_bit(codec: TiledCodec):
    condition = KnownFrames(ALL)
    denoiser = model(condition)
    sampler = Sampler(denoiser, codec.codec, Sampling(frames=9, height=16, width=16, steps=3))
    given = Given(clips()[:1], torch.ones(1, 9, dtype=torch.bool))
    latents = sampler.latents(["red"], [0], wish=Wish(given))
    batch = ClipBatch(("a",), ("red",), torch.ones(1), latents=latents, given=given)
    with torch.inference_mode():  # as the sampler has it, which rounds convolutions otherwise
        clean = condition.feature(batch, codec)[:, 1:, :3]
    assert torch.equal(latents, clean)
    torch.testing.assert_close(clean, codec.encode(clips()[:1]))
    some = Given(clips()[:1] * (torch.arange(9) < 5)[:, None, None], torch.arange(9)[None] < 5)
    kept = sampler.latents(["red"], [0], wish=Wish(some))
    torch.testing.assert_close(kept[:, :, :2], clean[:, :, :2])
    assert not torch.allclose(kept[:, :, 2], clean[:, :, 2], atol=1e-2)


def test_training_draws_places_as_often_as_asked(codec: TiledCodec):
    condition = KnownFrames({"none": 2.0, "first": 1.0, "first_and_last": 5.0}, every=4)
    numbers = torch.rand(4000, 6, generator=torch.Generator().manual_seed(0)).tolist()
    found = Counter(tuple(condition.frames_drawn(row, 17)) for row in numbers)
    assert set(found) == {(), (0,), (0, 16)}
    for frames, share in (((), 0.25), ((0,), 0.125), ((0, 16), 0.625)):
        assert abs(found[frames] / 4000 - share) < 0.03
    many = [KnownFrames({"keyframes": 1.0}).frames_drawn(row, 17) for row in numbers]
    assert {frame for frames in many for frame in frames} == {4, 8, 12, 16}
    assert {len(frames) for frames in many} == {1, 2, 3}
    begun = [KnownFrames({"prefix": 1.0}).frames_drawn(row, 17) for row in numbers]
    assert {len(frames) for frames in begun} == {1, 5, 9, 13}
    assert {len(KnownFrames(drop=0.5).frames_drawn(row, 17)) for row in numbers} == {0, 1}


def test_what_is_drawn_is_a_function_of_the_draws(codec: TiledCodec):
    condition = KnownFrames(ALL)
    batch = in_training(condition, codec, clips(17))
    signals = [condition.drawn(batch, Draws(seed)) for seed in (0, 0, *range(1, 9))]
    assert torch.equal(signals[0].known, signals[1].known)
    assert torch.equal(signals[0].images.latents, signals[1].images.latents)
    assert len({(str(each.known), each.images.mask.sum()) for each in signals}) > 3


@pytest.mark.parametrize(
    ("places", "frames", "told"),
    [
        ({"first": 1.0}, [8], r"a first frame \(--first\), and got frames \[8\]"),
        ({"first": 1.0}, range(5), r"a first frame \(--first\), and got frames \[0, 1, 2, 3, 4\]"),
        ({"prefix": 1.0}, [0, 8], r"the beginning of a clip, and got frames \[0, 8\]"),
        ({"prefix": 1.0}, [0, 1], r"the beginning of a clip, and got frames \[0, 1\]"),
    ],
)
def test_frames_at_other_places_are_refused(places, frames, told: str):
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, frames] = True
    batch = ClipBatch(("a",), ("",), torch.ones(1), given=Given(torch.zeros(1, 3, 9, 16, 16), mask))
    with pytest.raises(InputError, match=told):
        KnownFrames(places).check(batch)
    KnownFrames(places).check(replace(batch, given=None))
    KnownFrames(ALL).check(batch)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="no place 'middle' for frames: choose none, first"):
        KnownFrames({"middle": 1.0})
    with pytest.raises(InputError, match="the weights of places"):
        KnownFrames({"first": 0.0})
    with pytest.raises(InputError, match="every 0 must be at least 1"):
        KnownFrames(every=0)


def test_a_codec_of_another_stride_is_refused(codec: TiledCodec):
    told = "known frames count 8 frames a latent, and the codec 4: give the condition stride_t 4"
    with pytest.raises(InputError, match=told):
        in_training(KnownFrames(stride_t=8), codec, clips())


def test_the_middle_keyframe_is_one_that_training_can_show():
    for every in range(1, 9):
        condition = KnownFrames({"keyframes": 1.0}, every=every)
        [middle] = condition.frames_at("keyframes", 17)
        assert middle in condition.candidates(17)
    assert KnownFrames({"last": 1.0}).frames_at("keyframes", 17) == [8]


def test_images_beside_the_clip_need_a_backbone_that_takes_them():
    backbone = WanDiT(latent_channels=4, text_width=6, width=24, hidden=32, heads=2, depth=1)
    Denoiser(backbone, [Caption(Letters()), KnownFrames({"first": 1.0, "prefix": 1.0})])
    with pytest.raises(InputError, match="WanDiT does not accept tokens"):
        Denoiser(backbone, [Caption(Letters()), KnownFrames({"last": 1.0})])
    deep = NativeDiT(latent_channels=4, text_width=6, width=24, depth=1, heads=2, patch=(2, 2, 2))
    with pytest.raises(InputError, match="NativeDiT does not accept tokens"):
        Denoiser(deep, [Caption(Letters()), KnownFrames({"last": 1.0})])


def test_a_step_reads_features_and_hides_them(codec: TiledCodec):
    condition = KnownFrames()
    batch = in_training(condition, codec, clips())
    assert batch.latents is not None
    seen: list[DenoiserInput] = []

    class Backbone(WanDiT):
        def forward(self, inputs: DenoiserInput) -> torch.Tensor:
            seen.append(inputs)
            return torch.zeros_like(inputs.latents)

    backbone = Backbone(latent_channels=4, text_width=6, width=24, hidden=32, heads=2, depth=1)
    denoiser = Denoiser(backbone, [condition])
    step = FlowStep(denoiser, FlowMatching(Uniform()))
    step(denoiser, batch, Draws(0))
    torch.testing.assert_close(seen[0].latents[:, :, 0], batch.latents[:, :, 0])
    condition.drop = 1.0
    step(denoiser, batch, Draws(0))
    assert not torch.allclose(seen[1].latents[:, :, 0], batch.latents[:, :, 0], atol=1e-2)


def test_a_beginning_can_be_shown_with_noise_and_comes_back_clean(codec: TiledCodec):
    condition = KnownFrames({"prefix": 1.0}, noise=0.2)
    batch = in_sampling(condition, codec, clips(), range(5))
    assert batch.given is not None
    signal = condition.signal(replace(batch, given=replace(batch.given, noise=0.3)))
    inputs = condition.fill(DenoiserInput(torch.zeros(2, 4, 3, 2, 2), torch.full((2, 1, 1, 1), 0.7)), signal)
    assert inputs.sigma[:, :, 0, 0].tolist() == [[pytest.approx(x) for x in (0.3, 0.3, 0.7)]] * 2
    assert batch.latents is not None
    clean = condition.known(signal).latents[:, :, :2]
    torch.testing.assert_close(inputs.latents[:, :, :2], 0.7 * clean + 0.3 * batch.latents[:, :, :2])
    torch.testing.assert_close(clean, condition.signal(batch).latents[:, :, :2])
    assert not inputs.latents[:, :, 2].any()
    drawn = condition.drawn(in_training(condition, codec, clips()), Draws(0))
    assert ((drawn.level > 0) & (drawn.level <= 0.2)).all()
    assert drawn.level[0] != drawn.level[1]
    assert drawn.noise.std() == pytest.approx(1, abs=0.2)
    with pytest.raises(InputError, match="noise 1"):
        KnownFrames(noise=1.0)
