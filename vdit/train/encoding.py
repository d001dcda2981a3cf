"""Latents of a source, and what conditions see of it, made once by all processes and kept in the cache."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.condition import Featured
from vdit.data.latents import FeaturedSource, LatentCache
from vdit.data.loader import ItemSource
from vdit.data.pieces import compute_apart
from vdit.progress import StageBars
from vdit.train.task import Session
from vdit.types import ClipBatch, ClipSource

__all__ = ["encoded"]

CLIPS_AT_ONCE = 16


def encoded(
    source: ClipSource,
    codec: VideoCodec,
    fingerprint: str,
    conditions: Sequence[Featured],
    cache: Path,
    gib: float,
    session: Session,
    title: str,
) -> ItemSource:
    """Latents of a source and what conditions see of it, from the cache or made now by all ranks.

    Args:
        source: the clips.
        codec: on the device of the session.
        fingerprint: of the codec.
        conditions: those with features.
        cache: folder of latents.
        gib: memory that coding may take, about.
        session: who computes.
        title: what people are told.
    """
    device, tiled = session.engine.device, TiledCodec(codec, gib)

    def latents_of(batch: ClipBatch) -> Tensor:
        assert batch.pixels is not None  # clips have pixels
        return codec.encode(batch.pixels.to(device))

    def seen(condition: Featured, batch: ClipBatch) -> Tensor:
        return condition.feature(batch.to(device), tiled)

    wanted = {c.name: (fingerprint + c.fingerprint, partial(seen, c)) for c in conditions}
    wanted = {"latents": (fingerprint, latents_of), **wanted}
    with StageBars(session.console) as bars:
        at_once, told = min(CLIPS_AT_ONCE, session.clips), partial(bars.show, title)
        mesh, meet = session.engine.mesh, session.engine.barrier
        made = compute_apart(LatentCache(cache), source, wanted, at_once, told, mesh.rank, mesh.world, meet)
    latents = made.pop("latents")
    return FeaturedSource(latents, made) if made else latents
