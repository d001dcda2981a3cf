"""How a release is sampled: by its own settings where it has them, else by the recipe of its authors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vdit.releases.found import Found, read_table
from vdit.releases.pipeline import INDEX, SCHEDULER, SCHEDULERS
from vdit.releases.release import Release
from vdit.types import InputError

__all__ = [
    "CONFIGURATION",
    "RECIPE",
    "RESOLUTIONS",
    "Resolution",
    "Settled",
    "authors_settings",
    "settled_recipe",
]

Resolution = Literal["480p", "720p"]
RESOLUTIONS: Mapping[Resolution, tuple[int, int]] = {"480p": (480, 832), "720p": (720, 1280)}
"""Height and width of each."""

TALL = 700
"""Pixel rows from which a recipe is one of 720p: that of TI2V-5B has 704."""

I2V_SHIFT: Mapping[Resolution, float] = {"480p": 3.0, "720p": 5.0}
"""Of Wan 2.1 I2V, whose two releases have equal shapes."""

BY_NAME: Mapping[str, Resolution] = {"480": "480p", "720": "720p"}
LARGE = 5120
"""Width of the transformers of 14B: smaller ones are for 480p."""

BOTH = ("wan_2_1_i2v", "wan_2_2_t2v_a14b", "wan_2_2_i2v_a14b")
"""Variants that are sampled at either resolution; so are Wan 2.1 T2V and VACE of 14B."""

CLASSES = {name: (solver, shift, wanted) for solver, (name, shift, wanted) in SCHEDULERS.items()}
DEFAULTS = {
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
    "solver_order": 2,
    "lower_order_final": True,
    "predict_x0": True,
    "disable_corrector": [],
    "algorithm_type": "dpmsolver++",
}
"""What a setting of a scheduler is that its file leaves out."""

WITHOUT_EFFECT = {
    "timestep_spacing",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "steps_offset",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "time_shift_type",
    "lambda_min_clipped",
}
"""Settings of a scheduler that say nothing where sigmas are those of a flow without a dynamic shift."""

AUTHORS = {
    "boundary": "boundary",
    "sample_shift": "shift",
    "sample_steps": "steps",
    "sample_fps": "fps",
    "frame_num": "frames",
    "sample_neg_prompt": "negative",
    "sample_solver": "solver",
}
"""What the authors' own configurations (Wan2.2 wan/configs), and options, call settings of sampling."""
WORDS = ("negative", "solver")
"""Those of them that are no numbers."""

RECIPE = "sampling.yaml"
"""All settings of a model in a folder that was given out, for who takes it in again. Those that files of the
layout have a place for come from these."""

CONFIGURATION = "configuration.json"
CONFIGURATIONS = ("config.json", CONFIGURATION)

COMPUTED: Mapping[str, tuple[Any, ...]] = {
    "eps": (1e-6,),
    "qk_norm": (True, "rms_norm_across_heads"),
    "cross_attn_norm": (True,),
    "window_size": ([-1, -1],),
}
"""What a transformer's configuration may say that no shape shows, and what is computed here."""

PIPELINES = {
    "WanPipeline",
    "WanImageToVideoPipeline",
    "WanVACEPipeline",
    "WanVideoToVideoPipeline",
}


@dataclass(frozen=True)
class Settled:
    """How a model is sampled, and why.

    Attributes:
        sampling: the arguments of `Sampling`.
        origins: where a setting is from that is not the recipe's.
        notes: what a user should know of it, in sentences.
    """

    sampling: Mapping[str, Any]
    origins: Mapping[str, str]
    notes: tuple[str, ...]


