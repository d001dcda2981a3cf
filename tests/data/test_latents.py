import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vdit.data.latents import LatentCache, LatentSource
from vdit.data.loader import BatchLoader
from vdit.data.order import ClipOrder
from vdit.types import Clip, InputError


class Noise:
    """Seven random clips."""

    def __init__(self, fingerprint: str = "noise", fail_at: int = -1, wide_at: int = -1, count: int = 7):
        self.fingerprint, self.fail_at, self.wide_at, self.count = fingerprint, fail_at, wide_at, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        if index == self.fail_at:
            raise KeyboardInterrupt
        width = 12 if index == self.wide_at else 8
        pixels = torch.rand(3, 4, 8, width, generator=torch.Generator().manual_seed(index)) * 2 - 1
        return Clip(f"clip {index}", pixels, 30000 / 1001, self.caption(index))

    def caption(self, index: int) -> str:
        return f'number {index}, "quoted" ü\n'


class Halve:
    """Every second pixel, as a codec; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        assert not torch.is_grad_enabled()
        return pixels[:, :, ::2, ::2, ::2] * 3


def encode(
    cache: LatentCache,
    source: Noise,
    codec: Callable[[Tensor], Tensor],
    version: str,
    batch: int = 4,
    **more: Any,
) -> LatentSource:
    """Latents alone, of a codec by this name."""
    wanted = {"latents": (version, lambda clips: codec(clips.pixels))}
    return cache.compute(source, wanted, batch, **more)["latents"]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def test_what_is_stored_is_what_the_codec_gave(tmp_path):
    seen, source, codec = [], Noise(), Halve()
    latents = encode(
        LatentCache(tmp_path), source, codec, "v1", batch=3, progress=lambda *at: seen.append(at)
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert len(latents) == 7
    for i in (0, 6, 3):
        item, clip = latents[i], source[i]
        assert (item.id, item.caption, item.fps) == (clip.id, clip.caption, clip.fps)
        assert latents.caption(i) == clip.caption
        assert torch.equal(item.latents, clip.pixels[:, ::2, ::2, ::2] * 3)


def test_latents_that_stay_in_the_file_are_those_that_fit_into_memory(tmp_path):
    held = encode(LatentCache(tmp_path), Noise(), Halve(), "v1")
    (file,) = files(tmp_path)
    read = LatentSource(file, file.stem, memory_bytes=file.stat().st_size - 1)
    for i in (0, 6, 3):
        assert torch.equal(read[i].latents, held[i].latents)
    kept = held[0].latents.clone()
    with file.open("r+b") as there:
        there.seek(4096)
        there.write(bytes(kept.nbytes))
    assert torch.equal(held[0].latents, kept)
    assert not read[0].latents.any()


def test_a_second_run_encodes_nothing(tmp_path):
    cache, codec = LatentCache(tmp_path), Halve()
    first = encode(cache, Noise(), codec, "v1")
    calls = codec.calls
    again = encode(cache, Noise(), codec, "v1")
    assert codec.calls == calls == 2
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again[5].latents, first[5].latents)


def test_a_stale_cache_is_never_used(tmp_path):
    codec = Halve()
    made = [
        encode(LatentCache(tmp_path), Noise(), codec, "v1"),
        encode(LatentCache(tmp_path), Noise(), codec, "v2"),
        encode(LatentCache(tmp_path), Noise("other clips"), codec, "v1"),
        encode(LatentCache(tmp_path, torch.bfloat16), Noise(), codec, "v1"),
    ]
    assert codec.calls == 8
    assert len({source.fingerprint for source in made}) == len(files(tmp_path)) == 4


def test_a_renamed_file_is_refused(tmp_path):
    cache = LatentCache(tmp_path)
    encode(cache, Noise(), Halve(), "v1")
    shutil.copy(cache.path("noise", "v1"), cache.path("noise", "v2"))
    with pytest.raises(InputError, match="made from other videos or another codec; delete it"):
        encode(cache, Noise(), Halve(), "v2")


def test_a_damaged_file_is_refused(tmp_path):
    cache = LatentCache(tmp_path)
    encode(cache, Noise(), Halve(), "v1")
    path = cache.path("noise", "v1")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is damaged .* delete it to encode again"):
        LatentSource(path, path.stem)


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        encode(LatentCache(tmp_path), Noise(fail_at=5), Halve(), "v1", batch=2)
    assert files(tmp_path) == []
    assert len(encode(LatentCache(tmp_path), Noise(), Halve(), "v1")) == 7


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    needed = 7 * 3 * 2 * 4 * 4 * 4

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vdit.data.latents.fsync", full)
        with pytest.raises(InputError, match=rf"does not fit into {tmp_path}: it needs {needed:,} bytes"):
            encode(LatentCache(tmp_path), Noise(), Halve(), "v1")
    assert files(tmp_path) == []

    codec = Halve()
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(InputError, match=r"needs 2,688 bytes and 1,000 were free; free some space"):
        encode(LatentCache(tmp_path), Noise(), codec, "v1", batch=1)
    assert codec.calls == 1  # found out before the work, not after


def test_other_errors_of_the_disk_pass(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        encode(LatentCache(tmp_path / "file" / "cache"), Noise(), Halve(), "v1")


def test_bfloat16_halves_the_file_and_comes_back_as_floats(tmp_path):
    wide = encode(LatentCache(tmp_path), Noise(count=200), Halve(), "v1", batch=50)
    narrow = encode(LatentCache(tmp_path, torch.bfloat16), Noise(count=200), Halve(), "v1", batch=50)
    sizes = sorted(path.stat().st_size for path in files(tmp_path))
    assert sizes[1] - sizes[0] == 200 * 96 * 2
    torch.testing.assert_close(narrow[7].latents.float(), wide[7].latents, atol=0, rtol=2**-8)
    with BatchLoader(narrow, ClipOrder(200, 0, 4)) as loader:
        batch = next(loader)
    assert batch.pixels is None
    assert batch.latents is not None
    assert batch.latents.dtype == torch.float32
    assert batch.latents.shape == (4, 3, 2, 4, 4)
    index = int(batch.ids[2].split()[1])
    assert torch.equal(batch.latents[2], narrow[index].latents.float())


def test_refusals(tmp_path):
    cache = LatentCache(tmp_path)
    with pytest.raises(InputError, match="no clips to encode"):
        encode(cache, Noise(count=0), Halve(), "v1")
    with pytest.raises(InputError, match=r"clip 2 that are not finite in torch\.float32"):
        encode(cache, Noise(), lambda pixels: pixels / (pixels != Noise()[2].pixels), "v1")
    with pytest.raises(
        InputError, match=r"one shape, but clip 0 is \(3, 2, 4, 4\) and clip 4 is \(3, 2, 4, 6\)"
    ):
        encode(cache, Noise(wide_at=4), Halve(), "v1", batch=1)
    with pytest.raises(InputError, match=r"stored as torch.float32, .* not as torch.int8"):
        LatentCache(tmp_path, torch.int8)
    assert files(tmp_path) == []


def test_all_that_is_wanted_of_a_clip_is_made_when_it_is_read(tmp_path):
    class Counted(Noise):
        def __getitem__(self, index: int) -> Clip:
            read.append(index)
            return super().__getitem__(index)

    read: list[int] = []
    cache = LatentCache(tmp_path)
    wanted = {
        "latents": ("v1", lambda clips: Halve()(clips.pixels)),
        "brightness": ("mean", lambda clips: clips.pixels.mean((1, 2, 3, 4))[:, None]),
    }
    made = cache.compute(Counted(), wanted, batch=2)
    assert read == list(range(7))
    assert torch.equal(made["brightness"][3].latents, Noise()[3].pixels.mean()[None])
    assert torch.equal(made["latents"][3].latents, Noise()[3].pixels[:, ::2, ::2, ::2] * 3)
    more = wanted | {"darkness": ("least", lambda clips: clips.pixels.amin((1, 2, 3, 4))[:, None])}
    read.clear()
    made = cache.compute(Counted(), more)
    assert read == list(range(7))  # for what is new alone
    read.clear()
    assert cache.compute(Counted(), more)["darkness"][0].latents == Noise()[0].pixels.min()
    assert not read
