"""Clips of any size and length through a codec, in pieces that fit a stated amount of memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.streaming import Memory
from vdit.types import InputError

__all__ = ["Pieces", "TiledCodec", "plan_pieces"]

Code = Callable[[Tensor, Memory | None], Tensor]

_LEAST_TILE = 4


@dataclass(frozen=True)
class Pieces:
    """The largest piece that is coded at once, in latent frames, rows and columns."""

    frames: int
    rows: int
    columns: int


def working_bytes(
    codec: VideoCodec, size: tuple[int, int, int], piece: Pieces, batch: int, itemsize: int
) -> int:
    """What coding a piece of latents of `size` needs, of so many clips."""
    whole = piece.frames == size[0]
    t = 1 + codec.stride_t * (piece.frames - 1) if whole else codec.stride_t * piece.frames
    values = codec.working_values(t, codec.stride_s * piece.rows, codec.stride_s * piece.columns)
    return batch * itemsize * values


def plan_pieces(
    codec: VideoCodec, size: tuple[int, int, int], batch: int, itemsize: int, limit: float, overlap: int
) -> Pieces:
    """The largest pieces of latents whose coding fits into `limit` bytes.

    Fewer frames come first, since they change nothing but rounding where the codec can stream; then tiles.

    Args:
        codec: says what a piece needs.
        size: latent frames, rows and columns.
        batch: clips.
        itemsize: bytes a value.
        limit: bytes.
        overlap: latents that neighbouring tiles share.

    Raises:
        InputError: not even the smallest piece fits.
    """

    def need(frames: int, rows: int, columns: int) -> int:
        return working_bytes(codec, size, Pieces(frames, rows, columns), batch, itemsize)

    frames, rows, columns = size
    while need(frames, rows, columns) > limit:
        if frames > 1 and codec.streams:
            frames = math.ceil(frames / 2)
        elif max(rows, columns) > max(_LEAST_TILE, 2 * overlap + 1):
            if rows >= columns:
                rows = max(math.ceil(rows / 2), overlap + 1)
            else:
                columns = max(math.ceil(columns / 2), overlap + 1)
        else:
            least = need(frames, rows, columns) / 2**30
            raise InputError(
                f"{limit / 2**30:.2g} GiB are too little for this codec: its smallest piece needs "
                f"{_rounded_up(least)}; raise sampling.memory, which is --memory for sample.py"
            )
    return Pieces(frames, rows, columns)


def _rounded_up(gib: float) -> str:
    """Two digits that are enough."""
    step = 10.0 ** (math.floor(math.log10(gib)) - 1)
    return f"{math.ceil(gib / step) * step:.2g}"


class TiledCodec:
    """A codec that codes in pieces: fewer clips at once first, then fewer frames, then tiles.

    In time a codec that streams gives the same numbers in any pieces, up to rounding. In space tiles overlap,
    and where they do the result fades from one to the next: near, not equal, since a tile does not see
    beyond its edge. Clips may lie on another device and be of another precision than the codec: each piece
    is brought to it.

    Args:
        codec: the codec.
        gib: memory that activations may take, about.
        overlap: latents that neighbouring tiles share on each side.

    Raises:
        InputError: no memory, or a negative overlap.
    """

    def __init__(self, codec: VideoCodec, gib: float = 8.0, overlap: int = 4) -> None:
        if not gib > 0:
            raise InputError(f"a codec cannot work in {gib} GiB")
        if overlap < 0:
            raise InputError(f"tiles cannot overlap by {overlap} latents")
        self.codec, self.limit, self.overlap = codec, gib * 2**30, overlap

    @property
    def device(self) -> torch.device:
        """Where the codec is."""
        return self.codec.latent_mean.device

    def clips_at_once(self, t: int, h: int, w: int) -> int:
        """Clips of t x h x w pixels that fit together, each in one piece; 1 where not even one does."""
        return max(1, int(self.limit // (self.codec.dtype.itemsize * self.codec.working_values(t, h, w))))

    def pieces(self, size: tuple[int, int, int], like: Tensor) -> Pieces:
        """What is coded at once of latents of `size` and these clips. Raises InputError as `plan_pieces`."""
        return self._planned(size, len(like))

    def tiles(self, t: int, h: int, w: int) -> tuple[int, int] | None:
        """Rows and columns of the tiles of clips of t x h x w pixels; None where frames are coded whole.

        Raises:
            InputError: pixels that do not fit the codec, or as `plan_pieces`.
        """
        size = self.codec.latent_size(t, h, w)
        found = self._planned(size, 1)
        return None if (found.rows, found.columns) == size[1:] else (found.rows, found.columns)

    def gib_without_tiles(self, t: int, h: int, w: int) -> float:
        """The memory from which frames of clips of t x h x w pixels are coded whole."""
        size = self.codec.latent_size(t, h, w)
        piece = Pieces(1 if self.codec.streams else size[0], *size[1:])
        return working_bytes(self.codec, size, piece, 1, self.codec.dtype.itemsize) / 2**30

    def encode(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h w"]:
        """Normalised latents, as `VideoCodec.encode`. Raises InputError for sizes that do not fit."""
        t, h, w = pixels.shape[2:]
        size, step = self.codec.latent_size(t, h, w), self.codec.stride_t
        found = []
        for clips in pixels.split(self.clips_at_once(t, h, w)):
            pieces = self.pieces(size, clips)
            first, each = 1 + step * (pieces.frames - 1), step * pieces.frames
            later = clips[:, :, first:].split(each, dim=2) if first < t else ()
            chunks = [clips[:, :, :first], *later]
            found.append(self._whole(chunks, self._encoded, pieces, self.codec.stride_s, 1))
        return _joined(found)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t h w"]:
        """Pixels in [-1, 1], as `VideoCodec.decode`."""
        t, h, w = latents.shape[2:]
        codec = self.codec
        at_once = self.clips_at_once(1 + codec.stride_t * (t - 1), codec.stride_s * h, codec.stride_s * w)
        found = []
        for clips in latents.split(at_once):
            pieces = self.pieces((t, h, w), clips)
            chunks = clips.split(pieces.frames, dim=2)
            found.append(self._whole(chunks, self._decoded, pieces, 1, codec.stride_s))
        return _joined(found)

    def reconstruct(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
        """What comes back of clips: pixels in [-1, 1], in float32 on the CPU."""
        return self.decode(self.encode(pixels)).float().cpu()

    def encode_stream(self, chunks: Iterable[Tensor], pieces: Pieces) -> Iterator[Float[Tensor, "b c t h w"]]:
        """`encode` chunk by chunk: 1 + stride_t * n frames first, stride_t * n each after.

        What the convolutions remember of every tile stays in memory beside the piece at work.
        """
        yield from self._stream(chunks, self._encoded, pieces, self.codec.stride_s, 1)

    def decode_stream(self, chunks: Iterable[Tensor], pieces: Pieces) -> Iterator[Float[Tensor, "b 3 t h w"]]:
        """`decode` chunk by chunk, any number of latent frames each; memory as in `encode_stream`."""
        yield from self._stream(chunks, self._decoded, pieces, 1, self.codec.stride_s)

    def _encoded(self, tile: Tensor, memory: Memory | None) -> Tensor:
        return self.codec.normalise(self.codec.posterior(self._brought(tile), memory).mean)

    def _decoded(self, tile: Tensor, memory: Memory | None) -> Tensor:
        raw = self._brought(self.codec.denormalise(tile.to(self.device)))
        return self.codec.reconstruct(raw, memory).clamp(-1, 1)

    def _brought(self, tile: Tensor) -> Tensor:
        return tile.to(self.device, self.codec.dtype)

    def _planned(self, size: tuple[int, int, int], clips: int) -> Pieces:
        itemsize = self.codec.dtype.itemsize
        return plan_pieces(self.codec, size, clips, itemsize, self.limit, self.overlap)

    def _memory(self) -> Memory | None:
        return Memory() if self.codec.streams else None

    def _whole(self, chunks: Sequence[Tensor], code: Code, pieces: Pieces, unit: int, scale: int) -> Tensor:
        """Tile after tile, each through all chunks: one tile's past in memory at a time."""
        mosaic = Mosaic(chunks[0], pieces, self.overlap, unit, scale)
        for tile in mosaic.tiles:
            memory = self._memory() if len(chunks) > 1 else None  # a single chunk is not remembered
            mosaic.add(_joined([code(mosaic.cut(chunk, tile), memory) for chunk in chunks], dim=2), tile)
        return mosaic.joined()

    def _stream(
        self, chunks: Iterable[Tensor], code: Code, pieces: Pieces, unit: int, scale: int
    ) -> Iterator[Tensor]:
        """Chunk after chunk, each in all tiles."""
        memories: dict[tuple[int, int], Memory | None] = {}
        for chunk in chunks:
            mosaic = Mosaic(chunk, pieces, self.overlap, unit, scale)
            for tile in mosaic.tiles:
                memory = memories.setdefault(tile, self._memory())
                mosaic.add(code(mosaic.cut(chunk, tile), memory), tile)
            yield mosaic.joined()


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Several clips or chunks as one, without a copy where they are one already."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


