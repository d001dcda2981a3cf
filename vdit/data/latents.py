"""Latents of a whole source, encoded once and addressed by what they were made from.

A cache file is named by the sha256 of the codec's and the source's fingerprints: with another codec, other
videos, captions or settings there is another name, so a stale file is never found, let alone used.
"""

import errno
import hashlib
import json
import math
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from os import fsync
from pathlib import Path
from typing import IO, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdit.data.stack import LatentClip, stack
from vdit.types import Clip, ClipBatch, ClipSource, InputError

__all__ = ["Encode", "FeaturedSource", "LatentCache", "LatentSource"]

Encode = Callable[[Float[Tensor, "b c t h w"]], Float[Tensor, "b *latent"]]
Compute = Callable[[ClipBatch], Float[Tensor, "b *feature"]]
Progress = Callable[[int, int], None]

# The header of a safetensors file names offsets that are known only at the end, so its place is kept free.
_HEADER_BYTES = 4096

_FORMAT = "1"  # part of the name: raise it when the layout of the file changes

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class _Said(NamedTuple):
    """What is kept of a clip beside its latents."""

    id: str
    caption: str
    fps: float


_Batch = tuple[list[Clip], Float[Tensor, "b c t h w"]]


class LatentSource:
    """The latents of a cache file, by clip number; `fingerprint` is the key of the file.

    Args:
        path: the cache file.
        fingerprint: the key it must have.
        memory_bytes: latents that take no more are read at once and stay in memory; of more, each clip is
            read when asked for.

    Raises:
        InputError: the file is damaged or was made from something else.
    """

    def __init__(self, path: Path, fingerprint: str, memory_bytes: int = 2**30):
        try:
            self._file = safe_open(path, framework="pt")
            texts = json.loads(self._file.get_tensor("texts").numpy().tobytes())
            self._said = [_Said(*row) for row in texts]
            self._latents = self._file.get_slice("latents")
            if path.stat().st_size <= memory_bytes:
                self._latents = self._latents[:].clone()  # a slice is a view of the file
            stored = self._file.metadata().get("key")
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"the latent cache {path} is damaged ({error}); delete it to encode again"
            ) from error
        if stored != fingerprint:
            raise InputError(
                f"the latent cache {path} was made from other videos or another codec; delete it"
            )
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._said)

    def __getitem__(self, index: int) -> LatentClip:
        said = self._said[index]
        return LatentClip(said.id, self._latents[index], said.caption, said.fps)

    def caption(self, index: int) -> str:
        """The caption of clip `index`."""
        return self._said[index].caption


class FeaturedSource:
    """Latents with what else was made of the same clips.

    Args:
        latents: of the clips.
        features: cache files of the same clips, by the name of the condition that reads them.
    """

    def __init__(self, latents: LatentSource, features: Mapping[str, LatentSource]) -> None:
        assert all(len(source) == len(latents) for source in features.values())
        self.latents, self.features = latents, features

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> LatentClip:
        found = {name: source[index].latents for name, source in self.features.items()}
        return replace(self.latents[index], features=found)


