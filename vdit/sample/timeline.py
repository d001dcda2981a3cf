"""What stands at which time of a clip that is sampled: images, the end of another clip, the camera.

One description for the command line and for files:

    first: a.png                 an image at frame 0
    last: b.png                  an image at the last frame
    loop: true                   the image of frame 0 at the last frame too
    keyframes: {24: c.png}       images anywhere; below 0 counts from the end
    continue: clip.mp4           the clip begins with the end of this one
    overlap: 5                   so many frames of it
    camera: pan left 20deg, then dolly in 0.5
    camera_file: poses.txt       poses instead, a line a frame, or JSON
    references: [mika.png]       images of who or what shall be in the clip, no frames of it
    length: 65                   frames of a clip that is longer than what is sampled at once; each part
                                 begins with the last `overlap` frames of the one before
    overlap_noise: 0.02          sigma of the noise that these frames are shown with
    repaint: clip.mp4            the clip is this one, but for
    mask: mask.png               what is white in this image, which is painted anew
    shots: {33: a red cube}      another prompt from some frame on, which goes on from the frames before it;
                                 with {33: {prompt: a red cube, cut: true}} it begins anew
    motion: 0.2                  how much moves: shorter sides of the frame a second, the mean over all of it
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from vdit.camera.path import read_path
from vdit.camera.pose_file import read_poses
from vdit.data.decode import ABSENT
from vdit.data.given import (
    cropped,
    read_end,
    read_frame,
    read_mask,
    read_reference,
    read_start,
    resampled,
    unshown,
)
from vdit.sample.sampler import Sampling, Wish
from vdit.sample.windows import Shot, Windows
from vdit.types import Cameras, Given, InputError, References, Repaint
from vdit.yaml_file import read_yaml

__all__ = ["Timeline", "read_timeline"]

FILES = ("first", "last", "continued", "camera_file", "repaint", "mask")
"""Attributes of a timeline that name one file each."""


@dataclass(frozen=True)
class Timeline:
    """See the head of this file; paths are as given, `continued` is `continue` there."""

    first: str | None = None
    last: str | None = None
    loop: bool = False
    keyframes: Mapping[int, str] = field(default_factory=dict)
    continued: str | None = None
    overlap: int = 5
    camera: str | None = None
    camera_file: str | None = None
    references: Sequence[str] = ()
    motion: float | None = None
    length: int | None = None
    overlap_noise: float = 0.0
    shots: Mapping[int, Shot] = field(default_factory=dict)
    repaint: str | None = None
    mask: str | None = None

    def check(self) -> None:
        """Refuse what no model could be asked for, before one is loaded.

        Raises:
            InputError: a file that is not there, words that are no camera path, wishes that exclude or lack
                each other.
        """
        if self.loop and self.first is None:
            raise InputError("--loop ends a clip with its first frame: give one with --first")
        if (self.repaint is None) != (self.mask is None):
            raise InputError("--repaint VIDEO and --mask IMAGE go together: give both")
        if self.motion is not None and not (math.isfinite(self.motion) and self.motion >= 0):
            raise InputError(f"--motion {self.motion} must be a number, 0 or more")
        if self.camera is not None and self.camera_file is not None:
            raise InputError("a --camera and a --camera-file are two paths: give one of them")
        if self.camera is not None:
            read_path(self.camera)
        for file in self.files():
            if not Path(file).is_file():
                raise InputError(f"{file}: {ABSENT}")

    def windows(self, sampling: Sampling) -> Windows:
        """How the clip is cut into parts that are sampled at once. Raises InputError where it cannot be."""
        length = sampling.frames if self.length is None else self.length
        return Windows(length, self.overlap, self.overlap_noise, self.shots)

    def wish(self, sampling: Sampling) -> Wish:
        """What a sampler is asked for besides the prompt, for all frames of one clip.

        Raises:
            InputError: what `check` refuses; files that cannot be read; frames beyond the end, or given
                twice.
        """
        self.check()
        sampling = replace(sampling, frames=sampling.frames if self.length is None else self.length)
        size = (sampling.height, sampling.width)
        images = [read_reference(Path(file), *size) for file in self.references]
        references = References.of([torch.stack(images)]) if images else None
        motion = None if self.motion is None else torch.tensor([float(self.motion)])
        return Wish(
            self.given(sampling), self.cameras(sampling), references, motion, self.repainted(sampling)
        )

    def notes(self, sampling: Sampling) -> list[str]:
        """What a clip does not show of the files that are given, in sentences.

        Raises:
            InputError: as `wish`.
        """
        size = (sampling.height, sampling.width)
        videos = [file for file in (self.continued, self.repaint) if file is not None]
        pictures = [self.first, self.last, *self.keyframes.values(), *videos, self.mask]
        found = [cropped(Path(file), *size) for file in dict.fromkeys(pictures) if file is not None]
        found += [resampled(Path(file), sampling.fps) for file in videos]
        frames = sampling.frames if self.length is None else self.length
        if self.repaint is not None:
            found.append(unshown(Path(self.repaint), frames, sampling.fps))
        if self.camera_file is not None:
            poses = len(read_poses(Path(self.camera_file), *size).c2w)
            if poses > frames:
                found.append(
                    f"{self.camera_file} has {poses} poses, and the clip {frames} frames: "
                    f"the last {poses - frames} are not followed"
                )
        return [note for note in found if note]

    def files(self) -> list[str]:
        """All files that are given, as they are named."""
        one = [getattr(self, name) for name in FILES]
        return [file for file in (*one, *self.keyframes.values(), *self.references) if file is not None]

    def repainted(self, sampling: Sampling) -> Repaint | None:
        """The video that is painted anew in part."""
        if self.repaint is None or self.mask is None:
            return None
        size = (sampling.height, sampling.width)
        pixels = read_start(Path(self.repaint), sampling.frames, sampling.fps, *size)
        return Repaint(pixels[None], read_mask(Path(self.mask), *size)[None])

    def images(self, frames: int) -> dict[int, str]:
        """The image of each frame that has one. Raises InputError where one has two, or beyond the clip."""
        said = [(0, self.first), (frames - 1, self.last), (frames - 1, self.first if self.loop else None)]
        said += list(self.keyframes.items())
        found: dict[int, str] = {}
        for asked, file in said:
            if file is None:
                continue
            at = asked + frames if asked < 0 else asked
            if not 0 <= at < frames:
                raise InputError(
                    f"a keyframe at frame {asked} lies beyond the clip, whose frames are 0 to {frames - 1}: "
                    "move it, or ask for more --frames"
                )
            if found.setdefault(at, file) != file:
                raise InputError(f"frame {at} is given twice: {found[at]} and {file}")
        return found

    def given(self, sampling: Sampling) -> Given | None:
        """The frames that are given."""
        size, images = (sampling.height, sampling.width), self.images(sampling.frames)
        if not images and self.continued is None:
            return None
        pixels = torch.zeros(1, 3, sampling.frames, *size)
        mask = torch.zeros(1, sampling.frames, dtype=torch.bool)
        if self.continued is not None:
            if not 1 <= self.overlap < sampling.frames:
                limit = f"below {sampling.frames}, the frames of a clip"
                raise InputError(f"--overlap {self.overlap} must be at least 1, and {limit}")
            if inside := sorted(at for at in images if at < self.overlap):
                both = f"{images[inside[0]]} and the end of {self.continued}"
                raise InputError(f"frame {inside[0]} is given twice: {both}")
            pixels[0, :, : self.overlap] = read_end(Path(self.continued), self.overlap, sampling.fps, *size)
            mask[0, : self.overlap] = True
        for at, file in images.items():
            pixels[0, :, at] = read_frame(Path(file), *size)
            mask[0, at] = True
        return Given(pixels, mask, self.overlap_noise)

    def cameras(self, sampling: Sampling) -> Cameras | None:
        """The cameras, one a frame."""
        frames, size = sampling.frames, (sampling.height, sampling.width)
        if self.camera is not None:
            path = read_path(self.camera).cameras(frames, sampling.fps, *size)
        elif self.camera_file is not None:
            path = read_poses(Path(self.camera_file), *size)
        else:
            return None
        if len(path.c2w) < frames:
            raise InputError(
                f"{self.camera_file} has {len(path.c2w)} poses, and the clip {frames} frames: "
                "give more poses, or fewer --frames"
            )
        return Cameras(path.intrinsics[None, :frames], path.c2w[None, :frames])

    def said(self) -> dict[str, Any]:
        """What is asked, as a file would have it."""
        values = {name: getattr(self, attribute) for name, attribute in _names().items()}
        if self.continued is None and self.length is None:
            del values["overlap"]
        values["shots"] = {at: asdict(shot) for at, shot in self.shots.items()}
        return {name: value for name, value in values.items() if value not in (None, False, {}, (), 0.0)}


def read_timeline(file: Path) -> Timeline:
    """A timeline of a YAML file; paths in it are beside it.

    Raises:
        InputError: the file is missing, or says something that is not known.
    """
    said = read_yaml(file, "timeline")
    known = _names()
    if not isinstance(said, dict):
        raise InputError(f"timeline {file} is no table: known are {', '.join(known)}")
    if unknown := sorted(said.keys() - known.keys(), key=str):
        raise InputError(f"timeline {file} says {unknown[0]!r}: known are {', '.join(known)}")
    found = {known[name]: value for name, value in said.items() if value is not None}

    def beside(path: Any) -> str:
        if not isinstance(path, str):
            raise InputError(f"timeline {file}: {path!r} is no path")
        return str(file.parent / path)

    for name in FILES:
        if name in found:
            found[name] = beside(found[name])
    references = found.get("references", [])
    if not isinstance(references, list) or (not references and "references" in found):
        raise InputError(f"timeline {file}: references are a list of images, of one at least")
    frames = found.get("keyframes", {})
    if not isinstance(frames, dict) or not all(isinstance(at, int) for at in frames):
        raise InputError(f"timeline {file}: keyframes are a table from frame numbers to images")
    kinds = {"loop": bool, "overlap": int, "camera": str, "motion": (int, float), "length": int}
    for name, kind in {**kinds, "overlap_noise": (int, float)}.items():
        if name in found and not _is(found[name], kind):
            raise InputError(f"timeline {file}: {name} is {found[name]!r}, and no {_called(kind)}")
    return replace(
        Timeline(**found),
        keyframes={at: beside(image) for at, image in frames.items()},
        references=tuple(beside(image) for image in references),
        shots=_shots(file, found.get("shots", {})),
    )


def _shots(file: Path, said: Any) -> dict[int, Shot]:
    """Shots as a file has them. Raises InputError where they are none."""
    refused = InputError(
        f"timeline {file}: shots are a table from frame numbers to prompts, or to {{prompt: text, cut: true}}"
    )
    if not isinstance(said, dict) or not all(isinstance(at, int) for at in said):
        raise refused
    shots = {}
    for at, shot in said.items():
        told = {"prompt": shot} if isinstance(shot, str) else shot
        if not isinstance(told, dict) or not {"prompt"} <= told.keys() <= {"prompt", "cut"}:
            raise refused
        prompt, cut = told["prompt"], told.get("cut", False)
        if not isinstance(prompt, str) or not isinstance(cut, bool):
            raise refused
        shots[at] = Shot(prompt, cut)
    return shots


def _is(value: Any, kind: Any) -> bool:
    """To Python `true` is a whole number too; to a person it is none."""
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _called(kind: Any) -> str:
    return "number" if isinstance(kind, tuple) else kind.__name__


def _names() -> dict[str, str]:
    """The words of a file, and the attributes that they stand for."""
    return {("continue" if part.name == "continued" else part.name): part.name for part in fields(Timeline)}
