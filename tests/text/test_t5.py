from pathlib import Path

import pytest
import torch

from vdit.text.t5 import T5
from vdit.types import InputError

PROMPTS = ["a red circle", "a large blue star moving left on white", ""]


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_tokens_are_encoder_states_of_the_whole_model(kind: str, request: pytest.FixtureRequest):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder: Path = request.getfixturevalue(kind)
    tokens = T5(str(folder), dtype="float32").encode(PROMPTS)
    assert tokens.mask.sum(1).tolist() == [4, 9, 1]  # each ends with the end token
    model, tokenizer = (
        AutoModelForSeq2SeqLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            expected = model.get_encoder()(tokenizer(prompt, return_tensors="pt").input_ids).last_hidden_state
        torch.testing.assert_close(tokens.values[row][tokens.mask[row]], expected[0], atol=1e-5, rtol=0)


def test_decoder_is_not_loaded(umt5: Path):
    assert not any("decoder" in name for name, _ in T5(str(umt5)).load_model().named_parameters())


def test_cut_prompt_keeps_its_end_token(t5: Path):
    encoder = T5(str(t5), max_tokens=3, dtype="float32")
    with pytest.warns(UserWarning, match="1 of 1 prompts"):
        cut = encoder.encode(["red star moving left"])
    torch.testing.assert_close(cut.values, encoder.encode(["red star"]).values)


def test_what_is_cut_of_a_prompt_is_told_without_weights(t5: Path):
    encoder = T5(str(t5), max_tokens=3)
    prompts = ["red star", "red star moving  left", "", "a é circle"]
    for _ in range(2):  # each time it is asked
        assert encoder.cut(prompts) == ["", "moving  left", "", "circle"]
    assert encoder.cut([]) == []
    assert not encoder.is_loaded


def test_runs_in_bfloat16_and_answers_in_float32(t5: Path):
    full, half = (T5(str(t5), dtype=dtype).encode(PROMPTS).values for dtype in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, atol=0.1, rtol=0.05)


def test_refuses_other_kinds_of_model(llama: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"type llama, not t5.*CausalLM"):
        T5(str(llama)).encode(["red"])
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="T5 is not read from GGUF"):
        T5(str(tmp_path / "m.gguf"))
