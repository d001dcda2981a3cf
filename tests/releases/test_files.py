"""The files of a folder that is given out: what others look for in them; what came in comes out."""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from vdit.commands.command import run_command
from vdit.commands.export_weights import main as export
from vdit.commands.import_weights import main as import_
from vdit.releases.settings import RECIPE
from vdit.weights.source import open_weights

ORACLE = Path(__file__).parents[1] / "oracle/manifests"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
T5 = "models_t5_umt5-xxl-enc-bf16.pth"
WEIGHTS = "diffusion_pytorch_model.safetensors"

LISTS = {
    "wan_2_1_t2v": "wan2.1_t2v_14B",
    "wan_2_1_i2v": "wan2.1_i2v_14B_480p_720p",
    "wan_2_1_flf2v": "wan2.1_flf2v_14B_720p",
    "wan_2_1_vace": "wan2.1_vace_14B",
    "wan_2_2_t2v_a14b": "wan2.2_t2v_A14B_each_expert",
    "wan_2_2_i2v_a14b": "wan2.2_i2v_A14B_each_expert",
    "wan_2_2_ti2v_5b": "wan2.2_ti2v_5B",
}
"""The names and shapes of the full-size transformers."""

MODEL_TYPES = {"wan_2_1_flf2v": "flf2v", "wan_2_1_vace": "vace", "wan_2_2_ti2v_5b": "ti2v"}
MODEL_TYPES |= {"wan_2_1_i2v": "i2v", "wan_2_2_i2v_a14b": "i2v"}

PLACES: Mapping[str, tuple[str, ...]] = {"original": (".",), "diffusers": ("transformer",)}
TWO_PLACES: Mapping[str, tuple[str, ...]] = {
    "original": ("high_noise_model", "low_noise_model"),
    "diffusers": ("transformer", "transformer_2"),
}


def published(name: str, layout: str) -> dict[str, list[int]]:
    """Names and shapes of a file at full size."""
    return dict(json.loads(gzip.decompress((ORACLE / f"{name}.{layout}.json.gz").read_bytes()))["keys"])


def patterns(names: Any) -> set[str]:
    """Names of tensors without the numbers of blocks, of which small models have fewer."""
    return {re.sub(r"(blocks|block|layers|transformer)\.\d+", r"\1.N", name) for name in names}


def given_out(model: Path, layout: str, out: Path) -> Path:
    assert run_command(export, ["--from", str(model), "--layout", layout, "--to", str(out)]) == 0
    return out


