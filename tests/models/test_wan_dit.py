"""The Wan transformers: numbers and names, against their authors' code."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from vdit.eval.import_case import BOUND, ImportCase, compare
from vdit.models.published import (
    LAYOUTS,
    backbone_of_config,
    import_backbone,
    keymap_of,
    settings_of_config,
    written_config,
)
from vdit.models.wan.dit import WanDiT
from vdit.types import DenoiserInput, InputError, Slot, Tokens
from vdit.weights.exchange import export_weights
from vdit.weights.source import open_weights

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / "tests/oracle"
CASES = ("wan21_t2v", "wan21_i2v", "wan22_i2v_a14b", "wan22_ti2v_5b")
FULL = {
    "wan_2_1_t2v_1_3b": ("wan2.1_t2v_1.3B", 1_418_996_800),
    "wan_2_1_t2v_14b": ("wan2.1_t2v_14B", 14_288_491_584),
    "wan_2_1_i2v_14b": ("wan2.1_i2v_14B_480p_720p", 16_394_878_784),
    "wan_2_1_flf2v_14b": ("wan2.1_flf2v_14B_720p", 16_395_536_704),
    "wan_2_2_i2v_a14b": ("wan2.2_i2v_A14B_each_expert", 14_288_901_184),
    "wan_2_2_ti2v_5b": ("wan2.2_ti2v_5B", 4_999_787_712),
    "wan_2_1_vace_1_3b": ("wan2.1_vace_1.3B", 2_153_972_032),
    "wan_2_1_vace_14b": ("wan2.1_vace_14B", 17_337_592_896),
    "wan_2_1_fun_camera_1_3b": ("wan2.1_fun_1.3B_control_camera", 1_616_313_152),
    "wan_2_1_fun_camera_14b": ("wan2.1_fun_14B_control_camera", 16_898_128_704),
    "wan_2_2_fun_camera_a14b": ("wan2.2_fun_A14B_control_camera", 14_792_233_024),
    "wan_2_2_fun_camera_5b": ("wan2.2_fun_5B_control_camera", 5_245_802_688),
}
ALSO = {"wan_2_1_t2v_14b": "wan2.2_t2v_A14B_each_expert"}
"""The file of which another model's configuration describes too."""


def config_of(case: str) -> dict:
    return json.loads((ORACLE / case / "config.json").read_text())["diffusers"]


def imported(case: str) -> WanDiT:
    model = backbone_of_config(config_of(case), case).requires_grad_(False).eval()
    import_backbone(model, open_weights(ORACLE / case / "diffusers"))
    return model


def small(**settings) -> WanDiT:
    torch.manual_seed(0)
    sizes = {"text_width": 12, "text_length": 10, "width": 24, "hidden": 32, "heads": 2, "depth": 2}
    model = WanDiT(**{**sizes, "latent_channels": 4, "sigma_channels": 16, **settings}).requires_grad_(False)
    torch.nn.init.normal_(model.patch_out.weight)  # it starts at zero, and would hide all else
    return model.eval()


