"""Long clips: which parts, what each is told, and that one part alone is what a sampler gives."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_wan import Letters, backbone

from vdit.camera.moves import CameraMove, trajectory
from vdit.codecs.wan.codec import WanCodec
from vdit.conditions.caption import Caption
from vdit.conditions.known import KnownFrames
from vdit.denoiser import Denoiser
from vdit.sample.sampler import Sampler, Sampling, Wish
from vdit.sample.windows import Shot, Window, Windows, window_clips
from vdit.types import Cameras, Given, InputError


def sampler(*conditions: Any) -> Sampler:
    torch.manual_seed(1)
    codec = WanCodec(latent_channels=4, encoder_width=4, decoder_width=4).requires_grad_(False).eval()
    sampling = Sampling(frames=9, height=16, width=16, steps=2, guidance=1.0)
    return Sampler(Denoiser(backbone(), [Caption(Letters()), *conditions]), codec, sampling)


def sampled(*arguments: Any, **more: Any) -> torch.Tensor:
    """All clips of `window_clips`."""
    return torch.stack(list(window_clips(*arguments, **more)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a sampler was asked for each time it solved."""
    calls: list[tuple[Any, ...]] = []
    latents = Sampler.latents

    def watched(self: Sampler, prompts: Any, seeds: Any, progress: Any, wish: Wish) -> torch.Tensor:
        calls.append((list(prompts), list(seeds), wish))
        return latents(self, prompts, seeds, progress, wish)

    monkeypatch.setattr(Sampler, "latents", watched)
    return calls


@pytest.mark.parametrize(
    ("windows", "parts"),
    [
        (Windows(9), [Window(0, 0, 9, None)]),
        (Windows(7), [Window(0, 0, 7, None)]),
        (Windows(15), [Window(0, 0, 9, None), Window(4, 5, 13, None), Window(8, 5, 15, None)]),
        (Windows(17, overlap=1), [Window(0, 0, 9, None), Window(8, 1, 17, None)]),
        (
            Windows(14, shots={6: Shot("b"), 10: Shot("c", cut=True)}),
            [Window(0, 0, 6, None), Window(1, 5, 10, "b"), Window(10, 0, 14, "c")],
        ),
        (
            Windows(12, shots={0: Shot("a"), 2: Shot("b")}),
            [Window(0, 0, 2, "a"), Window(0, 2, 9, "b"), Window(4, 5, 12, "b")],
        ),
    ],
)
def test_a_clip_is_cut_into_parts_that_overlap(windows: Windows, parts: list[Window]):
    found = windows.of(9)
    assert found == parts
    new = [range(part.start + part.kept, part.end) for part in found]
    assert [frame for some in new for frame in some] == list(range(windows.length))


def test_one_part_is_what_the_sampler_gives():
    made = sampler(KnownFrames({"prefix": 1.0}))
    alone = made.sample(["abc", "d"], [3, 4])
    assert torch.equal(sampled(made, Windows(9), ["abc", "d"], [3, 4]), alone)
    assert torch.equal(sampled(made, Windows(6), ["abc", "d"], [3, 4]), alone[:, :, :6])


def test_a_part_begins_with_the_end_of_the_one_before(asked: list[tuple[Any, ...]]):
    made = sampler(KnownFrames({"prefix": 1.0}))
    done: list[tuple[int, int]] = []
    clip = sampled(made, Windows(13), ["abc"], [3], lambda *at: done.append(at))
    assert clip.shape == (1, 3, 13, 16, 16)
    assert torch.equal(clip[:, :, :9], made.sample(["abc"], [3], lambda *at: None, Wish()))
    wish = asked[1][2]
    assert asked[1][:2] == (["abc"], [7])
    assert wish.given.mask.tolist() == [[True] * 5 + [False] * 4]
    assert torch.equal(wish.given.pixels[:, :, :5], clip[:, :, 4:9])
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    other = sampled(made, Windows(13, noise=0.3), ["abc"], [3])
    assert torch.equal(other[:, :, :9], clip[:, :, :9])
    assert not torch.equal(other[:, :, 9:], clip[:, :, 9:])


def test_shots_have_prompts_of_their_own_and_a_cut_begins_anew(asked: list[tuple[Any, ...]]):
    made = sampler(KnownFrames({"prefix": 1.0}))
    shots = {6: Shot("bb"), 10: Shot("c", cut=True)}
    clip = sampled(made, Windows(14, shots=shots), ["abc"], [3])
    assert [prompts for prompts, _, _ in asked] == [["abc"], ["bb"], ["c"]]
    assert asked[1][2].given.mask[0].sum() == 5
    assert asked[2][2].given is None
    assert torch.equal(clip[:, :, 10:], made.sample(["c"], [13], lambda *at: None, Wish())[:, :, :4])


