"""Encoding before training: at real sizes within the stated memory, and the latents of whole clips."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vdit.codecs.codec import VideoCodec
from vdit.codecs.folder import load_codec, save_codec
from vdit.codecs.precision import place_codec, with_weights
from vdit.codecs.streaming import Memory
from vdit.codecs.tiling import TiledCodec
from vdit.codecs.wan.codec import WanCodec
from vdit.conditions.known import KnownFrames
from vdit.eval.peak_memory import peak_memory
from vdit.parallel.engine import Engine, Parallel
from vdit.plan.ledger import Ledger
from vdit.train.encoding import encoded
from vdit.train.run_folder import RunFolder
from vdit.train.task import Data, Pace, Session
from vdit.types import Clip, InputError

MIB = 2**20


class Noise:
    """Random clips of one size."""

    def __init__(self, count: int = 3, size: tuple[int, int, int] = (9, 32, 32)) -> None:
        self.count, self.size = count, size
        self.fingerprint = f"noise {count} {size}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        pixels = torch.rand(3, *self.size, generator=torch.Generator().manual_seed(index)) * 2 - 1
        return Clip(f"clip {index}", pixels, 8.0, self.caption(index))

    def caption(self, index: int) -> str:
        return f"number {index}"


class Counted(WanCodec):
    """Writes down how many clips, frames and rows it is given at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"encoder_width": 4, "decoder_width": 4, **settings})
        self.requires_grad_(False).eval()
        self.seen: list[tuple[int, ...]] = []

    def posterior(self, pixels: Tensor, memory: Memory | None = None) -> Any:
        self.seen.append((*pixels.shape[:1], *pixels.shape[2:4]))
        return super().posterior(pixels, memory)


@pytest.fixture
def codec() -> Counted:
    torch.manual_seed(0)
    return Counted()


def gib(codec: VideoCodec, t: int, h: int, w: int, clips: int = 1) -> float:
    """A little more than coding so much at once is said to need."""
    return 1.01 * clips * codec.dtype.itemsize * codec.working_values(t, h, w) / 2**30


def made(
    engine: Engine,
    folder: Path,
    codec: VideoCodec,
    memory: float,
    source: Noise | None = None,
    conditions: Sequence[Any] = (),
) -> tuple[Any, str]:
    """What encoding gives, and what it says."""
    source, said = source or Noise(), StringIO()
    console = Console(file=said, width=1000)
    session = Session(
        engine, RunFolder(folder / "run"), console, Data(source, source), Pace(), 1, 0, clips=16, began=0.0
    )
    tiled, cache = TiledCodec(codec, memory), folder / "latents"
    return encoded(source, tiled, "a codec", conditions, cache, session, "encoding"), said.getvalue()


def test_clips_frames_and_tiles_are_as_many_as_fit_into_memory(
    engine: Engine, tmp_path: Path, codec: Counted
):
    rooms = {
        gib(codec, 9, 32, 32, clips=3): {(3, 9, 32)},
        gib(codec, 9, 32, 32, clips=2): {(2, 9, 32), (1, 9, 32)},
        gib(codec, 4, 32, 32): {(1, 1, 32), (1, 4, 32)},
    }
    found = []
    for number, (room, expected) in enumerate(rooms.items()):
        codec.seen.clear()
        items, said = made(engine, tmp_path / str(number), codec, room)
        assert set(codec.seen) == expected
        assert "tiles" not in said
        found.append(torch.stack([items[i].latents for i in range(3)]))
    with torch.no_grad():
        whole = codec.encode(torch.stack([Noise()[i].pixels for i in range(3)]))
    assert torch.equal(found[0], whole)  # what fits at once is coded as it always was
    for latents in found[1:]:
        torch.testing.assert_close(latents, whole, atol=1e-4, rtol=1e-4)


def test_memory_that_changes_rounding_alone_uses_the_same_cache(
    engine: Engine, tmp_path: Path, codec: Counted
):
    conditions = [KnownFrames(places={"first": 1.0})]
    made(engine, tmp_path, codec, 8.0, conditions=conditions)
    codec.seen.clear()
    made(engine, tmp_path, codec, gib(codec, 4, 32, 32), conditions=conditions)
    assert not codec.seen


def test_tiles_are_told_and_kept_apart(engine: Engine, tmp_path: Path, codec: Counted):
    source = Noise(1, (5, 128, 128))
    whole, _ = made(engine, tmp_path, codec, 8.0, source)
    codec.seen.clear()
    tiled, said = made(engine, tmp_path, codec, gib(codec, 4, 128, 64), source)
    assert {rows for _, _, rows in codec.seen} == {64}
    needed = codec.dtype.itemsize * codec.working_values(4, 128, 128) / 2**30
    assert "in tiles of 64x128, near to what the codec gives of whole frames" in said
    assert f"sampling.memory of {needed:.2f} GiB does without" in said
    assert not torch.equal(whole[0].latents, tiled[0].latents)
    again, _ = made(engine, tmp_path, codec, 8.0, source)
    assert torch.equal(whole[0].latents, again[0].latents)
    assert len(list((tmp_path / "latents").iterdir())) == 2


