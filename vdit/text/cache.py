"""Embeddings kept by what they were made from, in memory and in a folder that many processes may share."""

import hashlib
import os
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdit.text.encoder import CutPrompts, DType, TextEncoder, unpad
from vdit.text.table import TokenTable
from vdit.types import InputError, Tokens
from vdit.weights.files import disk_refusal, save_tensors

__all__ = ["CachedText"]

# Written at once by `prepare`: what an interruption can lose, and what one file holds.
_CHUNK_PROMPTS = 1024


class CachedText(TextEncoder):
    """A text encoder that computes no prompt twice, and loads no weights where it has seen all prompts.

    An embedding is addressed by the sha256 of the encoder's fingerprint and the prompt, so a stale one is
    never found. The folder holds, for each fingerprint, chunk files (safetensors, one tensor `n d` a prompt,
    without padding); they are written aside and renamed, and never changed. Two processes that miss the same
    prompt both compute it, which costs time and space but no correctness.

    Args:
        encoder: computes what is missing.
        folder: where chunks are kept; None keeps embeddings in memory alone.
        dtype: precision of what is kept. bfloat16 loses nothing where the encoder ran in bfloat16 and does
            not normalise afterwards; float16 keeps 11 bits of a normalised state.
        memory_bytes: limit of what is held in memory from one batch to the next when there is a folder; the
            longest unused goes first.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        folder: str | Path | None = None,
        dtype: DType = "float32",
        memory_bytes: int = 2**30,
    ) -> None:
        self.encoder = encoder
        self.max_tokens = encoder.max_tokens
        self.folder = None if folder is None else Path(folder).expanduser()
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.memory_bytes = memory_bytes
        self._memory = TokenTable()
        self._chunks: dict[str, Path] = {}
        self._seen: set[Path] = set()

    @property
    def width(self) -> int:
        # A kept embedding tells it sooner than the encoder, which may have files to convert or to fetch.
        self._look()
        for key, chunk in list(self._chunks.items())[:1]:
            for values in self._read(chunk, [key]).values():
                return values.shape[1]
        return self.encoder.width

    @property
    def fingerprint(self) -> str:
        if self.dtype is torch.float32:
            return self.encoder.fingerprint
        return hashlib.sha256(f"{self.encoder.fingerprint} {self.dtype}".encode()).hexdigest()

    def encode(self, prompts: Sequence[str]) -> Tokens:
        if not prompts:
            raise InputError("there are 0 prompts to encode; give at least one")
        if unknown := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._memory]:
            found = self._find(unknown)
            self._memory.add(found)
            self._memory.add(self._compute([prompt for prompt in unknown if prompt not in found]))
        tokens = self._memory.batch(prompts)
        if self.folder is not None:
            self._memory.shrink(self.memory_bytes)
        return Tokens(tokens.values.float(), tokens.mask)

    def prepare(self, prompts: Iterable[str], progress: Callable[[int, int], None] | None = None) -> int:
        """Embeds all prompts that are missing; returns how many those were.

        Args:
            prompts: repeats cost nothing.
            progress: called with (done, missing) after each chunk.
        """
        # By length, so that the batches of a chunk hold prompts of like length.
        missing = sorted(self._absent(prompts), key=lambda prompt: (len(prompt), prompt))
        for start in range(0, len(missing), _CHUNK_PROMPTS):
            computed = self._compute(missing[start : start + _CHUNK_PROMPTS])
            if self.folder is None:
                self._memory.add(computed)
            if progress is not None:
                progress(min(start + _CHUNK_PROMPTS, len(missing)), len(missing))
        return len(missing)

    def cut(self, prompts: Sequence[str]) -> list[str]:
        return self.encoder.cut(prompts)

    def release(self) -> None:
        self.encoder.release()

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self.fingerprint}\0{prompt}".encode()).hexdigest()

    @property
    def _place(self) -> Path | None:
        return None if self.folder is None else self.folder / self.fingerprint[:16]

    def _absent(self, prompts: Iterable[str]) -> list[str]:
        self._look()
        unseen = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._memory]
        return [prompt for prompt in unseen if self._key(prompt) not in self._chunks]

    def _find(self, prompts: Sequence[str]) -> dict[str, Float[Tensor, "_ d"]]:
        """What is in the folder, by prompt."""
        found: dict[str, Tensor] = {}
        wanted = {self._key(prompt): prompt for prompt in prompts}
        if any(key not in self._chunks for key in wanted):
            self._look()
        by_chunk: defaultdict[Path, list[str]] = defaultdict(list)
        for key in wanted:
            if key in self._chunks:
                by_chunk[self._chunks[key]].append(key)
        for chunk, keys in by_chunk.items():
            for key, values in self._read(chunk, keys).items():
                found[wanted[key]] = values
        return found

    def _look(self) -> None:
        """Takes note of chunks that have appeared, by this process or another."""
        if self._place is None or not self._place.is_dir():
            return
        for chunk in sorted(self._place.glob("*.safetensors")):
            if chunk not in self._seen:
                self._seen.add(chunk)
                self._chunks.update(dict.fromkeys(self._read(chunk, None), chunk))

    def _read(self, chunk: Path, keys: Sequence[str] | None) -> dict[str, Tensor]:
        """The tensors of a chunk; of all its keys, without reading values, where `keys` is None."""
        try:
            with safe_open(chunk, framework="pt") as file:
                if keys is None:
                    return dict.fromkeys(file.keys(), torch.empty(0))
                return {key: file.get_tensor(key) for key in keys}
        except FileNotFoundError:
            reason = "it is gone"
        except SafetensorError as error:
            reason = str(error)
            os.replace(chunk, chunk.with_suffix(".damaged"))
        warnings.warn(
            f"the text cache chunk {chunk} cannot be read ({reason}); its prompts are embedded again",
            stacklevel=2,
        )
        self._chunks = {key: path for key, path in self._chunks.items() if path != chunk}
        return {}

    def _compute(self, prompts: list[str]) -> dict[str, Float[Tensor, "_ d"]]:
        if not prompts:
            return {}
        # Rounded, lest a first and a later answer differ.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CutPrompts)  # `cut` tells, for kept prompts too
            values = [row.to(self.dtype) for row in unpad(self.encoder.encode(prompts))]
        if self._place is not None:
            keys = [self._key(prompt) for prompt in prompts]
            self._write(self._place, dict(zip(keys, values, strict=True)))
        return dict(zip(prompts, values, strict=True))

    def _write(self, place: Path, tensors: dict[str, Float[Tensor, "_ d"]]) -> None:
        chunk = place / f"{uuid.uuid4().hex}.safetensors"
        partial = chunk.with_suffix(".partial")
        try:
            place.mkdir(parents=True, exist_ok=True)
            save_tensors(tensors, partial, {"fingerprint": self.fingerprint})
            # safetensors writes for the owner alone; the cache is shared as far as its folder is.
            partial.chmod(place.stat().st_mode & 0o666)
            os.replace(partial, chunk)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise disk_refusal(error, place, "Embeddings written before are kept.") from error
        self._seen.add(chunk)
        self._chunks.update(dict.fromkeys(tensors, chunk))