@dataclass(frozen=True)
class LatentCache:
    """A folder of encoded sources.

    Files appear whole or not at all. A process that is killed leaves a `.partial` file, which nothing reads.

    Attributes:
        folder: where the files stand; made when needed.
        dtype: how latents are stored; bfloat16 halves the files.
    """

    folder: Path
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if self.dtype not in _DTYPES:
            raise InputError(f"latents can be stored as {', '.join(map(str, _DTYPES))}, not as {self.dtype}")

    def path(self, source_fingerprint: str, codec_fingerprint: str) -> Path:
        """The file for this source and codec, which may not exist yet."""
        return Path(self.folder) / f"{self._key(source_fingerprint, codec_fingerprint)}.safetensors"

    def encode(
        self,
        source: ClipSource,
        encode: Encode,
        codec_fingerprint: str,
        batch: int = 4,
        progress: Progress | None = None,
    ) -> LatentSource:
        """The latents of all clips of `source`, from the folder, or encoded now and kept there.

        Args:
            source: the clips, all of one shape.
            encode: pixels `b c t h w` in [-1, 1] to normalised latents; run without gradients.
            codec_fingerprint: changes whenever `encode` would give other latents.
            batch: clips encoded at once.
            progress: called with (clips done, clips in all) after each batch.

        Raises:
            InputError: the disk is too small or full, the clips differ in shape, or latents are not finite.
        """

        def encoded(batch: ClipBatch) -> Tensor:
            assert batch.pixels is not None  # clips have pixels
            return encode(batch.pixels)

        return self.compute(source, encoded, codec_fingerprint, batch, progress)

    def compute(
        self,
        source: ClipSource,
        compute: Compute,
        fingerprint: str,
        batch: int = 4,
        progress: Progress | None = None,
    ) -> LatentSource:
        """As `encode`, of anything that has a row a clip; `fingerprint` changes with what `compute` gives."""
        key = self._key(source.fingerprint, fingerprint)
        path = self.path(source.fingerprint, fingerprint)
        if path.exists():
            return LatentSource(path, key)
        if not len(source):
            raise InputError("there are no clips to encode; give a source with at least one")
        batches = _encoded(source, compute, batch, self.dtype)
        first = next(batches)
        needed = len(source) * first[1][0].nbytes
        with _written_aside(path, needed) as file:
            _write(file, key, chain([first], batches), len(source), progress)
        return LatentSource(path, key)

    def _key(self, source_fingerprint: str, codec_fingerprint: str) -> str:
        parts = (_FORMAT, str(self.dtype), codec_fingerprint, source_fingerprint)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write(
    file: IO[bytes], key: str, batches: Iterable[_Batch], total: int, progress: Progress | None
) -> None:
    done: list[_Said] = []
    shape, dtype = (0,), torch.float32
    file.write(b" " * _HEADER_BYTES)
    for clips, latents in batches:
        if done and shape != latents.shape[1:]:
            raise InputError(
                f"latents of one cache must have one shape, but {done[0].id} is {tuple(shape)} "
                f"and {clips[0].id} is {tuple(latents.shape[1:])}"
            )
        shape, dtype = latents.shape[1:], latents.dtype
        file.write(latents.view(torch.uint8).numpy().data)
        done.extend(_Said(clip.id, clip.caption, clip.fps) for clip in clips)
        if progress:
            progress(len(done), total)
    written = file.write(json.dumps(done).encode())
    file.seek(0)
    file.write(_header(key, (total, *shape), dtype, written))


def _encoded(source: ClipSource, compute: Compute, batch: int, dtype: torch.dtype) -> Iterator[_Batch]:
    """Clips and their latents in main memory, a batch at a time."""
    for start in range(0, len(source), batch):
        clips = [source[number] for number in range(start, min(start + batch, len(source)))]
        with torch.no_grad():
            latents = compute(stack(clips)).to("cpu", dtype).contiguous()
        for clip, one in zip(clips, latents, strict=True):
            if not torch.isfinite(one).all():
                raise InputError(
                    f"the codec gives latents of {clip.id} that are not finite in {dtype}; "
                    f"encode and store in float32"
                )
        yield clips, latents


def _header(key: str, shape: tuple[int, ...], dtype: torch.dtype, text_bytes: int) -> bytes:
    """The head of a safetensors file, padded to the place kept for it; the format allows spaces."""
    latents_end = dtype.itemsize * math.prod(shape)
    end = latents_end + text_bytes
    header = {
        "__metadata__": {"key": key},
        "latents": {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (0, latents_end)},
        "texts": {
            "dtype": "U8",
            "shape": (text_bytes,),
            "data_offsets": (latents_end, end),
        },
    }
    return (_HEADER_BYTES - 8).to_bytes(8, "little") + json.dumps(header).encode().ljust(_HEADER_BYTES - 8)


@contextmanager
def _written_aside(path: Path, needed: int) -> Iterator[IO[bytes]]:
    """A file for `needed` bytes that takes the name `path` when the block ends well, else vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    refusal = InputError(
        f"the latent cache does not fit into {path.parent}: it needs {needed:,} bytes and {free:,} were "
        f"free; free some space or name another folder"
    )
    if free < needed:
        raise refusal
    aside = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise refusal from error
        raise
    finally:
        aside.unlink(missing_ok=True)
