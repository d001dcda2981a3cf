"""What crosses a boundary between packages: clips, batches, tokens and the input of a denoiser.

Axes, everywhere in this project:

    b batch    c channels    t frames    h height    w width    n tokens    d width of a token

`t` is always the frame axis. Diffusion time is `sigma`: 0 is data, 1 is noise. Pixels lie in [-1, 1];
latents have zero mean and unit variance per channel. Video tensors are `b c t h w`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Appended",
    "Cameras",
    "Clip",
    "ClipBatch",
    "ClipFormat",
    "ClipSource",
    "DenoiserInput",
    "Given",
    "InputError",
    "Kept",
    "References",
    "Repaint",
    "Slot",
    "Tokens",
    "on_tensors",
    "onto",
]


Value = TypeVar("Value")


class InputError(ValueError):
    """What a user gave cannot be used; the message names the value, the limit and the remedy.

    Command lines print the message alone and leave with status 2; a traceback would only hide it.
    """


@dataclass(frozen=True)
class Cameras:
    """One pinhole camera a frame, OpenCV axes (x right, y down, z forward).

    Attributes:
        intrinsics: fx, fy, cx, cy; fx and cx divided by the width, fy and cy by the height.
        c2w: camera-to-world poses in metres; the pose of frame 0 is the identity.
    """

    intrinsics: Float[Tensor, "*b t 4"]
    c2w: Float[Tensor, "*b t 4 4"]

    def at(self, frames: Sequence[int]) -> "Cameras":
        """Those of some frames, told from the first of them."""
        c2w = self.c2w[..., list(frames), :, :]
        first = torch.linalg.inv(c2w[..., :1, :, :].double())
        return Cameras(self.intrinsics[..., list(frames), :].float(), (first @ c2w.double()).float())


@dataclass(frozen=True)
class Clip:
    """One video with what is said about it.

    Attributes:
        id: stable name of the clip, unique within its source.
        pixels: RGB frames in [-1, 1].
        fps: frames per second.
        caption: the text that describes it; may be empty.
        cameras: one a frame, where they are known.
        references: images of who or what is in it, maybe none; or None where there are none to learn from.
    """

    id: str
    pixels: Float[Tensor, "c t h w"]
    fps: float
    caption: str
    cameras: Cameras | None = None
    references: Float[Tensor, "k c h w"] | None = None


@dataclass(frozen=True)
class ClipFormat:
    """Length, size and rate of a clip.

    Attributes:
        frames: of the clip.
        height: pixels.
        width: pixels.
        fps: frames per second.
    """

    frames: int
    height: int
    width: int
    fps: float

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width} at {self.fps:g} fps"


@runtime_checkable
class ClipSource(Protocol):
    """A finite, indexed set of clips: a folder, a list, shards, or a seed.

    `self[i]` is a pure function of `i`. `fingerprint` changes whenever any pixel or caption could:
    caches are addressed by it.
    """

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    def caption(self, index: int) -> str:
        """The caption of clip `index`, without decoding or drawing its pixels."""
        ...

    def format(self, index: int) -> ClipFormat:
        """Length, size and rate of clip `index`, likewise."""
        ...

    def video(self, index: int) -> str:
        """What clip `index` is cut out of, by content, likewise: clips of one video have it in common."""
        ...


@dataclass(frozen=True)
class Given:
    """Frames of clips that are given, whatever the rest will be.

    Attributes:
        pixels: RGB in [-1, 1]; 0 in frames that are not given.
        mask: True where a frame is given.
        noise: sigma of the noise that a beginning is shown with; 0 is as it is.
    """

    pixels: Float[Tensor, "b c t h w"]
    mask: Bool[Tensor, "b t"]
    noise: float = 0.0

    @classmethod
    def of(cls, pixels: Float[Tensor, "b c t h w"], frames: Sequence[int]) -> "Given":
        """Some frames of whole clips; below 0 counts from the end."""
        mask = torch.zeros(pixels.shape[0], pixels.shape[2], dtype=torch.bool, device=pixels.device)
        mask[:, list(frames)] = True
        return cls(pixels * mask[:, None, :, None, None], mask)


@dataclass(frozen=True)
class References:
    """Images of who or what shall be in clips, which are no frames of them.

    Attributes:
        pixels: RGB in [-1, 1].
        mask: True where there is an image.
    """

    pixels: Float[Tensor, "b k c h w"]
    mask: Bool[Tensor, "b k"]

    @classmethod
    def of(cls, images: Sequence[Float[Tensor, "k c h w"]]) -> "References":
        """Those of several clips, which may have different numbers of them."""
        most = max(len(each) for each in images)
        pixels = torch.zeros(len(images), most, *images[0].shape[1:])
        mask = torch.zeros(len(images), most, dtype=torch.bool)
        for row, there, each in zip(pixels, mask, images, strict=True):
            row[: len(each)], there[: len(each)] = each, True
        return cls(pixels, mask)


@dataclass(frozen=True)
class Repaint:
    """Videos of which a part of the picture is painted anew.

    Attributes:
        pixels: RGB in [-1, 1].
        mask: True where they are painted anew, in all frames.
    """

    pixels: Float[Tensor, "b c t h w"]
    mask: Bool[Tensor, "b h w"]


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one shape, stacked. One of `pixels` and `latents` is present, or both.

    Attributes:
        ids: one name a clip, for messages that must say which clip was at fault.
        captions: one text a clip.
        fps: frames per second of each clip.
        pixels: RGB in [-1, 1].
        latents: normalised codec latents.
        given: frames that are given; those of `pixels` that a condition is about, where it is None.
        cameras: one a frame of each clip.
        references: images of who or what is in each clip.
        motion: how much is asked to move in each clip.
        repaint: videos to be painted anew in part.
        features: what frozen networks made of the clips for a condition, by its name.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    fps: Float[Tensor, "b"]
    pixels: Float[Tensor, "b c t h w"] | None = None
    latents: Float[Tensor, "b c_latent t_latent h_latent w_latent"] | None = None
    given: Given | None = None
    cameras: Cameras | None = None
    references: References | None = None
    motion: Float[Tensor, "b"] | None = None
    repaint: Repaint | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "ClipBatch":
        """The same batch with its tensors on `device`."""
        if device == self.fps.device:  # where all of them are
            return self
        return on_tensors(self, lambda tensor: onto(tensor, device))


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """The same tensor on `device`. Nobody waits for it to come from the CPU, out of memory that is pinned."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def on_tensors(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    """The same with every tensor changed, in tuples, dataclasses and tables however deep."""
    if isinstance(value, Tensor):
        return cast(Value, change(value))
    if isinstance(value, str):  # of which a batch has many, at every step
        return value
    if isinstance(value, tuple):
        parts = [on_tensors(part, change) for part in value]
        return cast(Value, tuple(parts) if type(value) is tuple else type(value)(*parts))
    if isinstance(value, Mapping):
        return cast(Value, {name: on_tensors(part, change) for name, part in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: on_tensors(getattr(value, part.name), change) for part in fields(value)}
        return cast(Value, replace(value, **parts))
    return value


class Tokens(NamedTuple):
    """A padded batch of token sequences.

    A named tuple and not a dataclass, as everything that goes through the forward of a wrapped module
    must be: DeepSpeed looks for tensors in tuples and tables, and passes a dataclass by.

    Attributes:
        values: the tokens; what stands where `mask` is False is undefined.
        mask: True where a token is real.
    """

    values: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


class Appended(NamedTuple):
    """Clean images beside the clip: tokens of their own, at places of their own in time, without a result.

    Attributes:
        latents: each a latent frame of the clip's height and width.
        frame: where each stands on the axis of latent frames; between two of them, or before the first.
        mask: True where there is one; what stands elsewhere is undefined.
    """

    latents: Float[Tensor, "b k c h w"]
    frame: Float[Tensor, "b k"]
    mask: Bool[Tensor, "b k"]


class Kept:
    """What does not change from one evaluation of a backbone to the next, computed at the first.

    It belongs to one set of signals: whoever evaluates many times with the same ones makes one and passes it
    along.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """What `compute` gave when this key was first asked for."""
        if key not in self._values:
            self._values[key] = compute()
        return self._values[key]


