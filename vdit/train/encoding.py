"""Latents of a source, and what conditions see of it, made once by all processes and kept in the cache."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured
from vdit.data.latents import FeaturedSource, LatentCache, Latents
from vdit.data.mixture import parts_of
from vdit.data.pieces import JoinedLatents, compute_apart
from vdit.data.unreadable import first_readable
from vdit.progress import StageBars
from vdit.train.task import Session
from vdit.types import ClipBatch, ClipSource

__all__ = ["encoded"]

CLIPS_AT_ONCE = 16
"""At most, where memory would let more be read and coded together."""


def encoded(
    source: ClipSource,
    codec: TiledCodec,
    fingerprint: str,
    conditions: Sequence[Featured],
    cache: Path,
    session: Session,
    title: str,
) -> Latents:
    """Latents of a source and what conditions see of it, from the cache or made now by all ranks.

    The parts of a mixture, whose clips differ in shape, are kept each for itself.

    Args:
        source: the clips.
        codec: on the device of the session, within the memory that it may take.
        fingerprint: of the codec; what is made in another precision, or in tiles, is kept beside it.
        conditions: those with features.
        cache: folder of latents.
        session: who computes.
        title: what people are told.

    Raises:
        InputError: too little memory for the smallest piece, or as `LatentCache.compute`.
    """
    found = JoinedLatents(
        [_encoded(part, codec, fingerprint, conditions, cache, session, title) for part in parts_of(source)]
    )
    if few := found.missing:
        session.console.print(
            f"{title}: {len(few)} of {len(found)} clips cannot be read and are left out", soft_wrap=True
        )
    return found


def _encoded(
    source: ClipSource,
    codec: TiledCodec,
    fingerprint: str,
    conditions: Sequence[Featured],
    cache: Path,
    session: Session,
    title: str,
) -> Latents:
    """Of clips of one shape."""
    t, h, w = first_readable(source).pixels.shape[1:]
    if codec.tiles(t, h, w) is not None:
        session.console.print(told_of_tiles(codec, t, h, w))
    device, made_as = session.engine.device, fingerprint + way(codec, t, h, w)

    def latents_of(batch: ClipBatch) -> Tensor:
        assert batch.pixels is not None  # clips have pixels
        return codec.encode(batch.pixels)

    def seen(condition: Featured, batch: ClipBatch) -> Tensor:
        return condition.feature(batch.to(device), codec)

    wanted = {c.name: (made_as + c.fingerprint, partial(seen, c)) for c in conditions}
    wanted = {"latents": (made_as, latents_of), **wanted}
    at_once = min(CLIPS_AT_ONCE, session.clips, codec.clips_at_once(t, h, w))
    with StageBars(session.console) as bars:
        mesh, meet, told = session.engine.mesh, session.engine.barrier, partial(bars.show, title)
        made = compute_apart(LatentCache(cache), source, wanted, at_once, told, mesh.rank, mesh.world, meet)
    latents = made.pop("latents")
    return FeaturedSource(latents, made) if made else latents


def way(codec: TiledCodec, t: int, h: int, w: int) -> str:
    """What changes latents of t x h x w pixels beside the weights by more than rounding; "" is nothing.

    Fewer clips or frames at once change rounding alone, so where there are no tiles memory does not count.
    What conditions see of a clip is as large at most, and so in tiles only where the clip is.
    """
    precision, tiles = codec.codec.dtype, codec.tiles(t, h, w)
    found = "" if precision == torch.float32 else f" {precision}"
    return found if tiles is None else f"{found} in tiles of {tiles} that share {codec.overlap}"


def told_of_tiles(codec: TiledCodec, t: int, h: int, w: int) -> str:
    """What a person should know of latents that are made in tiles."""
    rows, columns = codec.tiles(t, h, w) or (h, w)
    side = codec.codec.stride_s
    return (
        f"clips of {h}x{w} pixels are encoded in tiles of {rows * side}x{columns * side}, near to what the "
        f"codec gives of whole frames: sampling.memory of {codec.gib_without_tiles(t, h, w):.2f} GiB does "
        "without"
    )