def taken_in(release: Path, codec: Path, out: Path, shift: float = 3.0) -> Path:
    recipe = {"frames": 5, "height": 32, "width": 64, "shift": shift, "solver": "unipc", "boundary": 0.875}
    (out.parent / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    line = ["--from", str(release), "--to", str(out), "--recipe", str(out.parent / "recipe.yaml")]
    assert run_command(import_, [*line, "--codec", str(codec)]) == 0
    return out


@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("variant", LISTS)
def test_names_are_those_of_the_published_files(
    variant: str, layout: str, tiny: Callable[[str], Path], tmp_path: Path
):
    out = given_out(tiny(variant), layout, tmp_path / "out")
    theirs = published(LISTS[variant], layout)
    for place in (TWO_PLACES if "a14b" in variant else PLACES)[layout]:
        assert patterns(open_weights(out / place / WEIGHTS).shapes()) == patterns(theirs)
    vae = published("wan2.2_vae_4x16x16" if "5b" in variant else "wan2.1_vae", layout)
    parts = {"vae": (out / "vae", vae), "t5": (out / "text_encoder", published("umt5_xxl_encoder", layout))}
    if layout == "original":
        file = "Wan2.2_VAE.pth" if "5b" in variant else "Wan2.1_VAE.pth"
        parts = {"vae": (out / file, vae), "t5": (out / T5, parts["t5"][1])}
    if "1_i2v" in variant or "flf2v" in variant:
        clip = published("clip_full" if layout == "original" else "clip_vit_h14_visual", layout)
        parts["clip"] = (out / (CLIP if layout == "original" else "image_encoder"), clip)
    for file, names in parts.values():
        assert patterns(open_weights(file).shapes()) == patterns(names)


@pytest.mark.parametrize("variant", LISTS)
def test_the_authors_configuration_says_what_the_model_is(
    variant: str, tiny: Callable[[str], Path], tmp_path: Path
):
    out = given_out(tiny(variant), "original", tmp_path / "out")
    for place in (TWO_PLACES if "a14b" in variant else PLACES)["original"]:
        config = json.loads((out / place / "config.json").read_text())
        assert config["model_type"] == MODEL_TYPES.get(variant, "t2v")
        assert config["_class_name"] == ("VaceWanModel" if "vace" in variant else "WanModel")
        shapes = open_weights(out / place / WEIGHTS).shapes()
        assert shapes["patch_embedding.weight"][:2] == (config["dim"], config["in_dim"])
        assert shapes["head.head.weight"][0] == 4 * config["out_dim"]
        assert shapes["blocks.0.ffn.0.weight"][0] == config["ffn_dim"]
        assert sum(".self_attn.q.weight" in name and name.startswith("blocks.") for name in shapes) == 2


def test_what_came_in_the_authors_layout_goes_out_equal_to_the_byte(
    tiny: Callable[[str], Path], tmp_path: Path
):
    model = tiny("wan_2_1_i2v")
    release = given_out(model, "original", tmp_path / "release")
    (release / "README.md").unlink()
    for name in ("configuration.json", RECIPE):  # how it is sampled, which here is another recipe's
        (release / name).unlink()
    halves = {T5: torch.bfloat16, "Wan2.1_VAE.pth": torch.bfloat16, CLIP: torch.float16}
    text_side = {"log_scale": torch.tensor(2.6), "textual.norm.bias": torch.randn(3)}
    for file, dtype in halves.items():
        tensors = torch.load(release / file, weights_only=True)
        visual = {name: value for name, value in tensors.items() if not name.startswith(("textual", "log"))}
        tensors = visual | {name: torch.randn(2, 3) for name in tensors.keys() - visual.keys()}
        tensors |= text_side if file == CLIP else {}
        torch.save({name: value.to(dtype) for name, value in tensors.items()}, release / file)
    config = json.loads((release / "config.json").read_text()) | {"_diffusers_version": "0.30.0"}
    (release / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (release / "xlm-roberta-large").mkdir()
    (release / "xlm-roberta-large/sentencepiece.bpe.model").write_bytes(b"words")
    taken = taken_in(release, model.parent / "codec.yaml", tmp_path / "model")
    again = given_out(taken, "original", tmp_path / "again")
    for name in ("configuration.json", RECIPE):
        (again / name).unlink()
    assert [f.relative_to(again) for f in sorted(again.rglob("*"))] == [
        f.relative_to(release) for f in sorted(release.rglob("*"))
    ]
    for file in release.rglob("*.*"):
        if file.suffix == ".pth":
            theirs, ours = (torch.load(f / file.name, weights_only=True) for f in (release, again))
            assert theirs.keys() == ours.keys()
            assert {name: value.dtype for name, value in theirs.items()} == {
                name: value.dtype for name, value in ours.items()
            }
            assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        elif file.is_file():
            assert file.read_bytes() == (again / file.relative_to(release)).read_bytes(), file


def test_what_came_in_the_layout_of_diffusers_goes_out_with_the_settings_it_had(
    tiny: Callable[[str], Path], tmp_path: Path
):
    model = tiny("wan_2_2_t2v_a14b")
    release = given_out(model, "diffusers", tmp_path / "release")
    own = {
        "model_index.json": {
            "_diffusers_version": "0.39.0",
            "_name_or_path": "mine",
            "boundary_ratio": 0.875,
        },
        "transformer/config.json": {"_diffusers_version": "0.39.0"},
        "vae/config.json": {"clip_output": True},
        "scheduler/scheduler_config.json": {"solver_order": 3, "disable_corrector": [0], "flow_shift": 3.0},
    }
    for name, more in own.items():
        table = json.loads((release / name).read_text()) | more
        (release / name).write_text(json.dumps(table))
    vae = load_file(release / "vae" / WEIGHTS)
    save_file({name: value.to(torch.bfloat16) for name, value in vae.items()}, release / "vae" / WEIGHTS)
    taken = taken_in(release, model.parent / "codec.yaml", tmp_path / "model")
    again = given_out(taken, "diffusers", tmp_path / "again")
    files = [file.relative_to(release) for file in sorted(release.rglob("*")) if file.is_file()]
    assert files == [file.relative_to(again) for file in sorted(again.rglob("*")) if file.is_file()]
    for file in files:
        if file.suffix == ".json":
            assert json.loads((again / file).read_text()) == json.loads((release / file).read_text()), file
        elif file.suffix == ".safetensors":
            theirs, ours = load_file(release / file), load_file(again / file)
            assert theirs.keys() == ours.keys()
            assert all(ours[name].dtype == value.dtype for name, value in theirs.items())
            assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_shift_of_ones_own_replaces_that_of_the_release(tiny: Callable[[str], Path], tmp_path: Path):
    model = tiny("wan_2_1_t2v")
    release = given_out(model, "diffusers", tmp_path / "release")
    taken = taken_in(release, model.parent / "codec.yaml", tmp_path / "model")
    told = yaml.safe_load((taken / "model.yaml").read_text())
    told["sampling"] |= {"shift": 8.0, "solver": "euler"}
    (taken / "model.yaml").write_text(yaml.safe_dump(told))
    out = given_out(taken, "diffusers", tmp_path / "out")
    scheduler = json.loads((out / "scheduler/scheduler_config.json").read_text())
    assert scheduler["_class_name"] == "FlowMatchEulerDiscreteScheduler"
    assert scheduler["shift"] == 8.0
    index = json.loads((out / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]


def test_clip_without_its_text_side_is_filled_up_to_what_the_authors_class_loads(
    tiny: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = tiny("wan_2_1_i2v")
    release = given_out(model, "diffusers", tmp_path / "release")
    taken = taken_in(release, model.parent / "codec.yaml", tmp_path / "model")
    capsys.readouterr()
    out = given_out(taken, "original", tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    for told in ("holds zeros in place of 392 tensors", "also opens a folder xlm-roberta-large"):
        assert told in said
        assert told in (out / "README.md").read_text()
    full = published("clip_full", "original")
    tensors = torch.load(out / CLIP, weights_only=True)
    text_side = {name for name in full if not name.startswith("visual.")}
    assert {name: list(tensors[name].shape) for name in text_side} == {n: full[n] for n in text_side}
    assert (out / CLIP).stat().st_size < 2**20  # zeros that are written once
    # What was filled in is not kept as if it had been published.
    again = taken_in(out, model.parent / "codec.yaml", tmp_path / "again")
    assert not (again / "published/clip").exists()
    shutil.rmtree(out)


def test_a_tokenizer_of_another_kind_is_named_as_what_it_is(tiny: Callable[[str], Path], tmp_path: Path):
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    shutil.copytree(tiny("wan_2_1_t2v"), tmp_path / "model")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "star": 4}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    ends = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    kind = transformers.PreTrainedTokenizerFast
    kind(tokenizer_object=raw, **ends).save_pretrained(tmp_path / "model/text")
    out = given_out(tmp_path / "model", "diffusers", tmp_path / "out")
    library, name = json.loads((out / "model_index.json").read_text())["tokenizer"]
    opened = getattr(transformers, name).from_pretrained(out / "tokenizer")
    assert library == "transformers"
    assert opened("red star")["input_ids"] == [3, 4]
