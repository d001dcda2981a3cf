"""Clips longer than a model's own: windows that each go on from the end of the one before, and shots."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vdit.flow.solver import Progress
from vdit.sample.sampler import NOTHING, Sampler, Wish
from vdit.types import Cameras, Given, InputError, Repaint, on_tensors

__all__ = ["Shot", "Window", "Windows", "check_windows", "window_clips"]


@dataclass(frozen=True)
class Shot:
    """What a clip shows from some frame on.

    Attributes:
        prompt: what to show.
        cut: whether it begins anew, or goes on from the frames before it.
    """

    prompt: str
    cut: bool = False


@dataclass(frozen=True)
class Window:
    """A part of a clip that is sampled at once.

    Attributes:
        start: its first frame.
        kept: so many frames it begins with are there already.
        end: the frame after its last one that is used.
        prompt: of the shot that it belongs to; None for the clip's own.
    """

    start: int
    kept: int
    end: int
    prompt: str | None


@dataclass(frozen=True)
class Windows:
    """How a long clip is cut into windows.

    Attributes:
        length: frames of the whole clip.
        overlap: frames that a window begins with of those before it; 1 and whole latent frames keep best.
        noise: sigma of the noise that these are shown with, so that small errors of theirs are not taken for
            the truth (as SkyReels-V2 has it; Chen et al. 2025).
        shots: what is shown from which frame on, in place of the clip's own prompt.

    Raises:
        InputError: numbers that cannot be.
    """

    length: int
    overlap: int = 5
    noise: float = 0.0
    shots: Mapping[int, Shot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"--length {self.length} must be at least 1 frame")
        if self.overlap < 1:
            raise InputError(f"--overlap {self.overlap} must be at least 1")
        if not 0 <= self.noise < 1:
            raise InputError(f"--overlap-noise {self.noise} must lie in [0, 1)")
        if beyond := sorted(at for at in self.shots if not 0 <= at < self.length):
            raise InputError(
                f"a shot at frame {beyond[0]} lies beyond the clip, whose frames are 0 to {self.length - 1}: "
                "move it, or ask for a longer --length"
            )

    def of(self, frames: int) -> list[Window]:
        """The windows, by a model of so many frames. Raises InputError where the overlap leaves none new."""
        found: list[Window] = []
        at, anew, prompt = 0, 0, None
        while at < self.length:
            if at in self.shots:
                prompt = self.shots[at].prompt
                anew = at if self.shots[at].cut else anew
            if (kept := min(self.overlap, at - anew)) >= frames:
                raise InputError(
                    f"--overlap {self.overlap} must be below {frames}, the frames that are sampled at once"
                )
            start = at - kept
            ends = [start + frames, self.length, *(shot for shot in self.shots if shot > at)]
            found.append(Window(start, kept, min(ends), prompt))
            at = min(ends)
        return found


def window_clips(
    sampler: Sampler,
    windows: Windows,
    prompts: Sequence[str],
    seeds: Sequence[int],
    progress: Progress = lambda done, total: None,
    wish: Wish = NOTHING,
) -> Iterator[Float[Tensor, "3 t h w"]]:
    """Pixels in [-1, 1] of clips of any length, one by one: each can be written before the next is decoded.

    Args:
        sampler: of the model; its clips are the windows.
        windows: how long, and what when.
        prompts: of each clip where no shot has another.
        seeds: one a clip; the window that begins at frame n adds n to it.
        progress: called with (solver steps done, in all).
        wish: for all frames of the clip; of what a window takes over nothing is looked at again.

    Raises:
        InputError: as `Sampler.sample`; windows after the first need a model that takes given frames.
    """
    check_windows(sampler, windows, wish)
    frames, parts = sampler.sampling.frames, windows.of(sampler.sampling.frames)
    pixels = torch.zeros(len(prompts), 3, 0, sampler.sampling.height, sampler.sampling.width)
    for number, part in enumerate(parts):
        asked = _seen(wish, part, frames, pixels[:, :, part.start :], windows.noise)
        said = prompts if part.prompt is None else [part.prompt] * len(prompts)

        def show(done: int, total: int, before: int = number) -> None:
            progress(before * total + done, len(parts) * total)

        made = sampler.decoded(sampler.latents(said, [seed + part.start for seed in seeds], show, asked))
        whole = (
            torch.cat([before, clip[:, part.kept : part.end - part.start]], dim=1)
            for before, clip in zip(pixels, made, strict=True)
        )
        if part is parts[-1]:
            yield from whole
        else:
            pixels = torch.stack(list(whole))


def check_windows(sampler: Sampler, windows: Windows, wish: Wish = NOTHING) -> None:
    """Refuse, before the first part is sampled, what any of them would be refused for.

    Args:
        sampler: of the model; its weights are not looked at.
        windows: how long, and what when.
        wish: of one clip, or of some.

    Raises:
        InputError: naming the part that the model cannot sample.
    """
    frames, sampling = sampler.sampling.frames, sampler.sampling
    for part in windows.of(frames):
        before = torch.zeros(1, 3, part.kept, sampling.height, sampling.width)
        asked = _seen(on_tensors(wish, lambda each: each[:1]), part, frames, before, windows.noise)
        if not part.kept:
            sampler.check(asked)
            continue
        remedy = f"ask for {frames} frames at most, or cut"
        if all("given" not in condition.reads for condition in sampler.denoiser.featured):
            raise InputError(
                f"a clip of {windows.length} frames is sampled in parts that begin with frames of the one "
                f"before, and this model takes none: {remedy}"
            )
        try:
            sampler.check(asked)
        except InputError as error:
            one = "" if windows.overlap == 1 else ", or for an --overlap of 1"
            raise InputError(
                f"a clip of {windows.length} frames is sampled in parts of {frames}, and that from frame "
                f"{part.start} on begins with frames of the one before: {error}; {remedy}{one}"
            ) from error


def _seen(wish: Wish, part: Window, frames: int, before: Float[Tensor, "b 3 k h w"], noise: float) -> Wish:
    """What of a wish falls into a window, and the frames that it begins with."""
    given = _given(wish.given, part, frames, before, noise)
    cameras = wish.cameras
    if cameras is not None:  # the last stays beyond the end
        at = torch.arange(part.start, part.start + frames).clamp(max=cameras.c2w.shape[1] - 1)
        cameras = Cameras(cameras.intrinsics[:, at], cameras.c2w[:, at])
    repaint = wish.repaint
    if repaint is not None:  # likewise
        at = torch.arange(part.start, part.start + frames).clamp(max=repaint.pixels.shape[2] - 1)
        repaint = Repaint(repaint.pixels[:, :, at], repaint.mask)
    return Wish(given, cameras, wish.references, wish.motion, repaint)


def _given(
    given: Given | None, part: Window, frames: int, before: Float[Tensor, "b 3 k h w"], noise: float
) -> Given | None:
    if given is not None:
        some = slice(part.start, part.end)
        rest = frames - (part.end - part.start)
        pixels = F.pad(given.pixels[:, :, some], (0, 0, 0, 0, 0, rest))
        given = replace(given, pixels=pixels, mask=F.pad(given.mask[:, some], (0, rest)))
    if not part.kept:
        return given if given is not None and given.mask.any() else None
    if given is None:
        b, _, _, h, w = before.shape
        given = Given(torch.zeros(b, 3, frames, h, w), torch.zeros(b, frames, dtype=torch.bool))
    pixels, mask = given.pixels.clone(), given.mask.clone()
    pixels[:, :, : part.kept], mask[:, : part.kept] = before[:, :, : part.kept], True
    return Given(pixels, mask, noise)
