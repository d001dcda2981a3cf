"""Folders that are given out, in diffusers' own pipelines: the same video from the same noise and sigmas."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_training import trained

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.commands.trained import load_model, load_trained
from vdit.denoiser import Denoiser
from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.solver import Euler, Heun, Solver
from vdit.nn.rope import grid_rotation
from vdit.releases.pipeline import CONFIGS, SCHEDULERS
from vdit.sample.sampler import NOTHING, Wish
from vdit.types import Given

diffusers = pytest.importorskip("diffusers")

FRAMES, STEPS, SEED = 5, 4, 3
PROMPT, NEGATIVE = "a  large &amp;amp; red\n star â€œon whiteâ€", "blue circle"
EXACT, RESIZED = 4e-5, 2e-3
"""Of the largest value; the latter where the two libraries bring an image to CLIP's square."""

RECIPES: dict[str, dict[str, Any]] = {
    "wan_2_1_t2v": {"shift": 5.0},
    "wan_2_1_i2v": {"shift": 3.0},
    "wan_2_1_flf2v": {"shift": 16.0},
    "wan_2_1_vace": {"shift": 16.0},
    "wan_2_2_t2v_a14b": {"shift": 3.0, "low_guidance": 1.5, "boundary": 0.875},
    "wan_2_2_i2v_a14b": {"shift": 5.0, "low_guidance": 3.5, "boundary": 0.9},
    "wan_2_2_ti2v_5b": {"shift": 5.0},
}
"""Of the four steps, one or two are the first expert's."""


@dataclass(frozen=True)
class Exported:
    """A model or a run, and the folder that was made of it for diffusers."""

    model: Path
    folder: Path

    def pipeline(self, kind: str = "DiffusionPipeline") -> Any:
        """As diffusers opens it, with nothing given by hand."""
        opened = getattr(diffusers, kind).from_pretrained(self.folder)
        opened.set_progress_bar_config(disable=True)
        return opened


@pytest.fixture(scope="module")
def exported(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Exported]:
    """`exported(variant)`: a release in the authors' layout, taken in and given out."""
    made: dict[str, Exported] = {}

    def make(variant: str) -> Exported:
        if variant not in made:
            model, here = tiny(variant), tmp_path_factory.mktemp(f"pipeline_{variant}")
            recipe = {"steps": STEPS, "guidance": 2.0, "frames": FRAMES, "height": 32, "width": 32, "fps": 16}
            recipe |= {"solver": "unipc", "first": 0.999, "whole_steps": True, "negative": NEGATIVE}
            (here / "recipe.yaml").write_text(yaml.safe_dump(recipe | RECIPES[variant]))
            line = ["--from", str(model), "--layout", "original", "--to", str(here / "original")]
            assert run_command(export, line) == 0
            line = ["--from", str(here / "original"), "--to", str(here / "model")]
            line += ["--recipe", str(here / "recipe.yaml"), "--codec", str(model.parent / "codec.yaml")]
            assert run_command(import_, line) == 0
            line = ["--from", str(here / "model"), "--layout", "diffusers", "--to", str(here / "pipeline")]
            assert run_command(export, line) == 0
            made[variant] = Exported(here / "model", here / "pipeline")
        return made[variant]

    return make


def picture(height: int, width: int, turn: int = 0) -> Image.Image:
    """A smooth one: at edges, ways to bring an image to a size differ."""
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    colours = np.stack([0.1 + 0.8 * x + 0 * y, 0.2 + 0.6 * y + 0 * x, 0.3 + 0.4 * x * y], axis=-1)
    return Image.fromarray(np.roll(colours * 255, turn, axis=-1).round().astype(np.uint8))


def wished(images: dict[int, Image.Image], frames: int = FRAMES) -> Wish:
    """That these frames are given."""
    if not images:
        return NOTHING
    width, height = next(iter(images.values())).size
    pixels, mask = torch.zeros(1, 3, frames, height, width), torch.zeros(1, frames, dtype=torch.bool)
    for place, image in images.items():
        pixels[0, :, place] = torch.from_numpy(np.asarray(image) / 127.5 - 1).permute(2, 0, 1)
        mask[0, place] = True
    return Wish(Given(pixels, mask))


