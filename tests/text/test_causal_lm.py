import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdit.text.cache import CachedText
from vdit.text.causal_lm import CausalLM
from vdit.types import InputError

PROMPTS = ["a red circle", "a large blue star moving left on white", "star"]


def reference(folder: Path, prompt: str, layer: int) -> torch.Tensor:
    """hidden_states[layer] of the whole model, of one prompt alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        return (
            AutoModelForCausalLM.from_pretrained(folder).eval()(ids, output_hidden_states=True).hidden_states
        )[layer][0]


@pytest.mark.parametrize(("layer", "index"), [(1, 1), (3, 3), (-2, 3), (-3, 2)])
def test_state_without_norm_is_hidden_state_of_whole_model(llama: Path, layer: int, index: int):
    tokens = CausalLM(str(llama), layer=layer, normalise="none").encode(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        expected = reference(llama, prompt, index)
        torch.testing.assert_close(tokens.values[row][tokens.mask[row]], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [None, -1, 4])
def test_final_norm_of_last_layer_is_last_hidden_state(llama: Path, layer: int | None):
    tokens = CausalLM(str(llama), layer=layer, normalise="final_norm").encode(PROMPTS[:1])
    torch.testing.assert_close(tokens.values[0], reference(llama, PROMPTS[0], -1), atol=1e-5, rtol=1e-5)


def test_rms_gives_every_token_unit_root_mean_square_and_keeps_direction(llama: Path):
    rms = CausalLM(str(llama), layer=2, normalise="rms").encode(PROMPTS[:1]).values
    raw = CausalLM(str(llama), layer=2, normalise="none").encode(PROMPTS[:1]).values
    torch.testing.assert_close(rms.square().mean(-1), torch.ones(1, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cosine_similarity(rms, raw, dim=-1), torch.ones(1, 3))


def test_blocks_above_layer_are_not_in_memory(llama: Path):
    encoder = CausalLM(str(llama), layer=2)
    model = encoder.load_model()
    assert len(model.layers) == 2  # type: ignore[arg-type]


def test_prompt_does_not_depend_on_its_batch(llama: Path):
    encoder = CausalLM(str(llama), layer=3, batch_size=2)
    together = encoder.encode(PROMPTS * 2)
    for row, prompt in enumerate(PROMPTS * 2):
        alone = encoder.encode([prompt])
        assert alone.mask.all()
        values = together.values[row][together.mask[row]]
        torch.testing.assert_close(values, alone.values[0], atol=1e-5, rtol=0)


def test_tokens_are_plain_float32_and_padding_is_on_the_right(llama: Path):
    tokens = CausalLM(str(llama), dtype="bfloat16").encode(PROMPTS)
    assert tokens.values.dtype == torch.float32
    assert not tokens.values.requires_grad
    assert not tokens.values.is_inference()
    assert tokens.mask.sum(1).tolist() == [3, 8, 1]
    assert (tokens.mask[:, :-1] >= tokens.mask[:, 1:]).all()
    assert (tokens.values[~tokens.mask] == 0).all()


@pytest.mark.parametrize(("template", "skip"), [("{prompt}", 0), ("<s> {prompt}", 1), ("<s> a {prompt}", 2)])
def test_empty_prompt_is_one_end_token(llama: Path, template: str, skip: int):
    encoder = CausalLM(str(llama), template=template, skip_tokens=skip)
    tokens = encoder.encode(["", "red"])
    assert tokens.mask.sum(1).tolist() == [1, 1]
    assert torch.isfinite(tokens.values).all()
    filled = CausalLM(str(llama), template=template + " </s>", skip_tokens=skip).encode([""])
    torch.testing.assert_close(tokens.values[:1], filled.values)


def test_skipped_tokens_are_seen_but_not_returned(llama: Path):
    whole = CausalLM(str(llama), layer=3).encode(["<s> a red star"]).values
    skipped = CausalLM(str(llama), layer=3, template="<s> a {prompt}", skip_tokens=2).encode(["red star"])
    torch.testing.assert_close(skipped.values, whole[:, 2:])
    unseen = CausalLM(str(llama), layer=3).encode(["red star"]).values
    assert not torch.allclose(skipped.values, unseen, atol=1e-2)


def test_long_prompt_is_cut_and_told_once(llama: Path):
    encoder = CausalLM(str(llama), template="<s> {prompt}", skip_tokens=1, max_tokens=4)
    with pytest.warns(UserWarning, match=r"2 of 3 prompts have more than max_tokens = 4 tokens"):
        tokens = encoder.encode(["red " * 10, "red star", "blue " * 5])
    assert tokens.mask.sum(1).tolist() == [4, 2, 4]
    torch.testing.assert_close(tokens.values[0], encoder.encode(["red red red red"]).values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["red " * 10])


def test_what_is_cut_of_a_prompt_is_told_in_its_own_words(llama: Path):
    encoder = CausalLM(str(llama), template="<s> {prompt} on white", skip_tokens=1, max_tokens=4)
    assert encoder.cut(["a star", "a large star", "a large blue red star left"]) == ["", "white", "star left"]
    cached = CachedText(encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # who keeps texts tells by `cut`
        cached.encode(["a large blue red star left"])
    assert cached.cut(["a large blue red star left"]) == ["star left"]


def test_nothing_loads_before_the_first_encode(llama: Path):
    encoder = CausalLM(str(llama))
    assert encoder.width == 16
    assert len(encoder.fingerprint) == 64
    assert not encoder.is_loaded
    encoder.encode(["red"])
    assert encoder.is_loaded


def test_fingerprint_names_everything_an_embedding_depends_on(
    llama: Path, save_llama: Callable[..., Path], tmp_path: Path
):
    other = save_llama(tmp_path / "other", seed=1)
    retokenised = shutil.copytree(llama, tmp_path / "retokenised")
    text = (retokenised / "tokenizer.json").read_text()
    (retokenised / "tokenizer.json").write_text(text.replace('"left"', '"west"'))
    settings: list[dict] = [
        {},
        {"layer": 2},
        {"template": "<s> {prompt}"},
        {"skip_tokens": 1},
        {"max_tokens": 5},
        {"normalise": "none"},
        {"dtype": "bfloat16"},
        {"tokenizer": str(retokenised)},
        {"model": str(other)},
        {"model": str(retokenised)},
    ]
    names = [CausalLM(**{"model": str(llama), **each}).fingerprint for each in settings]
    assert len(set(names)) == len(names)


def test_fingerprint_follows_contents_not_place_or_speed(llama: Path, tmp_path: Path):
    copied = shutil.copytree(llama, tmp_path / "copy")
    assert CausalLM(str(copied), batch_size=3).fingerprint == CausalLM(str(llama)).fingerprint


@pytest.mark.parametrize("layer", [0, 5, -5, 99])
def test_refuses_layers_that_do_not_exist(llama: Path, layer: int):
    with pytest.raises(InputError, match=rf"layer {layer} is outside 1\.\.4"):
        CausalLM(str(llama), layer=layer).encode(["red"])


def test_refuses_encoder_decoder_models(t5: Path):
    with pytest.raises(InputError, match=r"use vdit\.text\.t5\.T5"):
        CausalLM(str(t5)).encode(["red"])


def test_refuses_weights_of_another_shape(llama: Path, tmp_path: Path):
    broken = shutil.copytree(llama, tmp_path / "broken")
    text = (broken / "config.json").read_text()
    (broken / "config.json").write_text(text.replace('"num_hidden_layers": 4', '"num_hidden_layers": 5'))
    with pytest.raises(InputError, match="weights are missing or have another shape"):
        CausalLM(str(broken)).encode(["red"])


@pytest.mark.parametrize("template", ["no place for it", "{prompt} {prompt}"])
def test_refuses_templates_without_one_place_for_the_prompt(llama: Path, template: str):
    with pytest.raises(InputError, match="once is needed"):
        CausalLM(str(llama), template=template)


def test_refuses_no_prompts_and_sizes_below_one(llama: Path):
    with pytest.raises(InputError, match="0 prompts"):
        CausalLM(str(llama)).encode([])
    with pytest.raises(InputError, match="max_tokens 0"):
        CausalLM(str(llama), max_tokens=0)
