"""Pieces that fit memory: exact in time, near in space, and refused where nothing fits."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import load_codec
from vdit.codecs.published import codec_of_config, import_codec
from vdit.codecs.tiling import Pieces, TiledCodec, plan_pieces, ramp, starts
from vdit.eval.peak_memory import peak_memory
from vdit.eval.psnr import psnr
from vdit.types import InputError
from vdit.weights.source import open_weights
from vdit.world.flat import Flat
from vdit.world.source import WorldSource

ORACLE = Path(__file__).parents[1] / "oracle"
KEPT = Path(__file__).parents[2] / "configs/codec/flat_24"


def imported(case: str) -> VideoCodec:
    config = json.loads((ORACLE / case / "config.json").read_text())["diffusers"]
    codec = codec_of_config(config, case).requires_grad_(False).eval()
    import_codec(codec, open_weights(ORACLE / case / "diffusers"))
    return codec


def need(codec: VideoCodec, frames: int, rows: int, columns: int) -> float:
    """GiB for a piece of that many latents, of a clip with more frames."""
    t, h, w = codec.stride_t * frames, codec.stride_s * rows, codec.stride_s * columns
    return 4 * codec.working_values(t, h, w) / 2**30


@pytest.mark.parametrize("length", range(1, 24))
@pytest.mark.parametrize(("tile", "overlap"), [(1, 0), (4, 0), (5, 2), (7, 3), (9, 8), (30, 4)])
def test_tiles_cover_all_and_their_weights_never_vanish(length: int, tile: int, overlap: int):
    tops = starts(length, tile, overlap)
    size = min(tile, length)
    total = torch.zeros(2 * length)
    for top in tops:
        weight = ramp(top, size, tops, 2)
        assert ((weight > 0) & (weight <= 1)).all()
        total[2 * top : 2 * (top + size)] += weight
    assert (total > 0).all()
    assert tops[0] == 0
    assert tops[-1] + size == length
    shared = [a + size - b for a, b in pairwise(tops)]
    assert all(have >= overlap for have in shared)


@pytest.mark.parametrize("case", ["wan21_vae", "wan22_vae"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_pieces_in_time_change_rounding_only(case: str, frames: int):
    codec = imported(case).double()
    pixels = torch.rand(1, 3, 17, 32, 32, dtype=torch.float64) * 2 - 1
    tiled = TiledCodec(codec)
    tiled.pieces = lambda size, like: Pieces(frames, *size[1:])
    latents = codec.encode(pixels)
    torch.testing.assert_close(tiled.encode(pixels), latents, atol=1e-10, rtol=0)
    torch.testing.assert_close(tiled.decode(latents), codec.decode(latents), atol=1e-10, rtol=0)


@pytest.mark.parametrize("case", ["wan21_vae", "wan22_vae", "hunyuan_vae"])
def test_one_piece_is_the_codec_itself(case: str):
    codec = imported(case)
    pixels = torch.rand(2, 3, 5, 32, 32) * 2 - 1
    latents = codec.encode(pixels)
    assert torch.equal(TiledCodec(codec).encode(pixels), latents)
    assert torch.equal(TiledCodec(codec).decode(latents), codec.decode(latents))


def clips(side: int) -> Tensor:
    source = WorldSource(Flat(objects=(2, 3)), 3, 9, side, side, 8.0, seed=5)
    return torch.stack([source[i].pixels for i in range(3)])


def test_tiles_lose_less_than_a_tenth_of_a_decibel():
    codec = load_codec(KEPT)
    pixels = clips(128)
    tiled = TiledCodec(codec, overlap=2)
    tiled.pieces = lambda size, like: Pieces(2, 7, 9)
    latents = codec.encode(pixels)
    whole = psnr(codec.decode(latents), pixels).mean()
    apart = psnr(tiled.decode(latents), pixels).mean()
    both = psnr(tiled.decode(tiled.encode(pixels)), pixels).mean()
    assert whole - apart < 0.1
    assert whole - both < 0.1
    assert not torch.equal(tiled.decode(latents), codec.decode(latents))


def test_tiles_that_fade_hide_their_seams():
    """Of a codec whose tiles differ, edges without an overlap show and edges with one do not."""
    codec = imported("hunyuan_vae")  # its norms make every tile a little different
    latents = codec.encode(clips(128)[:1])

    def seam(overlap: int) -> float:
        tiled = TiledCodec(codec, overlap=overlap)
        tiled.pieces = lambda size, like: Pieces(3, 8 + overlap // 2, 16)
        step = tiled.decode(latents).diff(dim=3).abs().mean((0, 1, 2, 4))
        return (step[63] / step.median()).item()

    assert seam(0) > 1.5 * seam(4)


def test_fewer_frames_come_before_tiles_and_tiles_before_a_refusal():
    codec = imported("wan21_vae")
    size = (8, 40, 60)

    def plan(gib: float, overlap: int = 4) -> Pieces:
        return plan_pieces(codec, size, 1, 4, gib * 2**30, overlap)

    assert plan(1000.0) == Pieces(*size)
    assert plan(1.01 * need(codec, 4, 40, 60)) == Pieces(4, 40, 60)
    assert plan(1.01 * need(codec, 1, 40, 60)) == Pieces(1, 40, 60)
    assert plan(0.99 * need(codec, 1, 40, 60)) == Pieces(1, 40, 30)
    assert plan(0.99 * need(codec, 1, 40, 30)) == Pieces(1, 20, 30)
    with pytest.raises(InputError, match="too little for this codec: its smallest piece needs") as refusal:
        plan(1e-6)
    told = re.search(r"needs (\S+); raise sampling.memory", str(refusal.value))
    assert told
    assert plan(float(told[1])).frames == 1
    gathered = imported("hunyuan_vae")
    pieces = plan_pieces(gathered, size, 1, 4, 0.3 * 4 * gathered.working_values(29, 320, 480), 4)
    assert pieces.frames == 8
    assert pieces.rows * pieces.columns < 40 * 60


def test_amounts_that_mean_nothing_are_refused():
    codec = imported("wan21_vae")
    with pytest.raises(InputError, match="cannot work in 0 GiB"):
        TiledCodec(codec, gib=0)
    with pytest.raises(InputError, match="cannot work in nan GiB"):
        TiledCodec(codec, gib=float("nan"))
    with pytest.raises(InputError, match="cannot overlap by -1"):
        TiledCodec(codec, overlap=-1)


def test_a_stream_of_any_length_is_decoded_in_tiles_chunk_by_chunk():
    codec = imported("wan21_vae").double()
    latents = torch.randn(1, 4, 12, 10, 8, dtype=torch.float64)
    pieces = Pieces(1, 6, 8)
    tiled = TiledCodec(codec, overlap=2)
    chunks = list(tiled.decode_stream(iter(latents.split(1, dim=2)), pieces))
    assert [chunk.shape[2] for chunk in chunks] == [1] + [4] * 11
    once = torch.cat(list(tiled.decode_stream([latents], Pieces(12, 6, 8))), dim=2)
    torch.testing.assert_close(torch.cat(chunks, dim=2), once, atol=1e-10, rtol=0)


def build(asked: tuple[str, int]):
    """Work for a process of its own: decode with a budget of so many MiB."""
    case, mib = asked
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    codec = codec_of_config(
        json.loads((ORACLE / case / "config.json").read_text())["diffusers"] | {"base_dim": 16}, case
    ).eval()
    latents = torch.randn(1, codec.latent_channels, 9, 16, 16)
    TiledCodec(codec, gib=1.0).decode(latents[:, :, :1])  # what libraries keep is not the codec's
    tiled = TiledCodec(codec, gib=mib / 1024)
    return lambda: tiled.decode(latents)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_budget_is_kept():
    whole = peak_memory(build, ("wan21_vae", 4096))
    small = peak_memory(build, ("wan21_vae", 64))
    assert whole is not None
    assert small is not None
    assert whole > 100 * 2**20
    result = 2 * 4 * 3 * 33 * 128 * 128  # the pixels, in pieces and joined
    assert small < 1.35 * 64 * 2**20 + result  # the need of a piece is known within a third
    assert whole > 2 * small
