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
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from os import fsync
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdit.data.stack import LatentClip, stack
from vdit.data.unreadable import UnreadableClip, first_readable, read_clip, readable
from vdit.devices import out_of_memory, within_memory
from vdit.types import Clip, ClipBatch, ClipSource, InputError

__all__ = ["MEMORY_BYTES", "Compute", "FeaturedSource", "LatentCache", "LatentSource", "Latents"]

Compute = Callable[[ClipBatch], Float[Tensor, "b *feature"]]
Progress = Callable[[int, int], None]

MEMORY_BYTES = 2**30
"""Of a source's latents that stay in memory, unless told."""

# The header of a safetensors file names offsets that are known only at the end, so its place is kept free.
_HEADER_BYTES = 4096

_FORMAT = "1"  # part of the name: raise it when the layout of the file changes

UNREAD = "a clip that was not encoded"
"""The id of a row that is another clip's."""

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class _Said(NamedTuple):
    """What is kept of a clip beside its latents; `unreadable` says why its latents are another clip's."""

    id: str
    caption: str
    fps: float
    unreadable: str = ""


_Batch = tuple[list[_Said], dict[str, Float[Tensor, "b *latent"]]]


class LatentSource:
    """The latents of a cache file, by clip number; `fingerprint` is the key of the file.

    A clip that could not be read when the file was made raises UnreadableClip.

    Args:
        path: the cache file.
        fingerprint: the key it must have.
        memory_bytes: latents that take no more are read at once and stay in memory; of more, each clip is
            read when asked for.

    Raises:
        InputError: the file is damaged or was made from something else.
    """

    def __init__(self, path: Path, fingerprint: str, memory_bytes: int = MEMORY_BYTES):
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

    @property
    def missing(self) -> dict[int, str]:
        """Why, by number, for clips that could not be read."""
        return {number: said.unreadable for number, said in enumerate(self._said) if said.unreadable}

    def __getitem__(self, index: int) -> LatentClip:
        said = self._said[index]
        if said.unreadable:
            raise UnreadableClip(said.id, said.unreadable)
        return LatentClip(said.id, self._latents[index], said.caption, said.fps)

    def caption(self, index: int) -> str:
        """The caption of clip `index`."""
        return self._said[index].caption


