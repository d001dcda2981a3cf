from collections.abc import Iterator

import pytest
import torch

from vdit.codecs.codec import Posterior
from vdit.codecs.native.codec import NativeCodec
from vdit.draws import Draws
from vdit.types import InputError

SETTINGS = [
    pytest.param({}, id="4x4x4"),
    pytest.param({"kernel": (1, 3, 3)}, id="no-time-kernel"),
    pytest.param({"encoder_blocks": None}, id="linear-encoder"),
    pytest.param({"kernel": (3, 1, 1)}, id="no-space-kernel"),
    pytest.param({"patch": 1, "strides": ((2, 1), (1, 2))}, id="2x2x2-patch1"),
    pytest.param({"patch": 4, "strides": ((1, 1), (2, 2))}, id="2x8x8-patch4"),
    pytest.param({"strides": ((1, 2), (1, 1))}, id="1x4x4"),
    pytest.param({"patch": 4, "basis": "haar"}, id="4x8x8-haar"),
    pytest.param(
        {"widths": (8,), "encoder_blocks": (1,), "decoder_blocks": (1,), "strides": ()}, id="1x2x2-one-stage"
    ),
    pytest.param(
        {
            "widths": (4, 4, 4, 4),
            "encoder_blocks": (0, 0, 1, 1),
            "decoder_blocks": (1, 1, 0, 0),
            "strides": ((2, 1), (2, 2), (2, 1)),
        },
        id="8x4x4",
    ),
]
LATENT_FRAMES = 4


def pixels_for(codec: NativeCodec, latent_frames: int = LATENT_FRAMES, seed: int = 0) -> torch.Tensor:
    t, side = 1 + codec.stride_t * (latent_frames - 1), 2 * codec.stride_s
    return (
        torch.rand(2, 3, t, side, side + codec.stride_s, generator=torch.Generator().manual_seed(seed)) * 2
        - 1
    )


def chunkings(total: int) -> Iterator[list[int]]:
    """All ways to write `total` as a sum of positive numbers, in order."""
    if total == 0:
        yield []
    for first in range(1, total + 1):
        yield from ([first, *rest] for rest in chunkings(total - first))