class Slot(StrEnum):
    """The places of a `DenoiserInput` that a condition may fill and a backbone may accept."""

    TEXT = "text"
    KNOWN = "known"
    TOKENS = "tokens"
    CHANNELS = "channels"
    IMAGE_TOKENS = "image_tokens"
    ADDED = "added"
    CONTEXT = "context"
    VECTORS = "vectors"


@dataclass(frozen=True)
class DenoiserInput:
    """Everything a backbone sees in one evaluation.

    Attributes:
        latents: x_sigma, the noisy latents; where `sigma` is 0 they are clean.
        sigma: diffusion time in [0, 1] of every latent position. The last three axes may each be 1:
            `b 1 1 1` is one sigma a clip, `b t 1 1` one a latent frame.
        text: slot `text`: tokens of the prompt, to be attended to.
        appended: slot `tokens`: clean images that are attended to.
        channels: slot `channels`: what is joined to the latents before they are cut into patches.
        image_tokens: slot `image_tokens`: tokens of given images; they have keys and values of their own.
        added: slot `added`: what is said of every pixel and added to the patches once, such as rays.
        context: slot `context`: latents of a second video, which has blocks of its own.
        vectors: slot `vectors`: by name, numbers said of a clip, or of each latent frame of it, that join the
            embedding of sigma and so reach every block; zeros say nothing.
        kept: what earlier evaluations with the same signals left, or None to compute all of it.
    """

    latents: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, "b #t #h #w"]
    text: Tokens | None = None
    appended: Appended | None = None
    channels: Float[Tensor, "b c_extra t h w"] | None = None
    image_tokens: Float[Tensor, "b k d_image"] | None = None
    added: Float[Tensor, "b c_added t h_pixel w_pixel"] | None = None
    context: Float[Tensor, "b c_context t h w"] | None = None
    vectors: Mapping[str, Float[Tensor, "b #t d_vector"]] = field(default_factory=dict)
    kept: Kept | None = None

    def with_images(self, images: Appended) -> "DenoiserInput":
        """The same with more clean images beside the clip."""
        if not images.mask.shape[1]:
            return self
        if self.appended is None:
            return replace(self, appended=images)
        both = zip(self.appended, images, strict=True)
        return replace(self, appended=Appended(*(torch.cat(parts, dim=1) for parts in both)))

    def clips(self, rows: Int[Tensor, "n"]) -> "DenoiserInput":
        """The inputs of some clips of the batch, every field of them."""

        def take(value: Any) -> Any:
            if isinstance(value, tuple):  # a named one, of tensors
                return type(value)(*(part[rows] for part in value))
            if isinstance(value, Kept):  # of all clips together
                return value if len(rows) == len(self.latents) else None
            if isinstance(value, Mapping):
                return {name: part[rows] for name, part in value.items()}
            return None if value is None else value[rows]

        return DenoiserInput(**{part.name: take(getattr(self, part.name)) for part in fields(self)})
