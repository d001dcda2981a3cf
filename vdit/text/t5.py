"""The encoders of T5 and UMT5."""

from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vdit.text.cleaning import cleaned
from vdit.text.encoder import DType
from vdit.text.pretrained import PretrainedEncoder
from vdit.types import InputError

__all__ = ["T5"]


class T5(PretrainedEncoder):
    """The encoder half of T5, mT5 or UMT5; the decoder's weights are never loaded.

    Raffel et al. 2020; UMT5 (one position bias a block, many languages): Chung et al. 2023. Run it in
    bfloat16 or float32: the activations of T5 overflow float16.

    Args:
        model: a Hugging Face name (`owner/name` or `owner/name/subfolder`) or a folder.
        max_tokens: limit of the tokens of a prompt, its end token included; longer prompts are cut.
        template: the text that is encoded, with `{prompt}` where the prompt goes.
        clean: whether prompts are mended first, as Wan's authors do (`vdit.text.cleaning`).
        dtype: the precision the model runs in.
        tokenizer: where the tokenizer is, if not with the model.
        device: where the model runs.
        batch_size: prompts that the model sees at once.
        revision: branch, tag or commit, for a name of the hub.

    Raises:
        InputError: the files are absent or unusable, or hold no T5.
    """

    def __init__(
        self,
        model: Path | str,
        max_tokens: int = 512,
        template: str = "{prompt}",
        clean: bool = False,
        dtype: DType = "bfloat16",
        tokenizer: Path | str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        revision: str = "main",
    ) -> None:
        super().__init__(
            model,
            tokenizer=tokenizer,
            template=template,
            skip_tokens=0,
            max_tokens=max_tokens,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            revision=revision,
        )
        self.clean = clean
        if dtype == "float32":  # 11 bits of it would be seen in a video
            self.kept = "float32"
        if self.source.is_gguf:
            raise InputError(f'text encoder "{model}": T5 is not read from GGUF; give a folder or a hub name')

    def settings(self) -> dict[str, Any]:
        return {"clean": True} if self.clean else {}

    def mended(self, prompt: str) -> str:
        return cleaned(prompt) if self.clean else prompt

    def load_model(self) -> nn.Module:
        from transformers import AutoModelForTextEncoding

        if self.config.model_type not in {"t5", "mt5", "umt5"}:
            raise InputError(
                f'text encoder "{self.source.name}" is of type {self.config.model_type}, not t5, mt5 or '
                f"umt5; for a decoder-only language model use vdit.text.causal_lm.CausalLM"
            )
        return self.read_model(AutoModelForTextEncoding, self.config)

    def hidden(
        self, model: nn.Module, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        return model(input_ids=ids, attention_mask=mask).last_hidden_state