def begin_below_one(pipeline: Any) -> None:
    """Have a pipeline space steps as Wan's authors do, from 0.999 on; the shift is its own."""
    theirs = pipeline.scheduler.set_timesteps

    def steps(count: int, device: Any = None) -> None:
        theirs(device=device, sigmas=np.linspace(0.999, 0, count + 1)[:-1])

    pipeline.scheduler.set_timesteps = steps


def compare(
    exported: Exported, pipeline: Any, size: tuple[int, int], bound: float, wish: Wish = NOTHING, **given: Any
) -> None:
    """Demand the same latents and the same video of diffusers and of the model here."""
    load = load_trained if (exported.model / "checkpoints").is_dir() else load_model
    opened = load(exported.model, device="cpu")
    asked = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_frames": FRAMES} | given
    sampling = replace(opened.sampling, height=size[0], width=size[1], frames=asked["num_frames"])
    sampler = opened.task.sampler(sampling)
    if pipeline.config.boundary_ratio is not None:
        asked["guidance_scale_2"] = sampling.low_guidance
    asked |= {"height": size[0], "width": size[1], "num_inference_steps": STEPS}
    asked["guidance_scale"] = sampling.guidance
    latents, videos = (
        torch.as_tensor(pipeline(**asked, latents=sampler.noise([SEED]), output_type=kind).frames)
        for kind in ("latent", "np")
    )
    ours = sampler.latents([PROMPT], [SEED], wish=wish)
    torch.testing.assert_close(ours, latents, atol=bound * latents.abs().max().item(), rtol=0)
    pixels = sampler.sample([PROMPT], [SEED], wish=wish).clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(pixels, videos.movedim(-1, 1), atol=bound, rtol=0)


@pytest.mark.parametrize("variant", ["wan_2_1_t2v", "wan_2_1_vace", "wan_2_2_t2v_a14b", "wan_2_2_ti2v_5b"])
def test_a_prompt_gives_the_same_video(variant: str, exported: Callable[[str], Exported]):
    made = exported(variant)
    pipeline = made.pipeline()
    begin_below_one(pipeline)
    compare(made, pipeline, (32, 64), EXACT)


