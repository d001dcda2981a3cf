"""Random Llama, T5 and UMT5 models of a few thousand weights, saved as transformers saves real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ["a", "large", "blue", "red", "circle", "star", "moving", "left", "on", "white"]


def _tokenizer(end: bool):
    """Words are tokens; `end` appends the end token, as T5's tokenizer does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if end:
        raw.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )


def _save_llama(folder: Path, seed: int = 0) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.model.norm.weight)  # ones would make the final norm look like "rms"
    model.save_pretrained(folder)
    _tokenizer(end=False).save_pretrained(folder)
    return folder


def _save_t5(folder: Path, kind: str = "t5") -> Path:
    from transformers import T5Config, T5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 32,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 24,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    }
    if kind == "t5":
        model = T5ForConditionalGeneration(T5Config(**sizes))
    else:
        model = UMT5ForConditionalGeneration(UMT5Config(**sizes))
    model.save_pretrained(folder)
    _tokenizer(end=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_llama() -> Callable[..., Path]:
    """`save_llama(folder, seed=0)` writes a four-block Llama."""
    return _save_llama


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def umt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_t5(tmp_path_factory.mktemp("umt5"), "umt5")