@pytest.mark.parametrize("settings", SETTINGS)
def test_streaming_gives_what_the_whole_gives_for_every_chunking(tiny_codec, settings):
    codec = tiny_codec(**settings)
    pixels = pixels_for(codec)
    latents = codec.encode(pixels)
    whole = codec.reconstruct(codec.denormalise(latents))
    assert latents.shape[2:] == codec.latent_size(*pixels.shape[2:])
    assert whole.shape == pixels.shape
    assert latents.std() > 0.1
    assert whole.std() > 0.1
    found = list(chunkings(LATENT_FRAMES))
    assert len(found) == 8
    for chunks in found:
        frames = [1 + codec.stride_t * (chunks[0] - 1), *(codec.stride_t * n for n in chunks[1:])]
        encoded = list(codec.encode_stream(pixels.split(frames, dim=2)))
        assert [x.shape[2] for x in encoded] == chunks
        torch.testing.assert_close(torch.cat(encoded, dim=2), latents, atol=1e-5, rtol=0)
        decoded = list(codec.decode_stream(latents.split(chunks, dim=2)))
        assert [x.shape[2] for x in decoded] == frames
        torch.testing.assert_close(torch.cat(decoded, dim=2), whole.clamp(-1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_latent_and_no_pixel_sees_a_later_frame(tiny_codec, settings):
    codec = tiny_codec(**settings)
    pixels = pixels_for(codec)
    latents = codec.encode(pixels)
    for latent in range(LATENT_FRAMES - 1):
        changed = pixels.clone()
        changed[:, :, 1 + codec.stride_t * latent :] = 1.0
        again = codec.encode(changed)
        torch.testing.assert_close(again[:, :, : latent + 1], latents[:, :, : latent + 1], atol=1e-6, rtol=0)
        assert (again[:, :, latent + 1 :] - latents[:, :, latent + 1 :]).abs().max() > 1e-2
    raw = codec.denormalise(latents)
    whole = codec.reconstruct(raw)
    for latent in range(1, LATENT_FRAMES):
        changed = raw.clone()
        changed[:, :, latent:] += 1.0
        again, before = codec.reconstruct(changed), 1 + codec.stride_t * (latent - 1)
        torch.testing.assert_close(again[:, :, :before], whole[:, :, :before], atol=1e-6, rtol=0)
        assert (again[:, :, before:] - whole[:, :, before:]).abs().max() > 1e-2


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_image_is_a_video_of_one_frame(tiny_codec, settings):
    codec = tiny_codec(**settings)
    pixels = pixels_for(codec)
    image, latents = codec.encode(pixels[:, :, :1]), codec.encode(pixels)
    assert image.shape[2] == 1
    torch.testing.assert_close(image, latents[:, :, :1], atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.decode(image), codec.decode(latents)[:, :, :1], atol=1e-5, rtol=0)


def test_two_streams_of_one_codec_do_not_mix(tiny_codec):
    codec = tiny_codec()
    clips = [pixels_for(codec, seed=seed) for seed in (1, 2)]
    streams = [codec.encode_stream(clip.split([5, 4, 4], dim=2)) for clip in clips]
    chunks = list(zip(*streams, strict=True))  # one chunk of each in turn
    for clip, own in zip(clips, zip(*chunks, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(own, dim=2), codec.encode(clip), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((4, 8, 8), r"4 frames do not fit this codec, which takes 1 \+ 4n: use 1 or 5"),
        ((12, 8, 8), "12 frames do not fit .*use 9 or 13"),
        ((0, 8, 8), "0 frames do not fit .*use 1 or 5"),
        ((5, 10, 8), "10x8 pixels do not fit this codec: use multiples of 4"),
        ((5, 8, 9), "8x9 pixels do not fit this codec: use multiples of 4"),
        ((5, 0, 8), "0x8 pixels do not fit this codec: use multiples of 4"),
        ((5, 8, -4), "8x-4 pixels do not fit this codec: use multiples of 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny_codec, size, says):
    codec = tiny_codec()
    with pytest.raises(InputError, match=says):
        codec.latent_size(*size)
    if min(size) >= 0:
        with pytest.raises(InputError, match=says):
            codec.encode(torch.zeros(1, 3, *size))


def test_chunks_that_do_not_fit_are_refused(tiny_codec):
    codec = tiny_codec()
    with pytest.raises(InputError, match="4 frames do not fit"):
        list(codec.encode_stream([torch.zeros(1, 3, 4, 8, 8)]))
    with pytest.raises(InputError, match="do not fit"):
        list(codec.encode_stream([torch.zeros(1, 3, 5, 8, 8), torch.zeros(1, 3, 5, 8, 8)]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoder_blocks": (1, 1)}, "widths|blocks|stage|length"),
        ({"strides": ((3, 2), (1, 1))}, "stride"),
        ({"noise": 0.0}, "noise is 0.0"),
        ({"patch": 0}, "patch 0 must be at least 1"),
        ({"kernel": (1, 2, 2)}, r"kernel \[1, 2, 2\] odd"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny_codec, settings, says):
    with pytest.raises(InputError, match=says):
        tiny_codec(**settings)


def test_normalise_and_denormalise_are_inverse_and_per_channel(tiny_codec):
    codec = tiny_codec()
    raw = torch.randn(2, 4, 2, 3, 3)
    expected = (raw - codec.latent_mean.view(4, 1, 1, 1)) / codec.latent_std.view(4, 1, 1, 1)
    torch.testing.assert_close(codec.normalise(raw), expected)
    torch.testing.assert_close(codec.denormalise(codec.normalise(raw)), raw)


def test_a_primed_codec_is_its_linear_code():
    torch.manual_seed(0)
    codec = NativeCodec(4, 2, (6, 8, 8), (0, 1, 1), (1, 0, 1), ((2, 2), (2, 1)))
    pixels = pixels_for(codec)
    codec.prime([pixels])
    posterior = codec.posterior(pixels)
    assert torch.equal(posterior.mean, codec.linear.encode(pixels, None))
    assert torch.equal(codec.reconstruct(posterior.mean), codec.linear.decode(posterior.mean, None))
    assert posterior.logvar.exp().sqrt().unique().item() == pytest.approx(codec.settings["noise"])


def test_the_training_pass_reaches_every_weight(tiny_codec):
    codec = tiny_codec().requires_grad_(True)
    pixels = pixels_for(codec)
    again, posterior = codec(pixels, Draws(0))
    ((again - pixels).square().mean() + posterior.kl().mean()).backward()
    assert [name for name, p in codec.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_kl_is_that_of_two_normals():
    mean, logvar = torch.randn(3, 2, 2, 3, 4), torch.randn(3, 2, 2, 3, 4)
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    own = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(own, unit).flatten(1).mean(1)
    torch.testing.assert_close(Posterior(mean, logvar).kl(), expected)
    assert Posterior(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1)).kl().item() == 0


def test_samples_have_the_mean_and_the_spread_of_the_posterior():
    size = (1, 2, 1, 200, 200)
    mean = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1, 1).expand(size)
    logvar = torch.tensor([0.5, -3.0]).view(1, 2, 1, 1, 1).expand(size)
    sample = Posterior(mean, logvar).sample(Draws(0))
    torch.testing.assert_close(sample.mean((0, 2, 3, 4)), torch.tensor([1.0, -2.0]), atol=0.02, rtol=0)
    spread = sample.std((0, 2, 3, 4)).log() * 2
    torch.testing.assert_close(spread, torch.tensor([0.5, -3.0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("encoder_blocks", [None, (0, 1, 1)], ids=["linear", "network"])
def test_noise_is_the_deviation_that_the_decoder_meets_first(tiny_codec, encoder_blocks):
    codec = tiny_codec(fresh=True, encoder_blocks=encoder_blocks, noise=0.3)
    pixels = pixels_for(codec)[:1].expand(64, -1, -1, -1, -1)
    posterior = codec.posterior(pixels)
    drawn = posterior.sample(Draws(0)) - posterior.mean
    assert drawn.std().item() == pytest.approx(0.3, rel=0.03)


def test_a_linear_encoder_lets_every_clip_meet_a_share_of_the_noise(tiny_codec):
    codec = tiny_codec(encoder_blocks=None, noise=0.3)
    pixels = pixels_for(codec)[:1].expand(64, -1, -1, -1, -1)
    posterior = codec.posterior(pixels)
    met = codec.disturbed(posterior, Draws(0)) - posterior.mean
    shares = met.flatten(1).std(1) / 0.3
    assert shares.min() < 0.1
    assert 0.4 < shares.mean() < 0.6
    assert 0.9 < shares.max() < 1.2


def test_a_network_that_knows_its_spread_is_met_with_all_of_it(tiny_codec):
    codec = tiny_codec(encoder_blocks=(0, 1, 1), noise=0.3)
    posterior = codec.posterior(pixels_for(codec))
    one, other = (Draws(0) for _ in range(2))
    assert torch.equal(codec.disturbed(posterior, one), posterior.sample(other))
