"""Clips of any size and length through a codec, in pieces that fit a stated amount of memory."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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

    def need(frames: int, rows: int, columns: int) -> float:
        t = 1 + codec.stride_t * (frames - 1) if frames == size[0] else codec.stride_t * frames
        return batch * itemsize * codec.working_values(t, codec.stride_s * rows, codec.stride_s * columns)

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
                f"{limit / 2**30:.2g} GiB are too little for this codec: its smallest piece needs {least:.2g}"
            )
    return Pieces(frames, rows, columns)


class TiledCodec:
    """A codec that codes in pieces.

    In time a codec that streams gives the same numbers in any pieces, up to rounding. In space tiles overlap,
    and where they do the result fades from one to the next: near, not equal, since a tile does not see
    beyond its edge.

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

    def pieces(self, size: tuple[int, int, int], like: Tensor) -> Pieces:
        """What is coded at once of latents of `size`. Raises InputError as `plan_pieces`."""
        return plan_pieces(self.codec, size, len(like), like.element_size(), self.limit, self.overlap)

    def encode(self, pixels: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h w"]:
        """Normalised latents, as `VideoCodec.encode`. Raises InputError for sizes that do not fit."""
        size = self.codec.latent_size(*pixels.shape[2:])
        pieces = self.pieces(size, pixels)
        step = self.codec.stride_t
        first = 1 + step * (pieces.frames - 1)
        rest = (pixels.shape[2] - first) / (step * pieces.frames)
        cuts = [first, *[step * pieces.frames] * math.ceil(rest)]
        cuts[-1] -= sum(cuts) - pixels.shape[2]
        return torch.cat(list(self.encode_stream(pixels.split(cuts, dim=2), pieces)), dim=2)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t h w"]:
        """Pixels in [-1, 1], as `VideoCodec.decode`."""
        t, h, w = latents.shape[2:]
        pieces = self.pieces((t, h, w), latents)
        return torch.cat(list(self.decode_stream(latents.split(pieces.frames, dim=2), pieces)), dim=2)

    def encode_stream(self, chunks: Iterable[Tensor], pieces: Pieces) -> Iterator[Float[Tensor, "b c t h w"]]:
        """`encode` chunk by chunk: 1 + stride_t * n frames first, stride_t * n each after."""
        side = self.codec.stride_s

        def code(tile: Tensor, memory: Memory | None) -> Tensor:
            return self.codec.normalise(self.codec.posterior(tile, memory).mean)

        yield from self._tiled(chunks, code, pieces, side, 1)

    def decode_stream(self, chunks: Iterable[Tensor], pieces: Pieces) -> Iterator[Float[Tensor, "b 3 t h w"]]:
        """`decode` chunk by chunk, any number of latent frames each."""

        def code(tile: Tensor, memory: Memory | None) -> Tensor:
            return self.codec.reconstruct(self.codec.denormalise(tile), memory).clamp(-1, 1)

        yield from self._tiled(chunks, code, pieces, 1, self.codec.stride_s)

    def _tiled(
        self, chunks: Iterable[Tensor], code: Code, pieces: Pieces, unit: int, scale: int
    ) -> Iterator[Tensor]:
        """Code every tile of every chunk, and fade tiles into one another.

        Args:
            chunks: of one stream.
            code: codes one tile of one chunk.
            pieces: in latents.
            unit: rows of what goes in that belong to one latent row.
            scale: rows of what comes out that belong to one latent row.
        """
        memories: dict[tuple[int, int], Memory | None] = {}
        for chunk in chunks:
            h, w = (length // unit for length in chunk.shape[3:])
            tops = starts(h, pieces.rows, self.overlap)
            lefts = starts(w, pieces.columns, self.overlap)
            rows, columns = min(pieces.rows, h), min(pieces.columns, w)
            out = weights = None
            for top in tops:
                for left in lefts:
                    memory = memories.setdefault((top, left), Memory() if self.codec.streams else None)
                    tile = chunk[..., top * unit : (top + rows) * unit, left * unit : (left + columns) * unit]
                    part = code(tile, memory)
                    if len(tops) == len(lefts) == 1:
                        out = part
                        continue
                    fade = torch.outer(ramp(top, rows, tops, scale), ramp(left, columns, lefts, scale)).to(
                        part
                    )
                    if out is None or weights is None:
                        out = part.new_zeros(*part.shape[:3], h * scale, w * scale)
                        weights = part.new_zeros(h * scale, w * scale)
                    place = (
                        slice(top * scale, (top + rows) * scale),
                        slice(left * scale, (left + columns) * scale),
                    )
                    out[..., place[0], place[1]] += fade * part
                    weights[place] += fade
            assert out is not None  # there is at least one tile
            yield out if weights is None else out.div_(weights)


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
