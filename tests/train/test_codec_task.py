"""A codec that starts from all of its clips, not from those whose names come first."""

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from vdit.codecs.codec import VideoCodec
from vdit.codecs.native.codec import NativeCodec
from vdit.codecs.tiling import TiledCodec
from vdit.data.mixture import Mixture, Part
from vdit.eval.psnr import psnr
from vdit.parallel.engine import Engine
from vdit.train.codec_task import CodecTask, pixels_of
from vdit.train.run_folder import RunFolder
from vdit.train.task import Data, Pace, Session
from vdit.types import Clip, ClipSource, InputError

GREY, COLOURED = 1030, 970


class Sorted:
    """Grey clips and coloured ones, each kind together: smooth fields that a few numbers a block can hold."""

    def __init__(self, grey_first: bool) -> None:
        self.grey_first, self.fingerprint = grey_first, f"sorted {grey_first}"

    def __len__(self) -> int:
        return GREY + COLOURED

    def __getitem__(self, index: int) -> Clip:
        number = index if self.grey_first else (index - COLOURED) % len(self)  # the same clips, turned
        generator = torch.Generator().manual_seed(number)
        shades = torch.rand(3, 1, 2, 2, generator=generator) * 2 - 1
        if number < GREY:
            shades = shades[:1].expand(3, -1, -1, -1)
        pixels = torch.nn.functional.interpolate(shades, size=(8, 8), mode="bilinear", align_corners=True)
        return Clip(f"clip {number:04d}", pixels, 8.0, self.caption(index))

    def caption(self, index: int) -> str:
        return ""


def begun(engine: Engine, folder: Path, source: ClipSource) -> tuple[CodecTask, VideoCodec]:
    """A codec before its first step."""
    torch.manual_seed(0)
    codec = NativeCodec(
        latent_channels=10, patch=4, widths=(8, 8), decoder_blocks=(0, 0), strides=((1, 2),), whitening=0.0
    )
    task, data = CodecTask(codec), Data(source, source)
    console = Console(file=StringIO())
    session = Session(engine, RunFolder(folder), console, data, Pace(), 1, 0, clips=4, began=0.0)
    task.check(data)
    task.prepare(session)
    return task, codec


@torch.no_grad()
def decibels(codec: VideoCodec, clips: Tensor) -> float:
    return psnr(TiledCodec(codec).reconstruct(clips), clips).mean().item()


def test_the_order_of_clips_does_not_decide_what_a_codec_starts_from(engine: Engine, tmp_path: Path):
    coloured = torch.stack([Sorted(True)[GREY + i].pixels for i in range(64)])
    found, measured, statistics = [], [], []
    for grey_first in (True, False):
        source = Sorted(grey_first)
        task, codec = begun(engine, tmp_path / str(grey_first), source)
        found.append(decibels(codec, coloured))
        measured.append(task.measure(source, seed=0)["psnr"])
        with torch.no_grad():
            task.measure_latents(source, seed=0)
        statistics.append(torch.cat([codec.latent_mean, codec.latent_std]))
    assert min(found) > 26  # of grey clips alone a codec learns no colour: 16 dB
    assert abs(found[0] - found[1]) < 1
    assert abs(measured[0] - measured[1]) < 1
    torch.testing.assert_close(*statistics, atol=0.15, rtol=0)


def test_of_a_mixture_every_part_is_looked_at(engine: Engine, tmp_path: Path):
    source = Mixture([Part(Sorted(True), 1.0), Part(Sorted(False), 1.0)])
    task, _ = begun(engine, tmp_path, source)
    parts = [part for part, numbers in task.chosen(source, 64, seed=0) for _ in numbers]
    assert [parts.count(part.source) for part in source.parts] == [32, 32]


def test_a_small_set_is_used_whole_and_in_its_order(engine: Engine, tmp_path: Path):
    source = Sorted(True)
    task, _ = begun(engine, tmp_path, source)
    every = torch.cat([pixels_of(batch) for batch in task.batches(source, len(source), seed=5)])
    assert torch.equal(every, torch.stack([source[i].pixels for i in range(len(source))]))


def test_validation_keeps_its_memory(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = Sorted(True)
    task, codec = begun(engine, tmp_path, source)
    sizes, posterior = [], codec.posterior

    def counted(pixels: Tensor, memory=None):
        sizes.append(len(pixels))
        return posterior(pixels, memory)

    monkeypatch.setattr(codec, "posterior", counted)
    task.memory = 2.5 * 4 * codec.working_values(1, 8, 8) / 2**30
    task.measure(source, seed=0)
    assert set(sizes) == {2}


@pytest.mark.parametrize("what", ["measure", "measure_latents", "draw"])
def test_too_little_memory_names_the_clips(
    what: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = Sorted(True)
    task, codec = begun(engine, tmp_path, source)

    def greedy(pixels: Tensor, memory=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(codec, "posterior", greedy)
    more = {"folder": tmp_path} if what == "draw" else {}
    with pytest.raises(
        InputError, match=r"memory to code clip \d+.* \(CUDA out .*lower task.init_args.memory"
    ):
        getattr(task, what)(source, seed=0, **more)


def test_statistics_that_are_no_numbers_name_the_clip(engine: Engine, tmp_path: Path):
    class Burst(Sorted):
        def __getitem__(self, index: int) -> Clip:
            clip = super().__getitem__(index)
            clip.pixels[0, 0, 0, 0] += float("inf") if clip.id == name else 0.0
            return clip

    name = ""
    source = Burst(True)
    task, _ = begun(engine, tmp_path, source)
    name = next(iter(task.batches(source, 512, seed=0))).ids[3]
    with torch.no_grad(), pytest.raises(InputError, match=f"latents of {name} that are not finite"):
        task.measure_latents(source, seed=0)
