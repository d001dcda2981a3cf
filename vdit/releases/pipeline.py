"""The files by which diffusers opens a folder as a pipeline: index, scheduler, image processor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdit.releases.found import read_table
from vdit.text.clip_vision import MEAN, STD

__all__ = ["CONFIGS", "SCHEDULERS", "VERSION", "Pipeline", "Schedule", "write_pipeline"]

Table = dict[str, Any]

INDEX, SCHEDULER, PROCESSOR = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "image_processor/preprocessor_config.json",
)
CONFIGS = (INDEX, SCHEDULER, PROCESSOR)
"""What a release in the layout of diffusers has besides its parts."""

VERSION = "0.35.0"
"""The first diffusers that reads all of it: `boundary_ratio`, `transformer_2` and `expand_timesteps`."""

_TRAINED: Table = {"num_train_timesteps": 1000}
_FLOW: Table = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
_MULTISTEP = _TRAINED | _FLOW | {"solver_order": 2, "lower_order_final": True, "timestep_spacing": "linspace"}
SCHEDULERS: Mapping[str, tuple[str, str, Table]] = {
    "unipc": (
        "UniPCMultistepScheduler",
        "flow_shift",
        {**_MULTISTEP, "solver_type": "bh2", "predict_x0": True, "disable_corrector": []},
    ),
    "dpm++": (
        "DPMSolverMultistepScheduler",
        "flow_shift",
        {**_MULTISTEP, "algorithm_type": "dpmsolver++", "solver_type": "midpoint"},
    ),
    "euler": ("FlowMatchEulerDiscreteScheduler", "shift", _TRAINED),
    "heun": ("FlowMatchHeunDiscreteScheduler", "shift", _TRAINED),
}
"""By solver: the class in diffusers, what it calls the shift, and its other settings."""

SENTENCEPIECE = ("T5Tokenizer", "T5TokenizerFast")


@dataclass(frozen=True)
class Schedule:
    """How a model is sampled, as far as a scheduler knows.

    Attributes:
        solver: one of `SCHEDULERS`.
        shift: moves the steps towards noise.
    """

    solver: str
    shift: float


@dataclass(frozen=True)
class Pipeline:
    """What of a model stands in the files of its pipeline.

    Attributes:
        transformer: class of its transformers in diffusers.
        experts: whether there are two.
        extra_channels: of its transformers beside the latents: those of given frames.
        image_side: pixel rows of what its image encoder sees; None where it has none.
        boundary: sigma from which the first of two experts is asked; None where there is one.
        sigma_by_token: whether the first latent frame can be known, with a sigma of its own.
        schedule: of its sampling.
    """

    transformer: str
    experts: bool
    extra_channels: int
    image_side: int | None
    boundary: float | None
    sigma_by_token: bool
    schedule: Schedule


def write_pipeline(pipeline: Pipeline, out: Path, published: Path) -> None:
    """Write the files of a pipeline beside its parts.

    What the release that a model came from says of its pipeline is kept, but for what would no longer give
    the videos of this model.

    Args:
        pipeline: the model's.
        out: the folder, with all other parts in it.
        published: a folder with the release's own `CONFIGS`, or nothing.
    """
    name, shift, settings = SCHEDULERS[pipeline.schedule.solver]
    scheduler = {"_class_name": name, "_diffusers_version": VERSION, **settings}
    _write(out / SCHEDULER, scheduler | _own(published / SCHEDULER, name) | {shift: pipeline.schedule.shift})
    if pipeline.image_side is not None:
        _write(out / PROCESSOR, _own(published / PROCESSOR, None) | _processor(pipeline.image_side))
    index = _index(pipeline, out, name)
    # Of the release's own no part that is absent: one that is named keeps the folder from being opened.
    kept = {key: value for key, value in _own(published / INDEX, None).items() if _opens(key, value, out)}
    decided = {key: index[key] for key in ("boundary_ratio", "scheduler")}
    _write(out / INDEX, index | kept | decided)


def _index(pipeline: Pipeline, out: Path, scheduler: str) -> Table:
    vace = pipeline.transformer == "WanVACETransformer3DModel"
    images = pipeline.extra_channels > 0
    kind = "WanVACEPipeline" if vace else "WanImageToVideoPipeline" if images else "WanPipeline"
    transformer = ["diffusers", pipeline.transformer]
    encoder = pipeline.image_side is not None
    index: Table = {"_class_name": kind, "_diffusers_version": VERSION, "boundary_ratio": pipeline.boundary}
    if not vace:
        index["expand_timesteps"] = pipeline.sigma_by_token
    if images:
        index["image_encoder"] = ["transformers", "CLIPVisionModel"] if encoder else [None, None]
        index["image_processor"] = ["transformers", "CLIPImageProcessor"] if encoder else [None, None]
    return index | {
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", _tokenizer(out / "tokenizer")],
        "transformer": transformer,
        "transformer_2": transformer if pipeline.experts else [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }


def _processor(side: int) -> Table:
    """The whole picture, brought to the square that the encoder sees: the authors cut nothing off."""
    square = {"height": side, "width": side}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": square,
        "resample": 3,  # bicubic
        "do_center_crop": False,
        "crop_size": square,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def _tokenizer(folder: Path) -> str:
    """The class of a tokenizer as the index names it."""
    file = folder / "tokenizer_config.json"
    name = read_table(file).get("tokenizer_class") if file.is_file() else None
    # Published as the fast one, whichever of the two its own file names.
    if name is None or name in SENTENCEPIECE:
        return "T5TokenizerFast"
    return "PreTrainedTokenizerFast" if name == "TokenizersBackend" else str(name)


def _own(file: Path, name: str | None) -> Table:
    """A release's own table, unless it is about another class than `name`."""
    table = read_table(file) if file.is_file() else {}
    return table if name in (None, table.get("_class_name")) else {}


def _opens(key: str, value: object, out: Path) -> bool:
    return not isinstance(value, list) or value == [None, None] or (out / key).is_dir()


def _write(file: Path, table: Table) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
