"""CLIP's vision tower: numbers and names, against its authors' code."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vdit.eval.import_case import ImportCase, compare
from vdit.text.clip_vision import ClipVision, clip_keys, clip_of_config, import_clip, penultimate
from vdit.types import InputError
from vdit.weights.files import save_tensors
from vdit.weights.keymap import LAYOUTS
from vdit.weights.source import open_weights

ORACLE = Path(__file__).parents[1] / "oracle"
CASE = ORACLE / "clip_visual"
CONFIG = json.loads((CASE / "config.json").read_text())["diffusers"]
VIT_H = {
    **CONFIG,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "projection_dim": 1024,
}


def listed(name: str) -> dict[str, tuple[int, ...]]:
    content = json.loads(gzip.decompress((ORACLE / f"manifests/{name}.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in content["keys"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = clip_of_config(CONFIG, "a file")
    import_clip(model, open_weights(CASE / "original"))
    save_tensors(dict(model.state_dict()), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tower_computes_what_its_authors_code_does(layout: str):
    case = ImportCase.open(CASE)
    assert case.layouts == list(LAYOUTS)
    found = compare(layout, case.compute(layout), case.expected())
    assert found.passed, found


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("clip_vit_h14_visual.original", "original"),
        ("clip_full.original", "original"),  # with the text side, which is left out
        ("clip_vit_h14_visual.diffusers", "diffusers"),
    ],
)
def test_the_full_size_has_the_names_of_the_published_files(name: str, layout: str):
    with torch.device("meta"):
        model = clip_of_config(VIT_H, "ViT-H")
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == 632_076_800
    table = clip_keys(32, layout)
    assert table.ours == own.keys()
    table.check(listed(name), own, name)


def test_there_and_back_changes_no_byte():
    model = clip_of_config(CONFIG, "a file")
    import_clip(model, open_weights(CASE / "diffusers"))
    theirs = dict(open_weights(CASE / "original").tensors())
    back = dict(clip_keys(3, "original").to_theirs(model.state_dict()))
    assert all(torch.equal(back[name], theirs[name]) for name in back)
    assert theirs.keys() - back.keys() == {"log_scale", "textual.token_embedding.weight"}


def test_images_are_seen_at_the_towers_own_size(folder: Path):
    encoder = ClipVision(folder)
    images = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = encoder.encode(images)
    assert tokens.shape == (2, 5, 12)
    small = torch.nn.functional.interpolate(images, size=(28, 28), mode="bicubic", align_corners=False)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)))
    model = clip_of_config(CONFIG, "a file")
    import_clip(model, open_weights(CASE / "original"))
    expected: Tensor = penultimate(model, ((small + 1) / 2 - mean) / std)
    torch.testing.assert_close(tokens, expected, atol=2e-3, rtol=2e-3)


def test_what_is_no_tower_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no config\.json"):
        ClipVision(tmp_path)
    with pytest.raises(InputError, match="describes a bert, not a clip_vision_model"):
        clip_of_config({"model_type": "bert"}, "a file")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        ClipVision(tmp_path).encode(torch.zeros(1, 3, 8, 8))
