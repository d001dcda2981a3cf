"""Import fixtures: weights, inputs and what the authors' code makes of them.

A case is a folder:

    config.json            family and sizes
    inputs.safetensors     named inputs
    outputs.safetensors    what must come out
    diffusers/ original/   the same weights in each layout it was published in
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from vdit.camera.pose_file import cameras_of_rows
from vdit.codecs.published import LAYOUTS, codec_of_config, import_codec
from vdit.conditions.rays import grouped, plucker
from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.solver import Euler, schedule
from vdit.models.camera import CameraIn
from vdit.models.published import backbone_of_config, import_backbone
from vdit.models.wan.keys import CAMERA_KEYS
from vdit.text.clip_vision import clip_of_config, import_clip, penultimate
from vdit.text.umt5 import import_umt5, umt5_of_config
from vdit.types import DenoiserInput, InputError, Tokens
from vdit.weights.exchange import import_weights
from vdit.weights.files import read_tensors
from vdit.weights.keymap import KeyMap, layer
from vdit.weights.source import open_weights

__all__ = ["BOUND", "Comparison", "ImportCase", "compare"]

BOUND = 4e-5
"""Between what two right implementations differ by and what the smallest mistake does."""

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """How far one layout's outputs are from what must come out.

    Attributes:
        layout: of the weights.
        absolute: greatest difference.
        relative: greatest difference of an output over its greatest value, or over 1 if that is less.
        reason: why it failed where no difference tells; empty otherwise.
    """

    layout: str
    absolute: float
    relative: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether every output is there and within `BOUND`."""
        return not self.reason and self.relative <= BOUND


