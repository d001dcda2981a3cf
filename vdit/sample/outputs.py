"""What one call of sampling leaves in a folder: clips, a contact sheet, and the settings that made them.

Nothing of an earlier call is replaced. All files of a call share a number, which the first has none of:
`000007.mp4`, `sheet.png` and `settings.json`, then `000007_2.mp4`, `sheet_2.png` and `settings_2.json`.
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vdit.sample.sheet import SHEET_CLIPS, contact_sheet, frames_shown
from vdit.sample.video_file import write_video, written_aside

__all__ = ["Outputs", "facts_of"]


class Outputs:
    """The files of one call, each written as soon as it can be. Use it in a `with` block.

    The names are taken when the block begins: another call that begins meanwhile takes others. When it ends,
    however it ends, sheet and settings cover the clips that are there; where there is none, nothing is left.

    Args:
        folder: made where it is not there.
        seeds: of the clips, which are named by them.
        settings: what is to be kept of the call; `clips` is added.

    Attributes:
        clips: what has been written, as `settings.json` has it.
    """

    def __init__(self, folder: Path, seeds: Sequence[int], settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, dict(settings)
        self.stems = _stems(seeds)
        self.clips: list[dict[str, Any]] = []
        self._shown: list[tuple[Tensor, str]] = []
        self._suffix = ""
        self._new: list[Path] = []

    def __enter__(self) -> "Outputs":
        self._new = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        for call in count(1):
            self._suffix = "" if call == 1 else f"_{call}"
            names = [f"{stem}{self._suffix}.mp4" for stem in self.stems]
            if any((self.folder / name).exists() for name in (*names, self._sheet.name)):
                continue
            try:
                self._settings.touch(exist_ok=False)  # of several calls one makes it, the others go on
            except FileExistsError:
                continue
            break
        return self

    def __exit__(self, *_: object) -> None:
        if self.clips:
            contact_sheet(self._shown, self._sheet)
            self._keep()
            return
        self._settings.unlink(missing_ok=True)
        for folder in self._new:
            if not any(folder.iterdir()):
                folder.rmdir()

    def add(
        self,
        index: int,
        pixels: Float[Tensor, "c t h w"],
        fps: float | Fraction,
        clip: Mapping[str, Any],
    ) -> None:
        """Write a clip, and tell of it in the settings.

        Args:
            index: its place among the seeds.
            pixels: in [-1, 1].
            fps: frames per second.
            clip: what is to be kept of it alone: `prompt`, `seed`, and maybe more.
        """
        name = f"{self.stems[index]}{self._suffix}.mp4"
        write_video(self.folder / name, pixels, fps, facts_of(self.settings, clip))
        self.clips.append({"file": name, **clip})
        if len(self._shown) < SHEET_CLIPS:  # all of a long clip is more than a sheet shows
            self._shown.append((pixels[:, frames_shown(pixels.shape[1])], str(clip["prompt"])))
        self._keep()

    @property
    def _settings(self) -> Path:
        return self.folder / f"settings{self._suffix}.json"

    @property
    def _sheet(self) -> Path:
        return self.folder / f"sheet{self._suffix}.png"

    def _keep(self) -> None:
        told = {**self.settings, "clips": self.clips}
        with written_aside(self._settings) as aside:
            text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
            aside.write_text(text, encoding="utf-8", errors="backslashreplace")  # names may be no UTF-8


def facts_of(settings: Mapping[str, Any], clip: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of a clip, as texts: all settings of its call, and what is its own.

    `command` is that of this clip alone. The table `sampling` stands there setting by setting; what is a
    table or a list otherwise, as JSON. The notes of a clip follow those of its call.
    """
    told = {**settings, **settings["sampling"], **clip}
    del told["sampling"]
    told["command"] += " " + shlex.join([f"--prompt={clip['prompt']}", f"--seed={clip['seed']}"])
    told["notes"] = [*settings.get("notes", ()), *clip.get("notes", ())]
    return {name: _text(value) for name, value in told.items() if value not in ({}, [])}


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _stems(seeds: Sequence[int]) -> list[str]:
    """A name for each clip: its seed, and a number where others have the same."""
    there: Counter[int] = Counter()
    found = []
    for seed in seeds:
        there[seed] += 1
        found.append(f"{seed:06d}" if there[seed] == 1 else f"{seed:06d}-{there[seed]}")
    return found
