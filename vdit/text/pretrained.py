"""What encoders that run a Hugging Face model share: lazy loading, tokens, batches sorted by length."""

import hashlib
import json
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vdit.devices import available_device
from vdit.first_few import first_few
from vdit.text.encoder import CutPrompts, DType, TextEncoder, pad
from vdit.text.quiet import quiet_transformers
from vdit.text.source import ModelSource, locate
from vdit.types import InputError, Tokens

__all__ = ["PretrainedEncoder"]

_FORMAT = 1  # part of the fingerprint: raise it when the same settings come to give other embeddings
_PROMPT = "{prompt}"
_ADDED = 4  # tokens that stand for no letter of a text, at most: its beginning, its end, a space before it


class PretrainedEncoder(TextEncoder):
    """A Hugging Face model as a text encoder. Weights load at the first `encode`, not before.

    Args:
        model: see `vdit.text.source.locate`.
        tokenizer: likewise, where the tokenizer is not with the model; None means that it is.
        template: the text that is encoded, with `{prompt}` where the prompt goes.
        skip_tokens: how many tokens at the start of a filled template are left out of the result.
        max_tokens: limit of the tokens of a result; longer prompts are cut, with one warning; see `cut`.
        dtype: the precision the model runs in. Results are float32 always.
        device: where the model runs. Results are on the CPU always.
        batch_size: prompts that the model sees at once.
        revision: branch, tag or commit, for a name of the hub; give a commit where caches must last.
    """

    max_tokens: int  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        model: Path | str,
        *,
        tokenizer: Path | str | None,
        template: str,
        skip_tokens: int,
        max_tokens: int,
        dtype: DType,
        device: str,
        batch_size: int,
        revision: str,
    ) -> None:
        if template.count(_PROMPT) != 1:
            raise InputError(
                f'template "{template}" holds {_PROMPT} {template.count(_PROMPT)} times; once is needed'
            )
        if max_tokens < 1 or batch_size < 1 or skip_tokens < 0:
            raise InputError(
                f"max_tokens {max_tokens}, batch_size {batch_size} and skip_tokens {skip_tokens}: "
                f"the first two must be 1 or more, the last 0 or more"
            )
        self.source = locate(str(model), revision)
        self.tokenizer_source = self.source if tokenizer is None else locate(str(tokenizer), revision)
        self.template = template
        self.skip_tokens = skip_tokens
        self.max_tokens = max_tokens
        self.dtype: DType = dtype
        self.device = available_device(device)
        self.batch_size = batch_size
        self._model: nn.Module | None = None
        self._warned = False

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    @cached_property
    def fingerprint(self) -> str:
        settings = {
            "format": _FORMAT,
            "class": type(self).__name__,
            "model": self.source.identity,
            "tokenizer": self.tokenizer_source.identity,
            "template": self.template,
            "skip_tokens": self.skip_tokens,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            **self.settings(),
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What else an embedding depends on; JSON values, part of the fingerprint."""

    @abstractmethod
    def load_model(self) -> nn.Module:
        """The model, on the CPU, of the precision asked for."""

    @abstractmethod
    def hidden(
        self, model: nn.Module, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n d"]:
        """The embeddings of a padded batch of token numbers."""

    def mended(self, prompt: str) -> str:
        """The prompt as the model was trained to read prompts; a hook."""
        return prompt

    def place(self, source: ModelSource) -> ModelSource:
        """Where the files that `source` names can be read by transformers; a hook for other file formats."""
        return source

    @cached_property
    def config(self) -> Any:
        """The model's configuration, as transformers reads it."""
        from transformers import AutoConfig

        return self._read(AutoConfig, self.source)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers reads it."""
        from transformers import AutoTokenizer

        return self._read(AutoTokenizer, self.tokenizer_source)

    def encode(self, prompts: Sequence[str]) -> Tokens:
        if not prompts:
            raise InputError("there are 0 prompts to encode; give at least one")
        ids = self._ids(prompts)
        if self._model is None:
            self._model = self.load_model().eval().requires_grad_(False).to(self.device)
        # Neighbours of like length waste the least padding. The order cannot be seen in the result.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            found.update(zip(rows, self._batch(self._model, [ids[i] for i in rows]), strict=True))
        # Padding copies, so what leaves are ordinary tensors that autograd may save.
        return pad([found[i] for i in range(len(ids))])

    def release(self) -> None:
        self._model = None

    def _batch(self, model: nn.Module, ids: list[list[int]]) -> list[Float[Tensor, "_ d"]]:
        lengths = [len(row) for row in ids]
        padded = torch.tensor([row + [0] * (max(lengths) - len(row)) for row in ids], device=self.device)
        mask = torch.arange(max(lengths), device=self.device) < padded.new_tensor(lengths)[:, None]
        with torch.inference_mode():
            values = self.hidden(model, padded, mask).float().cpu()
        return [row[self.skip_tokens : n] for row, n in zip(values, lengths, strict=True)]

    def cut(self, prompts: Sequence[str]) -> list[str]:
        texts, limit = self._texts(prompts), self.skip_tokens + self.max_tokens
        if all(text.isascii() and len(text) + _ADDED <= limit for text in texts):
            return [""] * len(texts)  # whatever the tokenizer, which takes seconds to read
        after = self.template.partition(_PROMPT)[2]
        with quiet_transformers():
            whole: list[list[int]] = self.tokenizer(texts)["input_ids"] if texts else []
            left_out = {
                i: self._rest(texts[i], row, limit) for i, row in enumerate(whole) if len(row) > limit
            }
        # What follows the prompt in a template is told where nothing else is lost.
        return [left_out.get(i, "").removesuffix(after) or left_out.get(i, "") for i in range(len(texts))]

    def _rest(self, text: str, whole: list[int], limit: int) -> str:
        """The end of a text that its first `limit` tokens do not cover."""
        kept = self.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        # The end token of those that add one is kept, in the place of a word.
        first = next((i for i, (a, b) in enumerate(zip(whole, kept, strict=False)) if a != b), len(kept))
        if not self.tokenizer.is_fast:  # these do not know where in the text a token stands
            return self.tokenizer.decode(whole[first:], skip_special_tokens=True).strip()
        places = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return text[places[first][0] :].strip()

    def _texts(self, prompts: Sequence[str]) -> list[str]:
        """The filled templates."""
        return [self.template.replace(_PROMPT, self.mended(prompt)) for prompt in prompts]

    def _ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token numbers of the filled templates: more than `skip_tokens` of them, cut where too many."""
        texts, limit = self._texts(prompts), self.skip_tokens + self.max_tokens
        with quiet_transformers():
            ids: list[list[int]] = self.tokenizer(texts)["input_ids"]
            long = [i for i, row in enumerate(ids) if len(row) > limit]
            if long:
                # The tokenizer's own truncation keeps the end token of those that add one.
                cut = self.tokenizer([texts[i] for i in long], truncation=True, max_length=limit)["input_ids"]
                for i, row in zip(long, cut, strict=True):
                    ids[i] = row
        if long and not self._warned:
            self._warned = True
            warnings.warn(
                f"{len(long)} of {len(prompts)} prompts have more than max_tokens = {self.max_tokens} tokens "
                f'and are cut, such as "{prompts[long[0]][:60]}..." '
                "(`cut` tells what is left out of each)",
                CutPrompts,
                stacklevel=3,
            )
        return [row if len(row) > self.skip_tokens else [*row, *self._end(row)] for row in ids]

    def _end(self, row: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise InputError(
                f'text encoder "{self.source.name}": an empty prompt has no tokens and the tokenizer no end '
                f"token; put a word after {_PROMPT} in the template"
            )
        return [end] * (self.skip_tokens + 1 - len(row))

    def _read(self, kind: Any, source: ModelSource, **options: Any) -> Any:
        """What transformers reads there. Raises `InputError` where it cannot."""
        found = self.place(source)
        place, where = found.pretrained()
        try:
            with quiet_transformers():
                return kind.from_pretrained(place, **where, **options)
        except Exception as error:  # a damaged file fails in its format's own way
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            remedy = (
                "check the name, or fetch it where there is a network (hf download NAME) and give the folder"
                if source.path is None
                else "give a folder with config.json, the tokenizer's files and safetensors weights"
            )
            raise InputError(f'text encoder "{source.name}" cannot be read: {reason}; {remedy}') from error

    def read_model(self, kind: Any, config: Any) -> nn.Module:
        """The weights, every one of which must be there. Raises `InputError` where one is not."""
        model, report = self._read(
            kind, self.source, config=config, dtype=getattr(torch, self.dtype), output_loading_info=True
        )
        wrong = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
        if wrong:
            raise InputError(
                f'text encoder "{self.source.name}": {len(wrong)} weights are missing or have another shape '
                f"({first_few(wrong, most=3)}); the files are of another model, or incomplete"
            )
        return model