@dataclass(frozen=True)
class ImportCase:
    """One case.

    Attributes:
        folder: where it lies.
        config: its `config.json`.
    """

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "ImportCase":
        """Raises InputError where the folder holds no case of a known family."""
        file = folder / "config.json"
        if not file.is_file():
            raise InputError(f"{folder} is no import case: it has no config.json")
        try:
            config = json.loads(file.read_text())
            family = config["family"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is not the configuration of an import case: {error!r}") from error
        if family not in FAMILIES:
            raise InputError(f"{folder} is a case of {family}; known are {', '.join(FAMILIES)}")
        return cls(folder, config)

    @property
    def layouts(self) -> list[str]:
        """Those of `LAYOUTS` that it has weights in; a case that needs none has one, `-`."""
        if self.config["family"] in WITHOUT_WEIGHTS:
            return ["-"]
        return [layout for layout in LAYOUTS if (self.folder / layout).is_dir()]

    @torch.no_grad()
    def compute(self, layout: str) -> dict[str, Tensor]:
        """The outputs from the weights of one layout. Raises InputError as importing does."""
        inputs = read_tensors(self.folder / "inputs.safetensors")
        return FAMILIES[self.config["family"]](self, layout, inputs)

    def expected(self) -> dict[str, Tensor]:
        """What must come out."""
        return read_tensors(self.folder / "outputs.safetensors")


def compare(layout: str, got: Tensors, expected: Tensors) -> Comparison:
    """Outputs against what must come out, in float32; integers must be equal."""
    absolute = relative = 0.0
    for name, want in expected.items():
        if name not in got:
            return Comparison(layout, absolute, relative, f"no {name} came out")
        have = got[name]
        if have.shape != want.shape:
            return Comparison(
                layout, absolute, relative, f"{name} is {list(have.shape)}, not {list(want.shape)}"
            )
        if not want.is_floating_point():
            if not torch.equal(have, want):
                return Comparison(layout, absolute, relative, f"{name} differs")
            continue
        if not torch.isfinite(have).all():
            return Comparison(layout, absolute, relative, f"{name} is not finite")
        difference = (have.float() - want.float()).abs().max().item()
        absolute = max(absolute, difference)
        relative = max(relative, difference / max(1.0, want.abs().max().item()))
    return Comparison(layout, absolute, relative)


def _codec_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    codec = codec_of_config(case.config["diffusers"], str(case.folder / "config.json")).eval()
    import_codec(codec, open_weights(case.folder / layout), layout)
    posterior = codec.posterior(inputs["video"])
    latents = inputs["latent_normalised"] if "latent_normalised" in inputs else inputs["latent_scaled"]
    pixels = codec.reconstruct(codec.denormalise(latents))
    return {
        "posterior_mean": posterior.mean,
        "posterior_logvar": posterior.logvar,
        "latent": codec.encode(inputs["video"]),
        "decoded": pixels.clamp(-1, 1) if "latent_normalised" in inputs else pixels,
    }


def _wan_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    model = backbone_of_config(case.config["diffusers"], str(case.folder / "config.json"))
    model.text_length = case.config["original"]["text_len"]
    import_backbone(model.eval(), open_weights(case.folder / layout), layout)
    latents, sigma = inputs["latents"], inputs["timestep"].double() / 1000
    if sigma.ndim == 1:
        sigma = rearrange(sigma, "b -> b 1 1 1")
    else:
        (pt, ph, pw), (t, h, w) = model.patch, latents.shape[2:]
        sigma = repeat(
            sigma,
            "b (t h w) -> b (t pt) (h ph) (w pw)",
            t=t // pt,
            h=h // ph,
            w=w // pw,
            pt=pt,
            ph=ph,
            pw=pw,
        )
    text = inputs["context_padded"]
    mask = torch.arange(text.shape[1]) < inputs["context_lens"][:, None]
    told = DenoiserInput(
        latents, sigma, Tokens(text, mask), channels=inputs.get("y"), image_tokens=inputs.get("clip_fea")
    )
    return {"velocity": model(told)}


def _schedule_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    """Four schedules of each table: where they go, what the model is told, and where a known flow ends."""
    found = {}
    for steps, shift in case.config["specs"]:
        start = inputs[f"{(tag := f'n{steps}_shift{shift:g}')}.x_init"]
        tables = {
            "wan_unipc": (UniPC(), schedule(steps, shift, first=0.999)),
            "wan_dpmpp": (DPMSolverPP(), schedule(steps, shift)),
            "hunyuan_euler": (Euler(), schedule(steps, shift)),
            "diffusers_unipc": (UniPC(), schedule(steps, shift, last=0.001).clamp(max=1 - 1e-6)),
        }
        for name, (solver, sigmas) in tables.items():
            told = 1000 * sigmas[:-1]
            end = solver.solve(lambda x, sigma: 0.7 * x - 0.4 * sigma + 0.2 * torch.sin(3 * x), start, sigmas)
            found[f"{tag}.{name}.sigmas"] = sigmas.float()
            found[f"{tag}.{name}.timesteps"] = told.float() if name == "hunyuan_euler" else told.long()
            found[f"{tag}.{name}.final"] = end
    return found


def _camera_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    """Rays of the rows of a pose file, by frame and by latent frame, and what the adapter makes of them."""
    height, width = case.config["height"], case.config["width"]
    size = case.config["original_pose_height"], case.config["original_pose_width"]
    rays = plucker(cameras_of_rows(inputs["pose_rows"], height, width, size), height, width)
    told = grouped(rays[None], stride_t=4)
    adapter = CameraIn(case.config["dim"], case.config["downscale_factor"], patch=2)
    names = {name.removeprefix("camera_in."): theirs for theirs, name in CAMERA_KEYS.items()}
    table = [key for ours, theirs in names.items() for key in layer(f"control_adapter.{theirs}", ours)]
    import_weights(adapter, open_weights(case.folder / layout), KeyMap(layout, table))
    return {
        "plucker_fhwc": rearrange(rays, "f c h w -> f h w c"),
        "y_camera": told,
        "adapter_out": adapter(told),
    }


def _clip_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    model = clip_of_config(case.config["diffusers"], str(case.folder / "config.json"))
    import_clip(model, open_weights(case.folder / layout), layout)
    return {"penultimate_hidden": penultimate(model, inputs["pixel_values"])}


def _umt5_outputs(case: ImportCase, layout: str, inputs: Tensors) -> dict[str, Tensor]:
    model = umt5_of_config(case.config["diffusers"], str(case.folder / "config.json"))
    import_umt5(model, open_weights(case.folder / layout), layout)
    mask = inputs["attention_mask"]
    hidden = model(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
    return {"last_hidden_state_masked": hidden * mask[..., None]}


WITHOUT_WEIGHTS = frozenset({"schedule"})

FAMILIES: Mapping[str, Callable[[ImportCase, str, Tensors], dict[str, Tensor]]] = {
    "wan_vae21": _codec_outputs,
    "wan_vae22": _codec_outputs,
    "hunyuan_vae": _codec_outputs,
    "wan": _wan_outputs,
    "schedule": _schedule_outputs,
    "umt5": _umt5_outputs,
    "clip_visual": _clip_outputs,
    "wan_fun_camera": _camera_outputs,
}
