"""Frames that are known: clean latents where the codec has some, clean images beside the clip elsewhere."""

import hashlib
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import GivenFrames, Known
from vdit.conditions.shown import WAYS, latent_place
from vdit.draws import Draws
from vdit.types import Appended, ClipBatch, DenoiserInput, Given, InputError, Slot, onto

__all__ = ["Frames", "KnownFrames", "Place"]

Place = Literal["none", "first", "last", "first_and_last", "keyframes", "prefix"]

BESIDE: frozenset[Place] = frozenset({"last", "first_and_last", "keyframes"})
"""Places that need images beside the clip."""

MOST = 3
"""Keyframes of a clip in training."""


class Frames(NamedTuple):
    """Frames of clips as the codec sees them.

    Attributes:
        latents: of whole clips, or of their beginning.
        known: which latent frames are known.
        images: other frames, each as an image.
        noise: what known latents are shown with.
        level: its sigma.
    """

    latents: Float[Tensor, "b c t h w"]
    known: Bool[Tensor, "b t"]
    images: Appended
    noise: Float[Tensor, "b c t h w"]
    level: Float[Tensor, "b"]


class KnownFrames(GivenFrames[Frames]):
    """Frames that are known. Their sigma is 0, they carry no loss, and the clip keeps them.

    A codec that is causal in time has latents of a clip's beginning that depend on nothing else: those are
    put in place of the noise (as Wan 2.2 TI2V-5B has it for the first frame). Any other frame shares its
    latents with neighbours that nobody knows yet; it is shown as an image beside the clip, at its place in
    time: as tokens (as LTX-Video has it) or as channels (as Open-Sora 2.0 has it).

    Args:
        places: which frames training gives, and how often; the weights need not sum to 1. Of `keyframes`
            there are one to three anywhere, of a `prefix` all frames up to some latent frame.
        drop: probability of training a clip without any, beside that of `none`.
        stride_t: pixel frames of a latent frame.
        every: of how many frames training can choose one as an image, beside the last; images are kept with
            the latents of a clip.
        shown_as: how images are shown beside the clip: as tokens of their own, or as channels of the latents
            that they share (of two images in one latent frame, the later).
        noise: greatest sigma of noise that training shows known latents with, so that a clip can go on from
            frames that are not perfect; of each clip it is drawn evenly.

    Raises:
        InputError: unknown places, or weights that are none.
    """

    name = "known_frames"

    def __init__(
        self,
        places: Mapping[str, float] | None = None,
        drop: float = 0.0,
        stride_t: int = 4,
        every: int = 4,
        shown_as: Literal["tokens", "channels"] = "tokens",
        noise: float = 0.0,
    ) -> None:
        super().__init__(drop)
        self.places = dict(places or {"first": 1.0})
        if unknown := self.places.keys() - set(get_args(Place)):
            raise InputError(
                f"no place {sorted(unknown)[0]!r} for frames: choose {', '.join(get_args(Place))}"
            )
        if min(self.places.values()) < 0 or not sum(self.places.values()):
            raise InputError("the weights of places must be 0 or more, and one of them above it")
        if stride_t < 1 or every < 1:
            raise InputError(f"stride_t {stride_t} and every {every} must be at least 1")
        if not 0 <= noise < 1:
            raise InputError(f"noise {noise} of known frames must lie in [0, 1)")
        self.stride_t, self.every, self.noise = stride_t, every, noise
        self.beside = bool(BESIDE & self.places.keys())
        self.shown_as = WAYS[shown_as]
        self.slots = frozenset({Slot.KNOWN, self.shown_as.slot} if self.beside else {Slot.KNOWN})
        self.usual = max(self.places, key=lambda place: (place != "none", self.places[place]))

    @property
    def fingerprint(self) -> str:
        said = f"{type(self).__name__} {self.every if self.beside else None} {self.stride_t}"
        return hashlib.sha256(said.encode()).hexdigest()

    def given(self, pixels: Float[Tensor, "b 3 t h w"]) -> Given:
        """The frames of whole clips that training gives most often."""
        return Given.of(pixels, self.frames_at(self.usual, pixels.shape[2]))

    def frames_at(self, place: str, t: int) -> list[int]:
        """The frames of a place in a clip of t frames; of those that training draws, the middle."""
        half, candidates = self.stride_t * ((t - 1) // self.stride_t // 2), self.candidates(t)
        found: dict[str, list[int]] = {
            "none": [],
            "first": [0],
            "last": [t - 1],
            "first_and_last": [0, t - 1],
            "keyframes": candidates[(len(candidates) - 1) // 2 : (len(candidates) + 1) // 2],
            "prefix": list(range(1 + half)),
        }
        return found[place]

    def check(self, batch: ClipBatch) -> None:
        if batch.given is None:  # without any it is a model of text alone
            return
        at = batch.given.mask[0].nonzero()[:, 0].tolist()
        whole = len(self.beginning(batch.given.mask)[0].nonzero())
        if not self.beside and (at != list(range(whole)) or (whole > 1 and "prefix" not in self.places)):
            what = "the beginning of a clip" if "prefix" in self.places else "a first frame (--first)"
            raise InputError(f"this model is to be given {what}, and got frames {at}")

    def beginning(self, mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Frames that are given with all before them, up to a whole latent frame."""
        unbroken = mask.long().cumprod(1)
        length = unbroken.sum(1, keepdim=True)  # b 1
        whole = torch.where(length > 0, 1 + (length - 1) // self.stride_t * self.stride_t, 0)
        return torch.arange(mask.shape[1], device=mask.device) < whole

    def candidates(self, t: int) -> list[int]:
        """Frames that training can show as images."""
        return sorted({*range(self.every, t, self.every), t - 1}) if self.beside and t > 1 else []

    def feature(self, batch: ClipBatch, codec: TiledCodec) -> Float[Tensor, "b c_mask k h w"]:
        """Of clips in training, latents of the first frame and of all candidates, each as an image alone.

        Where frames are given, latents of the beginning and of every frame, zeros where there is none; before
        the channels, whether there is one.
        """
        if codec.codec.stride_t != self.stride_t:
            raise InputError(
                f"known frames count {self.stride_t} frames a latent, and the codec {codec.codec.stride_t}: "
                f"give the condition stride_t {codec.codec.stride_t}"
            )
        if batch.given is None and batch.pixels is not None:
            at = [0, *self.candidates(batch.pixels.shape[2])]
            everywhere = batch.pixels.new_ones(len(batch), at[-1] + 1, dtype=torch.bool)
            return _masked(*_images(batch.pixels, everywhere, at, codec))
        assert batch.latents is not None  # of the size asked for
        frames = 1 + self.stride_t * (batch.latents.shape[2] - 1)
        if batch.given is None:  # as in training, and nothing is there
            b, c, _, h, w = batch.latents.shape
            return batch.latents.new_zeros(b, 1 + c, 1 + len(self.candidates(frames)), h, w)
        start = self.beginning(batch.given.mask)
        latents = torch.zeros_like(batch.latents)
        if length := int(start.sum(1).max()):
            known = _coded(batch.given.pixels[:, :, :length], codec)
            latents[:, :, : known.shape[2]] = known
        images, there = _images(batch.given.pixels, batch.given.mask & ~start, list(range(frames)), codec)
        mask = torch.cat([start[:, :: self.stride_t], there], dim=1)
        return _masked(torch.cat([latents, images], dim=2), mask)

    def feature_size(self, codec: VideoCodec, t: int, h: int, w: int) -> tuple[int, ...]:
        _, *size = codec.latent_size(t, h, w)
        return 1 + codec.latent_channels, 1 + len(self.candidates(t)), *size

    @property
    def most_images(self) -> int:
        """Images beside a clip in training, at most."""
        return 0 if not self.beside else MOST if "keyframes" in self.places else 1

    def signal(self, batch: ClipBatch) -> Frames:
        whole = self.whole(batch)
        if batch.given is None:
            return self.shown(whole, [self.frames_at(self.usual, self.length(whole))] * len(batch))
        assert batch.latents is not None  # noise
        level = torch.full_like(whole.level, batch.given.noise)
        return whole._replace(images=_packed(whole.images), noise=batch.latents, level=level)

    def whole(self, batch: ClipBatch) -> Frames:
        """All that there is to choose from: what was given, or in training all of the clip."""
        feature = onto(batch.features[self.name], batch.fps.device)
        assert batch.latents is not None  # in sampling noise: it has the size
        t = batch.latents.shape[2]
        frames = 1 + self.stride_t * (t - 1)
        mask, values = feature[:, 0, :, 0, 0] > 0.5, feature[:, 1:]
        if batch.given is not None:
            latents, known, at = values[:, :, :t], mask[:, :t], range(frames)
            values, mask = values[:, :, t:], mask[:, t:]
        else:
            latents = torch.cat([values[:, :, :1], batch.latents[:, :, 1:]], dim=2)
            known, at = mask[:, :1].expand(-1, t), self.candidates(frames)
            values, mask = values[:, :, 1:], mask[:, 1:]
        place = torch.tensor(at, dtype=values.dtype, device=values.device)
        place = latent_place(place, self.stride_t)
        images = rearrange(values, "b c k h w -> b k c h w")
        images = Appended(images, place.expand(len(mask), -1), mask)
        return Frames(latents, known, images, torch.zeros_like(latents), latents.new_zeros(len(mask)))

    def length(self, frames: Frames) -> int:
        """Pixel frames of the clips."""
        return 1 + self.stride_t * (frames.latents.shape[2] - 1)

    def drawn(self, batch: ClipBatch, draws: Draws) -> Frames:
        whole = self.whole(batch)
        numbers = draws.uniform(len(batch), 3 + MOST).tolist()
        t = self.length(whole)
        if self.noise:
            level = self.noise * onto(draws.uniform(len(batch)), whole.level.device).to(whole.level)
            whole = whole._replace(noise=draws.normal(whole.latents.shape, whole.latents), level=level)
        return self.shown(whole, [self.frames_drawn(row, t) for row in numbers])

    def frames_drawn(self, numbers: Sequence[float], t: int) -> list[int]:
        """Frames of a clip of t frames by numbers in [0, 1): whether, which place, how many, and where."""
        dropped, which, many, *where = numbers
        names, weights = list(self.places), list(self.places.values())
        bounds = [share / sum(weights) for share in accumulate(weights)]
        place = "none" if dropped < self.drop else names[min(bisect(bounds, which), len(names) - 1)]
        if place == "keyframes":
            candidates = self.candidates(t)
            return [candidates[int(x * len(candidates))] for x in where[: 1 + int(many * MOST)]]
        if place == "prefix":  # not the whole clip
            return list(range(1 + self.stride_t * int(many * ((t - 1) // self.stride_t))))
        return self.frames_at(place, t)

    def shown(self, whole: Frames, frames: list[list[int]]) -> Frames:
        """Some frames of each clip in training, of those that there are."""
        t = self.length(whole)
        mask = torch.zeros(len(frames), t, dtype=torch.bool)
        for row, some in zip(mask, frames, strict=True):
            row[some] = True
        mask = onto(mask, whole.known.device)
        start = self.beginning(mask)
        beside = (mask & ~start)[:, self.candidates(t)]
        images = whole.images._replace(mask=whole.images.mask & beside)
        return whole._replace(known=whole.known & start[:, :: self.stride_t], images=_packed(images))

    def null(self, signal: Frames) -> Frames:
        nothing = signal.images._replace(mask=torch.zeros_like(signal.images.mask))
        return signal._replace(known=torch.zeros_like(signal.known), images=nothing)

    def mix(self, signal: Frames, null: Frames, hidden: Bool[Tensor, "b"]) -> Frames:
        seen = ~hidden[:, None]
        images = signal.images._replace(mask=signal.images.mask & seen)
        return signal._replace(known=signal.known & seen, images=images)

    def stack(self, signals: Sequence[Frames]) -> Frames:
        images = zip(*(signal.images for signal in signals), strict=True)
        return Frames(
            torch.cat([signal.latents for signal in signals]),
            torch.cat([signal.known for signal in signals]),
            Appended(*(torch.cat(parts) for parts in images)),
            torch.cat([signal.noise for signal in signals]),
            torch.cat([signal.level for signal in signals]),
        )

    def known(self, signal: Frames) -> Known:
        return Known(signal.latents, rearrange(signal.known, "b t -> b 1 t 1 1").to(signal.latents.dtype))

    def fill(self, inputs: DenoiserInput, signal: Frames) -> DenoiserInput:
        mask, level = self.known(signal).mask, rearrange(signal.level, "b -> b 1 1 1")
        shown = torch.lerp(signal.latents, signal.noise, level[..., None])
        sigma = torch.lerp(inputs.sigma, level, rearrange(mask, "b 1 t 1 1 -> b t 1 1"))
        inputs = replace(inputs, latents=torch.lerp(inputs.latents, shown, mask), sigma=sigma)
        return self.shown_as.fill(inputs, signal.images, self.stride_t)


def _coded(pixels: Float[Tensor, "b 3 t h w"], codec: TiledCodec) -> Float[Tensor, "b c t h w"]:
    """Latents of a beginning, and of its first frame as an image alone, which is what sampling is given.

    A codec that looks at statistics of the whole clip has others for it.
    """
    first = codec.encode(pixels[:, :, :1])
    return first if pixels.shape[2] == 1 else torch.cat([first, codec.encode(pixels)[:, :, 1:]], dim=2)


def _images(
    pixels: Float[Tensor, "b 3 t h w"], mask: Bool[Tensor, "b t"], at: list[int], codec: TiledCodec
) -> tuple[Float[Tensor, "b c k h w"], Bool[Tensor, "b k"]]:
    """Latents of frames, each coded alone; zeros of those that are not there in any clip."""
    there = mask[:, at]
    some = [i for i, yes in enumerate(there.any(0).tolist()) if yes]
    b = len(pixels)
    if not some:
        one = codec.encode(pixels[:, :, :1])
        return one.new_zeros(b, one.shape[1], len(at), *one.shape[3:]), there
    chosen = rearrange(pixels[:, :, [at[i] for i in some]], "b c k h w -> (b k) c 1 h w")
    coded = rearrange(codec.encode(chosen), "(b k) c 1 h w -> b c k h w", b=b)
    latents = coded.new_zeros(b, coded.shape[1], len(at), *coded.shape[3:])
    latents[:, :, some] = coded
    return latents, there


def _masked(values: Float[Tensor, "b c k h w"], mask: Bool[Tensor, "b k"]) -> Float[Tensor, "b c_mask k h w"]:
    plane = rearrange(mask, "b k -> b 1 k 1 1").to(values.dtype).expand(-1, 1, -1, *values.shape[3:])
    return torch.cat([plane, values], dim=1)


def _packed(images: Appended) -> Appended:
    """Without places that no clip of the batch uses."""
    most = int(images.mask.sum(1).max()) if images.mask.numel() else 0
    order = images.mask.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    rows = torch.arange(len(order), device=order.device)[:, None]
    return Appended(images.latents[rows, order], images.frame[rows, order], images.mask[rows, order])
