"""What a run trained as a whole model, whatever it began with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdit.adapters.lora import LoRA, merged
from vdit.commands.trained import saved_checkpoint
from vdit.config import recorded_run, task_arguments
from vdit.models.experts import ROLES
from vdit.releases.own_model import OwnModel
from vdit.releases.take_in import READ
from vdit.train.run_folder import RunFolder
from vdit.train.start import Start
from vdit.types import InputError
from vdit.weights.foreign import only_prefix
from vdit.weights.source import WeightSource, open_weights

__all__ = ["own_model"]

CONDITIONS = "conditions."


def own_model(path: Path) -> OwnModel:
    """The model that the last checkpoint of a run has averaged weights of; a LoRA is added to its base.

    Raises:
        InputError: no run, one of a codec, or a base that is not there any more.
    """
    folder = RunFolder(path).require()
    arguments = task_arguments(recorded_run(folder.config))
    if "backbone" not in arguments:
        raise InputError(f"{path} trained a codec, which is no model: give its folder {folder.codec}")
    checkpoint = saved_checkpoint(folder, None)
    checkpoint.verify()
    average = open_weights(checkpoint.average)
    if own := [name for name in average.entries() if name.startswith(CONDITIONS)]:
        raise InputError(f"{path} trained conditions too ({own[0]}), for which a model has no place")
    weights = {}
    for role, (prefix, part) in _parts(arguments["backbone"]).items():
        weights[role] = only_prefix(average, prefix)
        if arguments["adapter"] is not None:
            base = _base(arguments["start_from"], prefix, part)
            scale = LoRA(**arguments["adapter"]).scale
            weights[role] = merged(base, dict(weights[role].tensors()), scale)
    title = f"Step {checkpoint.step} of the run {path.absolute().name}"
    return OwnModel(title, arguments, weights, folder.codec)


def _parts(backbone: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Of each transformer, by role: how names of its weights begin, and what describes it."""
    experts = {role: backbone["init_args"].get(role) for role in ROLES}
    if all(experts.values()):
        return {role: (f"backbone.{role}.", part) for role, part in experts.items()}
    return {"backbone": ("backbone.", backbone)}


def _base(start_from: Path | None, prefix: str, part: Mapping[str, Any]) -> WeightSource:
    """The weights that a LoRA is an update of."""
    if start_from is not None:
        return Start.of(start_from).part(prefix)
    if part["class_path"] != READ:
        raise InputError("the LoRA is of weights that were drawn at random: there is no model to add it to")
    return open_weights(Path(part["init_args"]["folder"]))
