"""A run folder: everything a run left, enough to sample from it or to repeat it."""

import difflib
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import vdit
from vdit.train.lock import LOCK
from vdit.types import InputError
from vdit.weights.files import ASIDE, TRIAL, disk_refusal, write_whole, writing_error

__all__ = ["RunFolder", "steps_of"]

CARRIED_OUT = (
    "out",
    "parallel",
    "pace",
    "data.workers",
    "data.max_unreadable",
    "loop.save_every",
    "loop.keep",
    "loop.keep_every",
    "loop.background",
    "loop.leap",
)
"""What a configuration says of how a run is carried out, which what it learns does not depend on."""

COPIED = ("task.init_args.codec", "task.init_args.cache")
"""Folders that may be elsewhere by now: the run has a copy of one, and finds the other's files by content."""

OF_FILES = ("vdit.data.folder.FolderSource", "vdit.data.listing.ListSource")
"""Sources whose clips a record knows one by one: of their settings, only the cut decides what they are."""


@dataclass(frozen=True)
class RunFolder:
    """Where things are in a run.

    Attributes:
        path: the folder itself, as given.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def codec(self) -> Path:
        """The codec: in a codec's run what it exported, in a flow run a copy of the one it uses."""
        return self.path / "codec"

    @property
    def start(self) -> Path:
        """The codec that a codec's run began with, where it began with one."""
        return self.path / "start"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def sessions(self) -> Path:
        """When the run was worked on."""
        return self.path / "sessions.json"

    @property
    def left_out(self) -> Path:
        """What the last start did not use of files, rows and captions."""
        return self.path / "left_out.json"

    @property
    def clips(self) -> Path:
        """Which clips the run counts."""
        return self.path / "clips.jsonl"

    @property
    def unreadable(self) -> Path:
        """Which of them it does without."""
        return self.path / "unreadable.json"

    @property
    def spikes(self) -> Path:
        """What was seen where the loss leapt."""
        return self.path / "spikes"

    @property
    def provenance(self) -> Path:
        """What made the run."""
        return self.path / "provenance.json"

    @property
    def began_with(self) -> Mapping[str, Any]:
        """The run, step and content whose weights this run began with; nothing where these were drawn."""
        return json.loads(self.provenance.read_text()).get("start", {}) if self.provenance.is_file() else {}

    def note_start(self, facts: Mapping[str, Any]) -> None:
        """Write down what the run began with. Raises InputError where the disk is full."""
        said = json.loads(self.provenance.read_text()) if self.provenance.is_file() else provenance()
        try:
            write_whole(self.provenance, [json.dumps({**said, "start": dict(facts)}, indent=1), "\n"])
        except OSError as error:
            raise disk_refusal(error, self.path, "The run was not begun.") from error

    def check(self, config: str, recorded: str | None = None, accept: bool = False) -> str | None:
        """Refuse what `claim` does, and leave nothing. The configuration that stands here, if one does.

        With `accept`, any clips will do.
        """
        if (error := writing_error(self.path)) is not None:
            raise disk_refusal(error, self.path, "Give another --out.")
        if self.config.is_file():
            theirs = recorded if recorded is not None else self.config.read_text()
            known = self.clips.is_file()
            more = max(0, steps_of(config) - steps_of(theirs))  # a run may go on longer than it was to
            was, now = _decisive(theirs, known, accept, more), _decisive(config, known, accept)
            if was != now:
                lines = difflib.unified_diff(
                    was.splitlines(), now.splitlines(), "the run", "this command", lineterm="", n=0
                )
                raise InputError(
                    f"{self.path} is the folder of another configuration:\n"
                    + "\n".join(f"  {line}" for line in list(lines)[2:])
                    + "\nGive another --out, or the run's own configuration to continue it."
                )
            return theirs
        if self.path.is_dir() and any(map(self._foreign, self.path.iterdir())):
            raise InputError(f"{self.path} is not empty and holds no run: give another --out")
        return None

    def claim(self, config: str, recorded: str | None = None, accept: bool = False) -> bool:
        """Make this the folder of the run that `config` describes; true if it was so before.

        How a run is carried out (`CARRIED_OUT`) may change from one session to the next; the folder tells the
        newest.

        Args:
            config: the resolved configuration.
            recorded: the one that stands in the folder, where it must be told anew: settings that it does not
                know because they came later have their defaults.
            accept: whether any clips will do.

        Raises:
            InputError: it belongs to another configuration, and the message shows the difference; it holds
                something else; the disk is full.
        """
        theirs = self.check(config, recorded, accept)
        if theirs is not None:
            if theirs != config:
                write_whole(self.config, [config])
            return True
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.config, [config])
            write_whole(self.provenance, [json.dumps(provenance(), indent=1), "\n"])
        except OSError as error:
            raise disk_refusal(error, self.path, "The run was not begun.") from error
        return False

    def _foreign(self, there: Path) -> bool:
        """Whether something is neither of a start, which may have been killed, nor of a trial of the disk."""
        return there.name != LOCK and not there.name.startswith((ASIDE, TRIAL))

    def require(self) -> "RunFolder":
        """This folder, if a run lives in it. Raises InputError otherwise."""
        if not self.config.is_file():
            raise InputError(
                f"{self.path} holds no run: it has no {self.config.name}; train one with train.py"
            )
        return self


def steps_of(config: str) -> int:
    """The steps of the whole run that a resolved configuration describes; 0 where it says none."""
    return (yaml.safe_load(config).get("loop") or {}).get("steps", 0)


def _decisive(config: str, known: bool, accept: bool, more: int = 0) -> str:
    """A configuration without what may change while a run goes on.

    Args:
        config: all of it.
        known: whether a record says which clips the run has, wherever they lie.
        accept: whether any clips will do.
        more: steps that are added to it.
    """
    values = yaml.safe_load(config)
    if more:
        values.setdefault("loop", {})["steps"] = steps_of(config) + more
    for name in (*CARRIED_OUT, *COPIED, *(["data"] if accept else [])):
        *above, key = name.split(".")
        table = values
        for part in above:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and (name not in COPIED or isinstance(table.get(key), str)):
            table.pop(key, None)
    return yaml.safe_dump(_without_places(values) if known else values, sort_keys=False)


def _without_places(node: Any) -> Any:
    """Settings in which sources of files say nothing but their cut."""
    if isinstance(node, list):
        return [_without_places(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_path") in OF_FILES:
        return {"class_path": "files", "init_args": {"cut": node.get("init_args", {}).get("cut")}}
    return {key: _without_places(value) for key, value in node.items()}


def provenance() -> dict[str, Any]:
    """The command and the versions behind a run."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "vdit": vdit.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
    }