class Latents(Protocol):
    """Latents, or other rows that are kept of clips, by clip number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LatentClip: ...

    @property
    def missing(self) -> Mapping[int, str]: ...


class FeaturedSource:
    """Latents with what else was made of the same clips.

    Args:
        latents: of the clips.
        features: rows of the same clips, by the name of the condition that reads them.
    """

    def __init__(self, latents: Latents, features: Mapping[str, Latents]) -> None:
        assert all(len(source) == len(latents) for source in features.values())
        self.latents, self.features = latents, features

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def missing(self) -> dict[int, str]:
        """Why, by number, for clips of which something could not be made, because they could not be read."""
        return dict(ChainMap(*(dict(rows.missing) for rows in (self.latents, *self.features.values()))))

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

    def compute(
        self,
        source: ClipSource,
        wanted: Mapping[str, tuple[str, Compute]],
        batch: int = 4,
        progress: Progress | None = None,
        memory_bytes: int = MEMORY_BYTES,
        stand_in: Callable[[], Clip] | None = None,
    ) -> dict[str, LatentSource]:
        """What is made of all clips of `source`, from the folder, or computed now and kept there.

        Several things are made at once: each clip is read, or drawn, no more than once. Of a clip that cannot
        be read another stands in its place, and the file says so.

        Args:
            source: the clips, all of one shape.
            wanted: by name, a fingerprint, and what makes of a batch a row a clip, run without gradients; the
                fingerprint changes whenever the rows would.
            batch: clips computed at once.
            progress: called with (clips done, clips in all) after each batch.
            memory_bytes: see `LatentSource`.
            stand_in: a clip that can be read; the first one of `source`, where it is None.

        Raises:
            InputError: the disk is too small or full, the rows differ in shape, or are not finite, or a clip
                alone is too large for the memory that there is; the first clips cannot be read.
            DiskError: the disk failed while clips were read, for a reason that may pass.
        """
        keys = {name: self._key(source.fingerprint, said) for name, (said, _) in wanted.items()}
        paths = {name: self.path(source.fingerprint, said) for name, (said, _) in wanted.items()}
        missing = {name: compute for name, (_, compute) in wanted.items() if not paths[name].exists()}
        if missing and not len(source):
            raise InputError("there are no clips to encode; give a source with at least one")
        if missing:
            stand_in = stand_in or partial(first_readable, source)
            batches = _computed(source, missing, batch, self.dtype, stand_in)
            first = next(batches)
            with ExitStack() as files:
                writers = {}
                for name, rows in first[1].items():
                    file = files.enter_context(_written_aside(paths[name], len(source) * rows[0].nbytes))
                    writers[name] = _Writer(file, keys[name])
                for said, results in chain([first], batches):
                    for name, rows in results.items():
                        writers[name].add(said, rows)
                    if progress:
                        progress(len(next(iter(writers.values())).done), len(source))
                for writer in writers.values():
                    writer.close()
        return {name: LatentSource(paths[name], keys[name], memory_bytes) for name in wanted}

    def forget_mended(self, source: ClipSource, wanted: Mapping[str, tuple[str, Compute]]) -> None:
        """Remove the files of `source` that lack a clip which can be read by now; see `compute`."""
        for said, _ in wanted.values():
            path, key = self.path(source.fingerprint, said), self._key(source.fingerprint, said)
            missing = LatentSource(path, key, memory_bytes=0).missing if path.exists() else ()
            if any(True for _ in readable(source, list(missing))):
                path.unlink(missing_ok=True)

    def _key(self, source_fingerprint: str, codec_fingerprint: str) -> str:
        parts = (_FORMAT, str(self.dtype), codec_fingerprint, source_fingerprint)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Writer:
    """Writes one cache file, batch after batch."""

    def __init__(self, file: IO[bytes], key: str) -> None:
        self.file, self.key = file, key
        self.done: list[_Said] = []
        self.shape, self.dtype = (0,), torch.float32
        file.write(b" " * _HEADER_BYTES)

    def add(self, said: list[_Said], rows: Float[Tensor, "b *latent"]) -> None:
        if self.done and self.shape != rows.shape[1:]:
            raise InputError(
                f"latents of one cache must have one shape, but {self.done[0].id} is {tuple(self.shape)} "
                f"and {said[0].id} is {tuple(rows.shape[1:])}"
            )
        self.shape, self.dtype = rows.shape[1:], rows.dtype
        self.file.write(rows.view(torch.uint8).numpy().data)
        self.done.extend(said)

    def close(self) -> None:
        written = self.file.write(json.dumps(self.done).encode())
        self.file.seek(0)
        self.file.write(_header(self.key, (len(self.done), *self.shape), self.dtype, written))


def _computed(
    source: ClipSource,
    computes: Mapping[str, Compute],
    batch: int,
    dtype: torch.dtype,
    stand_in: Callable[[], Clip],
) -> Iterator[_Batch]:
    """Clips and what is made of them in main memory, a batch at a time."""
    for start in range(0, len(source), batch):
        numbers = range(start, min(start + batch, len(source)))
        read = [_read(source, number, stand_in) for number in numbers]
        clips = [clip for clip, _ in read]
        stacked, results = stack(clips), {}
        for name, compute in computes.items():
            results[name] = _rows(name, compute, clips, stacked, dtype)
            for clip, one in zip(clips, results[name], strict=True):
                if not torch.isfinite(one).all():
                    raise InputError(
                        f"encoding gives {name} of {clip.id} that are not finite in {dtype}: compute in "
                        "float32 (codec_dtype) and store it so, or take the clip out of the data"
                    )
        yield [_Said(clip.id, clip.caption, clip.fps, reason) for clip, reason in read], results


def _read(source: ClipSource, number: int, stand_in: Callable[[], Clip]) -> tuple[Clip, str]:
    """A clip; or, where it cannot be read, one that has its shape and stands in its place, and why."""
    try:
        return read_clip(source, number, "a clip"), ""
    except UnreadableClip as error:
        return replace(stand_in(), id=UNREAD, caption=source.caption(number)), error.reason


def _rows(
    name: str, compute: Compute, clips: list[Clip], stacked: ClipBatch, dtype: torch.dtype
) -> Float[Tensor, "b *feature"]:
    """What is made of clips; where memory does not suffice for all of them, of fewer at once.

    Raises:
        InputError: it does not suffice for one alone.
    """
    if len(clips) == 1:
        shape = "x".join(map(str, clips[0].pixels.shape[1:]))
        remedy = "lower sampling.memory (GiB), or give the device or the machine more"
        with within_memory(f"encode {clips[0].id}, of {shape} pixels", remedy), torch.no_grad():
            return compute(stacked).to("cpu", dtype).contiguous()
    try:
        with torch.no_grad():
            return compute(stacked).to("cpu", dtype).contiguous()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    halves = (clips[: len(clips) // 2], clips[len(clips) // 2 :])
    return torch.cat([_rows(name, compute, half, stack(half), dtype) for half in halves])


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