def test_what_stands_when_is_shown_to_the_part_it_falls_into(monkeypatch: pytest.MonkeyPatch):
    made = sampler(KnownFrames({"prefix": 1.0}))
    given = Given(torch.zeros(1, 3, 13, 16, 16), torch.zeros(1, 13, dtype=torch.bool))
    for frame, grey in ((0, 0.1), (6, 0.2), (12, 0.3)):
        given.pixels[:, :, frame], given.mask[:, frame] = grey, True
    path = trajectory(CameraMove("truck left", 1.2), 13, 16, 16)
    wish = Wish(given, Cameras(path.intrinsics[None], path.c2w[None]))
    wishes: list[Any] = []

    def latents(self: Sampler, prompts: Any, seeds: Any, progress: Any, wish: Wish) -> torch.Tensor:
        wishes.append(wish)
        return torch.zeros(1, 4, *self.latent_size)

    monkeypatch.setattr(Sampler, "check", lambda *_: None)  # this model follows no camera
    monkeypatch.setattr(Sampler, "latents", latents)
    monkeypatch.setattr(Sampler, "decoded", lambda self, latents: iter([torch.zeros(3, 9, 16, 16)]))
    sampled(made, Windows(13), ["abc"], [3], wish=wish)
    first, second = wishes
    assert first.given.mask[0].nonzero()[:, 0].tolist() == [0, 6]
    assert second.given.mask[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 8]
    assert (second.given.pixels[0, :, 8] == 0.3).all()
    assert (second.given.pixels[0, :, 2] == 0).all()  # frame 6 as it was sampled
    assert torch.equal(second.cameras.c2w[0], path.c2w[4:13])


def test_what_cannot_be_is_refused():
    with pytest.raises(
        InputError, match=r"a clip of 13 frames is sampled in parts .* and this model takes none"
    ):
        sampled(sampler(), Windows(13), ["abc"], [3])
    cuts = {9: Shot("b", cut=True)}
    assert sampled(sampler(), Windows(13, shots=cuts), ["abc"], [3]).shape[2] == 13
    with pytest.raises(InputError, match="--overlap 9 must be below 9"):
        Windows(30, overlap=9).of(9)
    for wrong in ({"length": 0}, {"length": 9, "overlap": 0}, {"length": 9, "noise": 1.0}):
        with pytest.raises(InputError, match="must"):
            Windows(**wrong)
    with pytest.raises(InputError, match="a shot at frame 9 lies beyond the clip, whose frames are 0 to 8"):
        Windows(9, shots={9: Shot("a")})


def test_noise_on_what_a_clip_goes_on_from_reaches_its_first_part(asked: list[tuple[Any, ...]]):
    made = sampler(KnownFrames({"prefix": 1.0}))
    given = Given(torch.zeros(1, 3, 9, 16, 16), torch.arange(9)[None] < 5, noise=0.3)
    noisy = sampled(made, Windows(9), ["abc"], [3], wish=Wish(given))
    assert asked[0][2].given.noise == 0.3
    clean = sampled(made, Windows(9), ["abc"], [3], wish=Wish(Given(given.pixels, given.mask)))
    assert not torch.equal(noisy, clean)


@pytest.mark.parametrize("places", [{"first": 1.0}, {"prefix": 1.0}])
def test_every_part_is_checked_before_the_first_is_sampled(asked: list[tuple[Any, ...]], places: Any):
    made = sampler(KnownFrames(places))
    given = Given(torch.zeros(1, 3, 13, 16, 16), torch.arange(13)[None] == 12)  # the second part's last frame
    with pytest.raises(InputError, match=r"that from frame 4 on begins with .*, and got frames \[0, 1, 2"):
        sampled(made, Windows(13), ["abc"], [3], wish=Wish(given))
    assert not asked
    tight = Sampler(made.denoiser, made.codec, replace(made.sampling, memory=1e-9))
    with pytest.raises(InputError, match="GiB are too little for this codec"):
        sampled(tight, Windows(9), ["abc"], [3])
    assert not asked


def test_a_model_that_takes_a_first_frame_goes_on_from_one(asked: list[tuple[Any, ...]]):
    made = sampler(KnownFrames({"first": 1.0}))
    with pytest.raises(InputError, match=r"frames \[0, 1, 2, 3, 4\]; ask for 9 .*, or for an --overlap of 1"):
        sampled(made, Windows(13), ["abc"], [3])
    assert not asked
    assert sampled(made, Windows(13, overlap=1), ["abc"], [3]).shape[2] == 13


def test_a_clip_is_there_before_the_next_is_decoded(monkeypatch: pytest.MonkeyPatch):
    made, decoded = sampler(), []
    decode = type(made.codec).reconstruct

    def watched(self: Any, *parts: Any) -> torch.Tensor:
        decoded.append(len(parts[0]))
        return decode(self, *parts)

    monkeypatch.setattr(type(made.codec), "reconstruct", watched)
    clips = window_clips(made, Windows(9), ["a", "b"], [1, 2])
    first, before = next(clips), len(decoded)
    assert set(decoded) == {1}
    assert torch.equal(torch.stack([first, next(clips)]), made.sample(["a", "b"], [1, 2]))
    assert len(decoded) > before