def told(text: Tokens, **more) -> DenoiserInput:
    latents = torch.randn(2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    return DenoiserInput(latents, torch.tensor([0.9, 0.3]).view(2, 1, 1, 1), text, **more)


def prompt(lengths: tuple[int, int], columns: int) -> Tokens:
    values = torch.randn(2, columns, 12, generator=torch.Generator().manual_seed(2))
    return Tokens(values, torch.arange(columns) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_a_model_computes_what_its_authors_code_does(case: str, layout: str):
    opened = ImportCase.open(ORACLE / case)
    assert opened.layouts == list(LAYOUTS)
    found = compare(layout, opened.compute(layout), opened.expected())
    assert found.passed, found
    assert found.relative <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_the_fixtures_see_a_change_of_any_kind_of_weight(case: str, monkeypatch: pytest.MonkeyPatch):
    """Larger by a tenth, each must fail: else a wrong import could pass."""
    opened = ImportCase.open(ORACLE / case)
    right = opened.compute("diffusers")
    names = [name for name, _ in imported(case).named_parameters() if not name.startswith("blocks.1")]
    # A softmax does not change when all its inputs move together.
    names = [name for name in names if not name.endswith(("to_k.bias", "to_k_image.bias"))]
    assert len(names) > 30
    for name in names:

        def spoilt(model: WanDiT, source, layout, spoil: str = name) -> None:
            import_backbone(model, source, layout)
            model.get_parameter(spoil).data.mul_(1.1)

        monkeypatch.setattr("vdit.eval.import_case.import_backbone", spoilt)
        assert not compare("diffusers", opened.compute("diffusers"), right).passed, name


def published() -> list[tuple[str, str, int, str]]:
    """Configuration, list of a published file, its weights and its layout: all that there are lists of."""
    found = [(file, name, weights) for file, (name, weights) in FULL.items()]
    found += [(file, name, FULL[file][1]) for file, name in ALSO.items()]
    named = [(*entry, layout) for entry in found for layout in LAYOUTS]
    return [entry for entry in named if list_of(entry[1], entry[3]).is_file()]


def list_of(name: str, layout: str) -> Path:
    return ORACLE / "manifests" / f"{name}.{layout}.json.gz"


@pytest.mark.parametrize(("file", "name", "weights", "layout"), published())
def test_every_full_size_model_has_the_names_of_the_published_files(
    file: str, name: str, weights: int, layout: str
):
    settings = yaml.safe_load((ROOT / f"configs/model/{file}.yaml").read_text())["init_args"]
    with torch.device("meta"):
        model = WanDiT(**settings)
    assert sum(p.numel() for p in model.parameters()) == weights
    own = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    theirs = manifest(name, layout)
    table = keymap_of(model, layout)
    assert table.ours == own.keys()
    table.check(theirs, own, name)  # raises on any difference
    config = written_config(model, layout)
    read = settings_of_config(config, name, theirs)
    with torch.device("meta"):
        assert WanDiT(**read).settings == model.settings


def test_every_list_of_a_wan_transformer_is_compared():
    lists = {file.name for file in (ORACLE / "manifests").glob("wan*") if "_vae" not in file.name}
    assert lists == {list_of(name, layout).name for _, name, _, layout in published()}
    assert len(lists) == 22


def manifest(name: str, layout: str) -> Mapping[str, tuple[int, ...]]:
    listed = json.loads(gzip.decompress(list_of(name, layout).read_bytes()))["keys"]
    return {key: tuple(shape) for key, shape in listed}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_imported_is_exported_to_the_byte(case: str, layout: str, tmp_path: Path):
    model = imported(case)
    file = export_weights(model, keymap_of(model, layout), tmp_path / "model.safetensors")
    theirs = dict(open_weights(ORACLE / case / layout).tensors())
    ours = dict(open_weights(file).tensors())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert written_config(model, "diffusers") == config_of(case)


def test_one_key_stands_for_all_the_padding():
    """The authors attend to every padded token; here one of them counts for all."""
    model, text = small(), prompt((3, 10), 10)
    with_zeros = Tokens(text.values * text.mask[..., None], torch.ones_like(text.mask))
    expected = model(told(with_zeros))  # every token attended to, zeros among them
    torch.testing.assert_close(model(told(text)), expected, atol=1e-5, rtol=1e-4)
    short = Tokens(text.values[:1, :3], text.mask[:1, :3])
    one = DenoiserInput(told(text).latents[:1], told(text).sigma[:1], short)
    torch.testing.assert_close(model(one), expected[:1], atol=1e-5, rtol=1e-4)
    dropped = Tokens(text.values[:, :3], torch.ones(2, 3, dtype=torch.bool))
    model.text_length = 3  # no padding at all: another result
    assert (model(told(dropped))[0] - expected[0]).abs().max() > 1e-3


def test_one_sigma_a_clip_is_the_same_sigma_for_every_latent():
    model, inputs = small(), told(prompt((3, 7), 7))
    every = DenoiserInput(inputs.latents, inputs.sigma.expand(2, 3, 4, 6), inputs.text)
    torch.testing.assert_close(model(every), model(inputs), atol=1e-5, rtol=1e-4)


def test_an_image_is_asked_for_and_its_tokens_are_counted():
    text = prompt((3, 7), 7)
    with pytest.raises(InputError, match="needs 5 more channels"):
        small(extra_channels=5)(told(text))
    with pytest.raises(InputError, match="needs 5 more channels"):
        small(extra_channels=5)(told(text, channels=torch.zeros(2, 4, 3, 4, 6)))
    seeing = small(image_width=6, image_places=4)
    with pytest.raises(InputError, match="needs the tokens of an image"):
        seeing(told(text))
    with pytest.raises(InputError, match="takes 4 image tokens, of a first and a last frame, and got 3"):
        seeing(told(text, image_tokens=torch.zeros(2, 3, 6)))
    image = torch.randn(2, 4, 6)
    assert not torch.allclose(
        seeing(told(text, image_tokens=image)), seeing(told(text, image_tokens=image + 1))
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="must leave an even number"):
        small(heads=5)
    with pytest.raises(InputError, match="a prompt has 12 tokens, and this model takes 10"):
        small()(told(prompt((3, 12), 12)))
    with pytest.raises(InputError, match="do not divide into patches"):
        small(patch=(2, 2, 2))(told(prompt((3, 7), 7)))
    with pytest.raises(InputError, match="needs text tokens"):
        small()(DenoiserInput(torch.zeros(1, 4, 1, 2, 2), torch.zeros(1, 1, 1, 1)))
    with pytest.raises(InputError, match="describes a Nothing; known are WanTransformer3DModel"):
        backbone_of_config({"_class_name": "Nothing"}, "a file")
    with pytest.raises(InputError, match="no whole configuration of a WanTransformer3DModel"):
        backbone_of_config({"_class_name": "WanTransformer3DModel"}, "a file")


def test_another_variants_weights_are_refused_with_their_names():
    model = backbone_of_config(config_of("wan21_t2v"), "t2v")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        InputError, match=r"unexpected: .*img_emb.*of another shape: .*patch_embedding\.weight"
    ):
        import_backbone(model, open_weights(ORACLE / "wan21_i2v/original"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_learns():
    model = small().requires_grad_(True).train()
    text, target = prompt((3, 7), 7), torch.randn(2, 4, 3, 4, 6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses: list[Tensor] = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append((model(told(text)) - target).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_the_second_video_of_vace_is_read_as_diffusers_reads_it():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "ffn_dim": 32,
        "num_layers": 3,
        "freq_dim": 16,
    }
    theirs = diffusers.WanVACETransformer3DModel(
        in_channels=4, out_channels=4, text_dim=12, vace_in_channels=6, vace_layers=[0, 2], **sizes
    ).requires_grad_(False)
    for value in theirs.parameters():
        torch.nn.init.normal_(value, std=0.3)
    config = {**theirs.config, "_class_name": "WanVACETransformer3DModel"}
    model = backbone_of_config(config, "diffusers").eval()
    model.text_length = 10
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    table = keymap_of(model, "diffusers")
    model.load_state_dict(dict(table.to_ours(theirs.state_dict().items(), own)))
    text, video = prompt((3, 10), 10), torch.randn(2, 6, 3, 4, 6)
    inputs = told(text, context=video)
    (expected,) = theirs(
        inputs.latents,
        (1000 * inputs.sigma).flatten(),
        text.values * text.mask[..., None],
        control_hidden_states=video,
        return_dict=False,
    )
    with torch.no_grad():
        got = model(inputs)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="needs a second video"):
        model(told(text))


def test_a_camera_is_added_to_the_patches():
    model, text = small(camera_stride=2), prompt((3, 10), 10)
    assert Slot.ADDED in model.slots
    rays = torch.randn(2, 24, 3, 8, 12)
    moved = (model(told(text, added=rays)) - model(told(text, added=torch.zeros_like(rays)))).abs()
    assert moved.amax(dim=(1, 2, 3, 4)).min() > 1e-3
    with pytest.raises(InputError, match="needs rays"):
        model(told(text))
    with pytest.raises(InputError, match="no layout in diffusers"):
        written_config(model, "diffusers")


@pytest.mark.parametrize("training", [False, True])
def test_a_block_compiles_to_one_graph(training: bool):
    model, text = small(extra_channels=3, image_width=5), prompt((3, 10), 10)
    inputs = told(text, channels=torch.randn(2, 3, 3, 4, 6), image_tokens=torch.randn(2, 7, 5))
    model.requires_grad_(training)
    with torch.set_grad_enabled(training):
        expected = model(inputs)
        for block in model.blocks:
            block.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=1e-4)
