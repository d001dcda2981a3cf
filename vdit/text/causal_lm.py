"""A causal language model as a text encoder: a hidden state of any decoder."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vdit.text.depth import keep_blocks
from vdit.text.encoder import DType
from vdit.text.gguf import converted
from vdit.text.pretrained import PretrainedEncoder
from vdit.text.source import ModelSource

__all__ = ["CausalLM", "Normalise"]

Normalise = Literal["rms", "final_norm", "none"]


class CausalLM(PretrainedEncoder):
    """Token states of a decoder-only language model (Llama, Qwen, Gemma, ...; also from a GGUF file).

    The first token a causal model sees becomes its attention sink: from some layer on its state is one huge
    vector, the same for every prompt (SmolLM2-135M: norm 26,800 against 180 elsewhere at layer 15), and what
    the first word said is no longer in it. So let the template begin with a token that may be lost, and skip
    it: `template="<|im_start|>{prompt}", skip_tokens=1`. The other tokens grow with depth (norm 2 at the
    embedding, 160 at layer 10, 700 at layer 30), hence `normalise`.

    Args:
        model: a Hugging Face name, a folder, a `.gguf` file, or `package:NAME`, the GGUF file that an
            installed package carries. A GGUF file is converted once (`vdit.text.gguf.converted`).
        layer: which hidden state to take: k is what follows block k, -1 what follows the last one (as in
            `hidden_states` of transformers); None means -1. Blocks above it are never loaded.
        template: the text that is encoded, with `{prompt}` where the prompt goes.
        skip_tokens: how many tokens at the start of a filled template are left out of the result.
        max_tokens: limit of the tokens of a result, after `skip_tokens`; longer prompts are cut.
        normalise: "rms" divides each token by its root mean square; "final_norm" applies the model's last
            norm, whose scales were learned for the last layer; "none" leaves the state as it is, as
            HunyuanVideo takes it.
        dtype: the precision the model runs in.
        tokenizer: where the tokenizer is, if not with the model.
        device: where the model runs.
        batch_size: prompts that the model sees at once.
        revision: branch, tag or commit, for a name of the hub.

    Raises:
        InputError: the files are absent or unusable, or the layer does not exist.
    """

    def __init__(
        self,
        model: Path | str,
        layer: int | None = None,
        template: str = "{prompt}",
        skip_tokens: int = 0,
        max_tokens: int = 64,
        normalise: Normalise = "rms",
        dtype: DType = "float32",
        tokenizer: Path | str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        revision: str = "main",
    ) -> None:
        super().__init__(
            model,
            tokenizer=tokenizer,
            template=template,
            skip_tokens=skip_tokens,
            max_tokens=max_tokens,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            revision=revision,
        )
        self.layer = layer
        self.normalise: Normalise = normalise

    def settings(self) -> dict[str, Any]:
        return {"layer": self.layer, "normalise": self.normalise}

    def place(self, source: ModelSource) -> ModelSource:
        if source.path is None or not source.is_gguf:
            return source
        return replace(source, path=converted(source.path, self.layer))

    def load_model(self) -> nn.Module:
        from transformers import AutoModel

        config = deepcopy(self.config)
        # A converted GGUF file has been cut already.
        keep_blocks(config, None if self.source.is_gguf else self.layer, self.source.name)
        return self.read_model(AutoModel, config)

    def hidden(
        self, model: nn.Module, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        if self.normalise == "final_norm":
            return model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        state = _before_final_norm(model, ids, mask).float()
        if self.normalise == "none":
            return state
        return state * torch.rsqrt(state.square().mean(dim=-1, keepdim=True) + 1e-6)


def _before_final_norm(
    model: nn.Module, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, "b n d"]:
    """What leaves the last block; transformers returns it only after the final norm."""
    seen: list[Tensor] = []

    def keep(_block: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    hook = _blocks(model)[-1].register_forward_hook(keep)
    try:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        hook.remove()
    return seen[0]


def _blocks(model: nn.Module) -> nn.ModuleList:
    """The list of blocks. Families name it `layers` or `h`; it is the first list of that length in all."""
    total = model.config.num_hidden_layers  # type: ignore[union-attr]
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == total)