def settled_recipe(
    release: Release,
    recipe: Mapping[str, Any],
    chosen: bool,
    resolution: Resolution | None,
    own_size: bool = False,
) -> Settled:
    """The recipe of a variant with what the release says of itself; what is not followed is told.

    Args:
        release: looked through.
        recipe: the arguments of `Sampling`.
        chosen: whether the user named this recipe: then it stands, and what the release says is told.
        resolution: what the user asks for; None takes what the release is for.
        own_size: whether the recipe has the very size of this model, see `RECIPE`.

    Raises:
        InputError: damaged files of the release, or two experts without a boundary between them.
    """
    own, notes = _own_settings(release)
    size, why = _resolution(release, recipe, own, resolution)
    sized = (
        {} if (chosen or own_size) and resolution is None else _sized(release.variant, recipe, size, chosen)
    )
    if sized:
        notes.append(f"Sampled at {size}, by {why}: {', '.join(f'{k} {v}' for k, v in sized.items())}.")
    if not (why or chosen or own_size):
        other = "720p" if size == "480p" else "480p"
        notes.append(f"It does not say for which size it is: {size}; --resolution {other} changes that.")
    sampling, origins = {**recipe, **sized}, dict.fromkeys(sized, why)
    fixed = recipe if chosen else sized if resolution is not None else {}
    for name, (value, file) in own.items():
        before = sampling[name]
        if value == before or (name == "boundary" and len(release.backbones) < 2):
            continue
        if name in fixed and before != 0:
            notes.append(f"{file} says {name} {value}, and {before} is taken, as you ask.")
        else:
            sampling[name], origins[name] = value, file
            notes.append(f"{name} is {value}, as {file} says; the authors' recipe has {before}.")
    if len(release.backbones) > 1 and not 0 < sampling["boundary"] < 1:
        raise InputError(
            f"{release.found.folder.name} has two experts, and the sigma from which the first one works must "
            f"lie between 0 and 1, not at {sampling['boundary']}: give a --recipe with another boundary"
        )
    return Settled(sampling, origins, tuple(notes))


def _sized(variant: str, recipe: Mapping[str, Any], size: Resolution, chosen: bool) -> dict[str, Any]:
    """What a recipe says otherwise at a resolution."""
    height, width = RESOLUTIONS[size]
    changed: dict[str, Any] = {} if _size_of(recipe) == size else {"height": height, "width": width}
    if variant == "wan_2_1_i2v" and not chosen and recipe["shift"] != I2V_SHIFT[size]:
        changed["shift"] = I2V_SHIFT[size]
    return changed


def _size_of(recipe: Mapping[str, Any]) -> Resolution:
    return "720p" if recipe["height"] >= TALL else "480p"


def _resolution(
    release: Release,
    recipe: Mapping[str, Any],
    own: Mapping[str, tuple[Any, str]],
    asked: Resolution | None,
) -> tuple[Resolution, str]:
    """What a release is for, and what says so: nothing, where it may be sampled at either."""
    if asked is not None:
        return asked, "--resolution"
    name = _name(release.found.folder)
    if found := re.search(r"(?<!\d)(480|720)p", name, re.IGNORECASE):
        return BY_NAME[found[1]], f"the name {name}"
    if release.variant == "wan_2_1_i2v" and "shift" in own:
        for size, shift in I2V_SHIFT.items():
            if own["shift"][0] == shift:
                return size, f"a shift of {shift}"
    width = next(iter(release.backbones.values())).config["width"]
    large = release.variant in ("wan_2_1_t2v", "wan_2_1_vace") and width >= LARGE
    return _size_of(recipe), "" if large or release.variant in BOTH else "its variant"


def _name(folder: Path) -> str:
    """What a release is called: its folder, or that of the repository where it lies in a cache of the hub."""
    place = folder.resolve()
    return place.parents[1].name if place.parent.name == "snapshots" else place.name


def _own_settings(release: Release) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """What a release says of its sampling, with the file that says it, and what of that is not followed."""
    found = release.found
    unlike = _unlike(found)
    if found.layout != "diffusers":
        own, notes = _of_authors(found.folder)
        return own, [*notes, *unlike]
    own, notes = _of_scheduler(found)
    notes += unlike
    index = read_table(found.folder / INDEX)
    if (boundary := index.get("boundary_ratio")) is not None:
        own["boundary"] = (_number(boundary, "boundary_ratio", INDEX), INDEX)
        if len(release.backbones) < 2:
            notes.append(f"{INDEX} says boundary_ratio {boundary}, and there is one transformer: not used.")
    elif len(release.backbones) > 1:
        notes.append(f"{INDEX} says no boundary_ratio for the two experts: the recipe's is taken.")
    if (name := index.get("_class_name")) not in PIPELINES:
        notes.append(f"{INDEX} is of a {name}, which is not known here: sampled as {release.variant}.")
    by_token, known = bool(index.get("expand_timesteps", False)), release.variant == "wan_2_2_ti2v_5b"
    if by_token != known:
        notes.append(f"{INDEX} says expand_timesteps {by_token}, and {release.variant} has {known}.")
    for key, value in sorted(index.items()):
        if not (
            key.startswith("_") or isinstance(value, list) or key in ("boundary_ratio", "expand_timesteps")
        ):
            notes += [f"{INDEX} says {key} {value}, which is not followed."] if value else []
    return own, notes