def test_weights_in_bfloat16_are_computed_with_in_bfloat16(engine: Engine, tmp_path: Path, codec: Counted):
    full, _ = made(engine, tmp_path, codec, 8.0)
    half = with_weights(WanCodec(encoder_width=4, decoder_width=4), torch.bfloat16)
    half.load_state_dict(codec.state_dict())
    save_codec(half, tmp_path / "codec", {})
    loaded = load_codec(tmp_path / "codec")
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded.latent_std.dtype == torch.float32
    items, _ = made(engine, tmp_path, loaded, 8.0)
    own, other = items[1].latents, full[1].latents
    assert 0 < (own - other).abs().max() < 0.1 * other.std()
    assert len(list((tmp_path / "latents").iterdir())) == 2
    save_codec(half.float(), tmp_path / "imported", {"imported": {"dtype": "bfloat16"}})
    again = load_codec(tmp_path / "imported").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in loaded.state_dict().items())
    assert {p.dtype for p in load_codec(tmp_path / "imported").parameters()} == {torch.bfloat16}
    wide = place_codec(loaded, torch.device("cpu"), "float32")
    assert {p.dtype for p in wide.parameters()} == {torch.float32}


class Hungry(Counted):
    """Runs out of memory for clips brighter than a limit, and for more than so many at once."""

    def __init__(self, error: BaseException, most: int = 16, limit: float = 2.0) -> None:
        super().__init__()
        self.error, self.most, self.limit = error, most, limit

    def posterior(self, pixels: Tensor, memory: Memory | None = None) -> Any:
        if len(pixels) > self.most or pixels.mean() > self.limit:
            raise self.error
        return super().posterior(pixels, memory)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_too_little_memory_names_the_clip_and_the_remedy(
    engine: Engine, tmp_path: Path, error: BaseException
):
    brightest = max(range(3), key=lambda i: Noise()[i].pixels.mean().item())
    means = sorted(Noise()[i].pixels.mean().item() for i in range(3))
    hungry = Hungry(error, most=1, limit=(means[1] + means[2]) / 2)
    with pytest.raises(InputError, match=f"encode clip {brightest}, of 9x32x32 pixels .*sampling.memory"):
        made(engine, tmp_path, hungry, 8.0)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_does_not_fit_together_is_encoded_apart(engine: Engine, tmp_path: Path, codec: Counted):
    hungry = Hungry(OUT_OF_MEMORY[0], most=1)
    hungry.load_state_dict(codec.state_dict())
    items, _ = made(engine, tmp_path, hungry, 8.0)
    assert {clips for clips, _, _ in hungry.seen} == {1}
    for i in range(3):
        torch.testing.assert_close(
            items[i].latents, codec.encode(Noise()[i].pixels[None])[0], atol=1e-5, rtol=0
        )


def test_an_error_of_another_kind_stays_one(engine: Engine, tmp_path: Path):
    with pytest.raises(RuntimeError, match="cuDNN is not in the mood"):
        made(engine, tmp_path, Hungry(RuntimeError("cuDNN is not in the mood"), most=0), 8.0)


def test_a_latent_that_is_no_number_names_the_clip(engine: Engine, tmp_path: Path, codec: Counted):
    class Burst(Noise):
        def __getitem__(self, index: int) -> Clip:
            clip = super().__getitem__(index)
            clip.pixels[0, 0, 0, 0] = float("inf") if index == 2 else 0.0
            return clip

    with pytest.raises(InputError, match=r"latents of clip 2 that are not finite .*codec_dtype"):
        made(engine, tmp_path, codec, 8.0, Burst())


def test_memory_below_the_smallest_piece_is_refused(engine: Engine, tmp_path: Path, codec: Counted):
    with pytest.raises(InputError, match="too little for this codec: its smallest piece needs"):
        made(engine, tmp_path, codec, 1e-6)


def test_a_clip_of_real_size_is_encoded_in_the_memory_of_a_piece():
    """Wan 2.1's published VAE on a clip of 81x480x832, by the sizes of all tensors, which have no values."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        codec = WanCodec().requires_grad_(False).eval()
        ledger, pixels = Ledger([*codec.parameters(), *codec.buffers()]), torch.empty(1, 3, 81, 480, 832)
        with ledger:
            assert TiledCodec(codec, 8.0).encode(pixels).shape == (1, 16, 21, 60, 104)
        assert ledger.most < 8 * 2**30
        apart, ledger.most = ledger.most, 0
        with ledger:
            codec.encode(pixels)
        assert ledger.most > 5 * apart


def work(folder: str):
    """Work for a process of its own: encode four clips within 64 MiB."""
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    codec = WanCodec(encoder_width=16, decoder_width=4).requires_grad_(False).eval()
    assert gib(codec, 25, 96, 96, clips=4) > 8 * 64 / 1024
    engine, source = Engine(Parallel(accelerator="cpu")), Noise(4, (25, 96, 96))
    made(engine, Path(folder) / "first", codec, 1.0, Noise(1, (5, 32, 32)))  # what libraries keep
    return lambda: made(engine, Path(folder) / "second", codec, 64 / 1024, source)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_budget_is_kept_by_all_of_encoding(tmp_path: Path):
    needed = peak_memory(work, str(tmp_path))
    assert needed is not None
    clips = 2 * 4 * 3 * 25 * 96 * 96  # one that is read, and stacked
    assert needed < 1.35 * 64 * MIB + clips  # the need of a piece is known within a third