def test_a_prompt_is_not_rounded_on_its_way(exported: Callable[[str], Exported]):
    """A transformer may make much of a prompt: half precision of its tokens alone is 3e-4 of a video."""
    made = exported("wan_2_1_t2v")
    theirs, _ = made.pipeline().encode_prompt(PROMPT, do_classifier_free_guidance=False)
    ours = load_model(made.model, device="cpu").task.text.encode([PROMPT]).values
    assert ours.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs[:, : ours.shape[1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("variant", "size", "bound"),
    [
        ("wan_2_1_i2v", (32, 32), EXACT),
        ("wan_2_1_i2v", (64, 128), RESIZED),
        ("wan_2_1_flf2v", (32, 32), EXACT),
        ("wan_2_1_flf2v", (64, 128), RESIZED),
        ("wan_2_2_i2v_a14b", (32, 64), EXACT),
        ("wan_2_2_ti2v_5b", (32, 64), EXACT),
    ],
)
def test_an_image_gives_the_same_video(
    variant: str, size: tuple[int, int], bound: float, exported: Callable[[str], Exported]
):
    made = exported(variant)
    images = {0: picture(*size)} | ({FRAMES - 1: picture(*size, turn=1)} if "flf2v" in variant else {})
    given = {"image": images[0]} | ({"last_image": images[FRAMES - 1]} if "flf2v" in variant else {})
    # The folder of 5B is that of a pipeline without images; with them it is opened by name.
    pipeline = made.pipeline("WanImageToVideoPipeline" if "5b" in variant else "DiffusionPipeline")
    begin_below_one(pipeline)
    compare(made, pipeline, size, bound, wished(images), **given)


def shown_and_grey(images: dict[int, Image.Image], frames: int) -> dict[str, np.ndarray]:
    """A video and its mask for VACE's pipeline; what is not given is grey, 0.5, which no image is quite."""
    width, height = images[0].size
    video, mask = np.full((1, frames, height, width, 3), 0.5), np.ones((1, frames, height, width, 3))
    for place, image in images.items():
        video[0, place], mask[0, place] = np.asarray(image) / 255, 0
    return {"video": video, "mask": mask}


@pytest.mark.parametrize(
    ("frames", "size", "given"), [(5, (32, 64), (0,)), (17, (64, 96), (0,)), (9, (32, 32), (0, 4, 8))]
)
def test_frames_among_grey_ones_give_the_same_video(
    frames: int, size: tuple[int, int], given: tuple[int, ...], exported: Callable[[str], Exported]
):
    made, images = exported("wan_2_1_vace"), {place: picture(*size, turn=place % 3) for place in given}
    pipeline = made.pipeline()
    begin_below_one(pipeline)
    shown = shown_and_grey(images, frames)
    compare(made, pipeline, size, EXACT, wished(images, frames), num_frames=frames, **shown)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`in_float64(*networks)`: from now on these, and whatever calls for float32, compute in float64."""

    def widen(*networks: torch.nn.Module | None) -> None:
        for network in networks:
            if network is not None:
                network.double()
            if isinstance(network, Denoiser):
                network.backbone.arithmetic = torch.float64
        grid_rotation.cache_clear()
        torch.set_default_dtype(torch.float64)
        monkeypatch.setattr(torch, "float32", torch.float64)
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
        monkeypatch.setattr(np, "float32", np.float64)
        for layer in (layer for network in networks if network is not None for layer in network.modules()):
            if type(layer).__name__ == "WanRotaryPosEmbed":  # whose table is made once
                type(layer).__init__(layer, layer.attention_head_dim, layer.patch_size, layer.max_seq_len)

    yield widen
    monkeypatch.undo()
    torch.set_default_dtype(torch.float32)
    grid_rotation.cache_clear()


@pytest.mark.parametrize(
    ("variant", "given"),
    [
        ("wan_2_1_t2v", ()),
        ("wan_2_1_vace", (0,)),
        ("wan_2_2_t2v_a14b", ()),
        ("wan_2_2_i2v_a14b", (0,)),
        ("wan_2_2_ti2v_5b", (0,)),
    ],
)
def test_what_is_left_between_both_is_rounding(
    variant: str,
    given: tuple[int, ...],
    exported: Callable[[str], Exported],
    in_float64: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):
    """In float32 1e-6 of the latents is left; were it more than rounding, float64 would not take it away."""
    made, size = exported(variant), (32, 64)
    pipeline = made.pipeline("WanImageToVideoPipeline" if "5b" in variant else "DiffusionPipeline")
    begin_below_one(pipeline)
    task = load_model(made.model, device="cpu").task
    sampling = replace(task.sampling, height=size[0], width=size[1])
    sampler, text = task.sampler(sampling), task.text.encode([PROMPT, NEGATIVE])
    noise = sampler.noise([SEED]).double()
    networks = [pipeline.transformer, pipeline.vae, task.denoiser, sampler.codec]
    in_float64(*networks, getattr(pipeline, "transformer_2", None))
    images = {place: picture(*size) for place in given}
    shown = shown_and_grey(images, FRAMES) if "vace" in variant else {"image": images[0]} if given else {}
    padded = [torch.zeros(1, 512, text.values.shape[-1]) for _ in range(2)]
    for row, values, mask in zip(padded, text.values, text.mask, strict=True):
        row[0, : mask.sum()] = values[mask]
    asked = {"prompt_embeds": padded[0], "negative_prompt_embeds": padded[1], "num_frames": FRAMES}
    asked |= {"height": size[0], "width": size[1], "num_inference_steps": STEPS}
    asked |= {"guidance_scale": sampling.guidance, "latents": noise, "output_type": "latent"}
    if pipeline.config.boundary_ratio is not None:
        asked["guidance_scale_2"] = sampling.low_guidance
    latents = pipeline(**asked, **shown).frames
    monkeypatch.setattr(sampler, "noise", lambda _: noise)
    ours = sampler.latents([PROMPT], [SEED], wish=wished(images))
    assert ours.dtype == latents.dtype == torch.float64
    torch.testing.assert_close(ours, latents, atol=1e-12 * latents.abs().max().item(), rtol=0)


def test_from_the_steps_of_diffusers_comes_the_same_video(
    exported: Callable[[str], Exported], monkeypatch: pytest.MonkeyPatch
):
    """With no hand on its scheduler; the model here takes its sigmas."""
    made = exported("wan_2_2_t2v_a14b")
    pipeline = made.pipeline()
    pipeline.scheduler.set_timesteps(STEPS)
    told, sigmas = pipeline.scheduler.timesteps.tolist(), pipeline.scheduler.sigmas.double()
    at = dict(zip(sigmas.tolist(), told, strict=False))
    monkeypatch.setattr("vdit.sample.sampler.schedule", lambda *_: sigmas)
    monkeypatch.setattr("vdit.sample.sampler.Sampling.told", lambda _, sigma: at[sigma] / 1000)
    compare(made, pipeline, (32, 64), EXACT)


def test_the_guide_opens_a_folder(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    guide = (Path(__file__).parents[2] / "docs/guides/wan.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    folder = exported("wan_2_1_t2v").folder
    smaller = {
        "exported/mine": str(folder),
        "cuda": "cpu",
        "=81": "=5",
        "=480": "=32",
        "=832": "=64",
        "=50": "=2",
    }
    for large, small in smaller.items():
        assert large in snippet
        snippet = snippet.replace(large, small)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "wan.md", "exec"), {})
    assert (tmp_path / "cats.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("solver", "kind"), [("euler", Euler), ("heun", Heun), ("unipc", UniPC), ("dpm++", DPMSolverPP)]
)
def test_a_scheduler_steps_as_the_solver_does(solver: str, kind: type[Solver]):
    name, shift, settings = SCHEDULERS[solver]
    scheduler = getattr(diffusers, name).from_config(settings | {shift: 5.0})
    scheduler.set_timesteps(6)
    x = noise = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))

    def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.tanh(x.flip(1)) + sigma * x

    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(velocity(x, sigma.item()), t, x, return_dict=False)[0]
    sigmas = torch.unique_consecutive(scheduler.sigmas).double()
    torch.testing.assert_close(kind().solve(velocity, noise, sigmas), x, atol=4e-5, rtol=0)


@pytest.mark.parametrize("variant", ["wan_2_1_i2v", "wan_2_1_vace", "wan_2_2_t2v_a14b"])
def test_a_pipeline_that_diffusers_saved_comes_back(
    variant: str, exported: Callable[[str], Exported], tmp_path: Path
):
    first = exported(variant)
    first.pipeline().save_pretrained(tmp_path / "saved")
    recipe = first.model.parent / "recipe.yaml"
    line = ["--from", str(tmp_path / "saved"), "--to", str(tmp_path / "model"), "--recipe", str(recipe)]
    assert run_command(import_, line) == 0
    line = ["--from", str(tmp_path / "model"), "--layout", "diffusers", "--to", str(tmp_path / "out")]
    assert run_command(export, line) == 0
    for name in CONFIGS:
        if (tmp_path / "saved" / name).is_file():
            theirs, ours = (json.loads((tmp_path / place / name).read_text()) for place in ("saved", "out"))
            assert ours == theirs
    made = Exported(tmp_path / "model", tmp_path / "out")
    pipeline = made.pipeline()
    begin_below_one(pipeline)
    image = picture(32, 32)
    given = {"image": image} if "i2v" in variant else {}
    compare(made, pipeline, (32, 32), EXACT, wished({0: image} if given else {}), **given)


def test_a_lora_gives_the_same_video(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    model = exported("wan_2_2_t2v_a14b").model
    own = ["--optim.lr", "0.1", "--task.init_args.sampling.shift", "2", "--task.init_args.adapter.rank", "2"]
    assert trained(model, "run", *own) == 0
    assert run_command(export, ["--from", "run", "--layout", "diffusers", "--to", "out"]) == 0
    made = Exported(tmp_path / "run", tmp_path / "out")
    pipeline = made.pipeline()
    begin_below_one(pipeline)
    compare(made, pipeline, (32, 64), EXACT)
