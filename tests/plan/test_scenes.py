"""What a step works on has the shapes that training has."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vdit.codecs.native.codec import NativeCodec
from vdit.codecs.tiling import TiledCodec
from vdit.conditions.camera import CameraPoses, CameraRays
from vdit.conditions.condition import Featured
from vdit.conditions.frames import ImageChannels, ImageTokens
from vdit.conditions.known import KnownFrames
from vdit.conditions.numbers import MotionScore
from vdit.conditions.references import ReferenceImages
from vdit.conditions.region import KnownRegion
from vdit.conditions.second_video import SecondVideo
from vdit.data.stack import stack
from vdit.models.experts import SigmaExperts
from vdit.models.native.dit import NativeDiT
from vdit.parallel.blocks import recompute_blocks
from vdit.plan.clips import ClipShape, shapes_of
from vdit.plan.ledger import Ledger
from vdit.plan.rehearsal import Blank, Rehearsal, rehearse
from vdit.text.encoder import ImageEncoder
from vdit.train.optim import Optim, build_optimizer
from vdit.train.step import StepOutput
from vdit.train.task import Data
from vdit.types import ClipBatch, DenoiserInput, Tokens
from vdit.world.room import Room
from vdit.world.source import WorldSource


class Corners(ImageEncoder):
    """Two tokens an image of three channels: its colours in two corners."""

    @property
    def fingerprint(self) -> str:
        return "corners"

    @property
    def size(self) -> tuple[int, int]:
        return 2, 3

    def encode(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, :, 0, 0], images[:, :, -1, -1]], dim=1)


CONDITIONS: dict[str, Callable[[], Featured]] = {
    "known frames": lambda: KnownFrames({"keyframes": 1.0}, every=3),
    "a known beginning": lambda: KnownFrames({"prefix": 1.0}),
    "known region": KnownRegion,
    "channels": lambda: ImageChannels("first_and_last"),
    "channels without a mask": lambda: ImageChannels(mask=False),
    "image tokens": lambda: ImageTokens(Corners(), "first_and_last"),
    "second video": SecondVideo,
    "references": lambda: ReferenceImages(most=2),
    "poses": CameraPoses,
    "rays": CameraRays,
    "motion": MotionScore,
}


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_features_have_the_size_they_are_said_to_have(name: str):
    if name == "motion":
        pytest.importorskip("cv2", reason="opencv is not installed")
    condition = CONDITIONS[name]()
    codec = NativeCodec(latent_channels=5, widths=[8, 8, 8], encoder_blocks=None, decoder_blocks=[0, 0, 0])
    world = WorldSource(Room(guests=0.5), 2, 9, 32, 48, references=True)
    batch = stack([world[0], world[1]])
    with torch.no_grad():
        feature = condition.feature(batch, TiledCodec(codec))
    assert feature.shape == (2, *condition.feature_size(codec, 9, 32, 48))


@pytest.mark.parametrize("place", ["none", "first", "last", "first_and_last", "keyframes", "prefix"])
def test_images_beside_a_clip_are_as_many_as_training_draws(place: str):
    condition = KnownFrames({place: 1.0}, every=2)
    many = [condition.frames_drawn(row, 17) for row in torch.rand(200, 6).tolist()]
    mask = torch.zeros(len(many), 17, dtype=torch.bool)
    for row, frames in zip(mask, many, strict=True):
        row[frames] = True
    beside = (mask & ~condition.beginning(mask)).sum(1)
    assert beside.max() == condition.most_images


def test_shapes_are_those_of_the_clips():
    world = WorldSource(Room(), 2, 9, 32, 48)
    assert shapes_of(Data(world, world)) == [ClipShape(9, 32, 48)]
    assert ClipShape.read("9x32x48") == ClipShape(9, 32, 48)


def test_blank_numbers_hide_nothing():
    batch = ClipBatch(("a",), ("",), torch.ones(1), latents=torch.zeros(1, 4, 3, 8, 8))
    drawn = KnownRegion(drop=0.9).drawn(batch, Blank(0))
    assert drawn.known.shape == (1, 1, 1, 8, 8)
    assert drawn.known.any()


def told(module: nn.Module, given: tuple[Tensor, ...]) -> StepOutput:
    x, sigma, words, mask = given
    out = module(DenoiserInput(x, sigma, text=Tokens(words, mask)))
    return StepOutput((out - x).square().flatten(1).mean(1))


def rehearsed(module: nn.Module, clips: int) -> Rehearsal:
    x, words = (torch.empty(size, device="meta") for size in ((clips, 4, 2, 8, 8), (clips, 3, 6)))
    mask = torch.empty(clips, 3, dtype=torch.bool, device="meta")
    given = (x, torch.empty(clips, 1, 1, 1, device="meta"), words, mask)
    return rehearse(module, given, told, lambda m: build_optimizer(m, Optim()), False, False)


def expert() -> NativeDiT:
    return NativeDiT(latent_channels=4, text_width=6, width=24, depth=2, heads=2)


def test_two_experts_share_the_clips_and_one_clip_visits_both():
    with torch.device("meta"):
        alone, both, few = (
            expert(),
            SigmaExperts(expert(), expert(), 0.5),
            SigmaExperts(expert(), expert(), 0.5),
        )
    assert rehearsed(both, 4).forward == pytest.approx(rehearsed(alone, 4).forward, rel=0.01)
    with torch.device("meta"):
        alone = expert()
    assert rehearsed(few, 1).forward == 2 * rehearsed(alone, 1).forward


def test_nothing_of_a_rehearsal_stays_behind():
    with torch.device("meta"):
        module = expert()
    recompute_blocks(module, "full")
    rehearsed(module, 1)
    x = torch.randn(1, 4, 2, 8, 8)
    given = (x, torch.full((1, 1, 1, 1), 0.5), torch.randn(1, 3, 6), torch.ones(1, 3, dtype=torch.bool))
    loss = told(expert(), given).loss
    loss.mean().backward()
    assert torch.isfinite(loss).all()


def test_a_ledger_counts_what_is_alive_and_what_was():
    weight = torch.ones(10, 10)
    with Ledger([weight]) as ledger:
        a = weight @ weight
        b = a.view(100)
        assert ledger.live == 400
        c = weight.bfloat16()
        assert (ledger.live, ledger.cast) == (600, 200)
        del a, b
        assert ledger.live == 200
        del c
    assert (ledger.live, ledger.cast, ledger.most, ledger.flops) == (0, 0, 600, 2 * 1000)