def _unlike(found: Found) -> list[str]:
    """What a transformer's configuration says of its arithmetic that is not computed here."""
    notes: dict[str, None] = {}
    for file in (weights.parent / "config.json" for weights in found.backbones.values()):
        for key, value in read_table(file).items():
            if value not in COMPUTED.get(key, (value,)):
                notes[f"{file.name} says {key} {value}, and {COMPUTED[key][0]} is computed."] = None
    return list(notes)


def authors_settings(sampling: Mapping[str, Any], boundary: float | None) -> dict[str, Any]:
    """Settings of sampling as `settled_recipe` finds them in `CONFIGURATION`, in the authors' words.

    Args:
        sampling: the arguments of `Sampling`.
        boundary: between two experts; None where there is one transformer.
    """
    told = {theirs: sampling[ours] for theirs, ours in AUTHORS.items() if ours in sampling}
    told["boundary"], high, low = boundary, sampling["guidance"], sampling["low_guidance"]
    told["sample_guide_scale"] = high if boundary is None else [high if low is None else low, high]
    return {name: value for name, value in told.items() if value is not None}


def _of_authors(folder: Path) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """Settings that stand in files of the authors' layout, by whoever made it, and what is not followed."""
    own: dict[str, tuple[Any, str]] = {}
    notes: list[str] = []
    for name in CONFIGURATIONS:
        table = read_table(folder / name) if (folder / name).is_file() else {}
        for theirs, ours in AUTHORS.items():
            value = table.get(theirs)
            if ours == "solver" and value not in (None, *SCHEDULERS):
                notes.append(
                    f"{name} says {theirs} {value}; known are {', '.join(SCHEDULERS)}: not followed."
                )
            elif value is not None:
                own[ours] = (value if ours in WORDS else _number(value, theirs, name), name)
        if (scale := table.get("sample_guide_scale")) is not None:
            # Of two experts the one for little noise comes first.
            low, high = scale if isinstance(scale, list) and len(scale) == 2 else (scale, scale)
            own["guidance"] = (_number(high, "sample_guide_scale", name), name)
            if isinstance(scale, list):
                own["low_guidance"] = (_number(low, "sample_guide_scale", name), name)
    return own, notes


def _of_scheduler(found: Found) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    file = found.folder / SCHEDULER
    if not file.is_file():
        return {}, [f"There is no {SCHEDULER}: the recipe's solver and shift are taken."]
    told = read_table(file)
    if (name := told.get("_class_name")) not in CLASSES:
        known = ", ".join(CLASSES)
        return {}, [
            f"{SCHEDULER} is of a {name}; known are {known}: the recipe's solver and shift are taken."
        ]
    solver, shift, wanted = CLASSES[name]
    told = DEFAULTS | told
    own = {
        "solver": (solver, SCHEDULER),
        "shift": (_number(told.get(shift, 1.0), shift, SCHEDULER), SCHEDULER),
    }
    notes = [
        f"{SCHEDULER} says {key} {told[key]}, which is not followed: here it is {value}."
        for key, value in wanted.items()
        if told.get(key, value) != value and key not in WITHOUT_EFFECT
    ]
    handled = {*wanted, *DEFAULTS, *WITHOUT_EFFECT, shift}  # of all others, what is off says nothing
    notes += [
        f"{SCHEDULER} says {key} {value}, which is not followed."
        for key, value in sorted(told.items())
        if value and not key.startswith("_") and key not in handled
    ]
    return own, notes


def _number(value: object, key: str, file: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{file} says {key} {value}, which is no number")
    return value