class Mosaic:
    """Tiles of a clip, and their results faded into one another.

    Args:
        clip: what is cut; gives rows and columns.
        pieces: size of a tile, in latents.
        overlap: latents that neighbours share at least.
        unit: rows of the clip that belong to one latent row.
        scale: rows of a result that belong to one latent row.

    Attributes:
        tiles: top and left of every tile, in latents.
    """

    def __init__(self, clip: Tensor, pieces: Pieces, overlap: int, unit: int, scale: int) -> None:
        self.h, self.w = (length // unit for length in clip.shape[3:])
        self.rows, self.columns = min(pieces.rows, self.h), min(pieces.columns, self.w)
        self.unit, self.scale = unit, scale
        self.tops, self.lefts = starts(self.h, pieces.rows, overlap), starts(self.w, pieces.columns, overlap)
        self.tiles = list(product(self.tops, self.lefts))
        self._sum = self._weights = torch.empty(0)

    def cut(self, clip: Tensor, tile: tuple[int, int]) -> Tensor:
        """What `tile` sees of a clip."""
        return clip[(..., *self._place(tile, self.unit))]

    def add(self, part: Tensor, tile: tuple[int, int]) -> None:
        """Take in the result of a tile."""
        if len(self.tiles) == 1:
            self._sum = part
            return
        if not self._weights.numel():
            size = (self.h * self.scale, self.w * self.scale)
            self._sum, self._weights = part.new_zeros(*part.shape[:3], *size), part.new_zeros(size)
        down = ramp(tile[0], self.rows, self.tops, self.scale)
        across = ramp(tile[1], self.columns, self.lefts, self.scale)
        fade, place = torch.outer(down, across).to(part), self._place(tile, self.scale)
        self._sum[(..., *place)] += fade * part
        self._weights[place] += fade

    def joined(self) -> Tensor:
        """The results of all tiles as one."""
        return self._sum if len(self.tiles) == 1 else self._sum.div_(self._weights)

    def _place(self, tile: tuple[int, int], zoom: int) -> tuple[slice, slice]:
        (top, left), rows, columns = tile, self.rows, self.columns
        return slice(top * zoom, (top + rows) * zoom), slice(left * zoom, (left + columns) * zoom)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin so that they cover `length`, evenly, sharing at least `overlap`."""
    if tile >= length:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def ramp(start: int, tile: int, tops: list[int], scale: int) -> Float[Tensor, "n"]:
    """The weight of each row of a tile: 1 inside, falling to nearly 0 over what it shares with neighbours."""
    weight = torch.ones(tile * scale)
    at = tops.index(start)
    if at > 0:
        shared = (tops[at - 1] + tile - start) * scale
        weight[:shared] *= (torch.arange(shared) + 0.5) / shared
    if at + 1 < len(tops):
        shared = (start + tile - tops[at + 1]) * scale
        weight[tile * scale - shared :] *= ((torch.arange(shared) + 0.5) / shared).flip(0)
    return weight
