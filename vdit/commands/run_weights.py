"""The weights of the transformers of a text-to-video run, and what it began with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vdit.adapters.lora import LoRA, merged
from vdit.commands.trained import saved_checkpoint
from vdit.config import recorded_run, task_arguments
from vdit.models.experts import ROLES
from vdit.releases.take_in import READ
from vdit.train.checkpoint import Checkpoint
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start
from vdit.types import InputError
from vdit.weights.foreign import only_prefix
from vdit.weights.source import WeightSource, open_weights

__all__ = ["RunWeights"]

CONDITIONS = "conditions."


@dataclass(frozen=True)
class RunWeights:
    """The averaged weights of a run at its last checkpoint. Roles are `backbone`, or those of two experts.

    Attributes:
        folder: of the run.
        arguments: of its task, as the resolved configuration has them.
    """

    folder: RunFolder
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path) -> "RunWeights":
        """Of the run in `path`. Raises InputError where there is none, or one of a codec."""
        folder = RunFolder(path).require()
        arguments = task_arguments(recorded_run(folder.config))
        if "backbone" not in arguments:
            raise InputError(f"{path} trained a codec, which is no model: give its folder {folder.codec}")
        return cls(folder, arguments)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The last one. Raises InputError where there is none, or a damaged one."""
        checkpoint = saved_checkpoint(self.folder, None)
        checkpoint.verify()
        return checkpoint

    @cached_property
    def parts(self) -> Mapping[str, Mapping[str, Any]]:
        """What describes each transformer: its class and arguments."""
        backbone = self.arguments["backbone"]
        experts = {role: backbone["init_args"].get(role) for role in ROLES}
        return experts if all(experts.values()) else {"backbone": backbone}

    @property
    def adapter(self) -> LoRA | None:
        """What the run trained in place of the weights; None where it trained these."""
        settings = self.arguments["adapter"]
        return None if settings is None else LoRA(**settings)

    def imported(self, role: str) -> Path | None:
        """The folder that a transformer was read from; None where its weights were drawn at random."""
        part = self.parts[role]
        return Path(part["init_args"]["folder"]) if part["class_path"] == READ else None

    def trained(self, role: str) -> WeightSource:
        """What the run trained of a transformer: its weights, or their updates by a LoRA."""
        return only_prefix(self._average, self._prefix(role))

    def whole(self, role: str) -> WeightSource:
        """All weights of a transformer: a LoRA is added to what it is an update of.

        Raises:
            InputError: that is not there any more, or was drawn at random.
        """
        own = self.trained(role)
        if self.adapter is None:
            return own
        return merged(self._base(role), dict(own.tensors()), self.adapter.scale)

    @cached_property
    def _average(self) -> WeightSource:
        average = open_weights(self.checkpoint.average)
        if own := [name for name in average.entries() if name.startswith(CONDITIONS)]:
            raise InputError(
                f"{self.folder.path} trained conditions too ({own[0]}), for which a model has no place"
            )
        return average

    def _prefix(self, role: str) -> str:
        """How names of the weights of a transformer begin."""
        return "backbone." if role == "backbone" else f"backbone.{role}."

    def _base(self, role: str) -> WeightSource:
        """The weights that a LoRA is an update of."""
        if (start := self.arguments["start_from"]) is not None:
            return Start.of(start).part(self._prefix(role))
        if (folder := self.imported(role)) is None:
            raise InputError(
                "the LoRA is of weights that were drawn at random: there is no model to add it to"
            )
        return open_weights(folder)
