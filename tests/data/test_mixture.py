import pytest
import torch

from vdit.data.loader import BatchLoader
from vdit.data.mixture import Mixture, Part, order_of, parts_of
from vdit.data.order import ClipOrder, MixedOrder, Position
from vdit.types import Clip, InputError


class Grey:
    """Clips of one shade, as many and as long as asked for."""

    def __init__(self, name: str, clips: int, frames: int) -> None:
        self.name, self.clips, self.frames = name, clips, frames

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self.clips} {self.frames}"

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> Clip:
        return Clip(f"{self.name}/{index}", torch.zeros(3, self.frames, 4, 4), 8.0, self.caption(index))

    def caption(self, index: int) -> str:
        return f"{self.name} {index}"


def mixture(images: float = 1.0, videos: float = 3.0) -> Mixture:
    return Mixture([Part(Grey("images", 10, 1), images), Part(Grey("videos", 7, 5), videos)])


def test_clips_stand_one_source_after_the_other():
    mixed = mixture()
    assert len(mixed) == 17
    assert [mixed[i].id for i in (0, 9, 10, 16)] == ["images/0", "images/9", "videos/0", "videos/6"]
    assert mixed.caption(11) == "videos 1"
    for out in (-1, 17):
        with pytest.raises(IndexError):
            mixed[out]
    assert mixed.fingerprint == mixture(images=9.0).fingerprint
    assert mixed.fingerprint != Mixture([Part(Grey("images", 10, 1), 1.0)]).fingerprint
    assert [part.fingerprint for part in parts_of(mixed)] == ["images 10 1", "videos 7 5"]
    assert parts_of(part := Grey("a", 1, 1)) == [part]


def test_every_batch_is_of_one_source_and_each_as_often_as_its_share():
    order = order_of(mixture(), seed=0, batch=4)
    position, seen = Position(), {"images": [], "videos": []}
    for _ in range(400):
        batch = order.local_batch(position)
        kinds = {"images" if clip < 10 else "videos" for clip in batch}
        assert len(kinds) == 1
        seen[kinds.pop()].append(batch)
        position = order.after(position)
    assert position == Position(4, 0)
    assert (len(seen["images"]), len(seen["videos"])) == (100, 300)
    for name, clips, first in (("images", 10, 0), ("videos", 7, 10)):  # each in the order it has alone
        alone, at = ClipOrder(clips, 0, 4), Position()
        for batch in seen[name]:
            assert batch == tuple(first + clip for clip in alone.local_batch(at))
            at = alone.after(at)


def test_ranks_share_a_batch_and_a_source_alone_has_the_order_it_had():
    whole, ranks = order_of(mixture(), 1, 4), [order_of(mixture(), 1, 4, rank, 2) for rank in (0, 1)]
    for number in range(0, 100, 7):
        at = Position(3, number)
        assert whole.local_batch(at) == ranks[0].local_batch(at) + ranks[1].local_batch(at)
    assert order_of(Grey("a", 9, 1), 5, 3, 1, 3) == ClipOrder(9, 5, 3, 1, 3)


def test_a_loader_goes_on_in_the_middle_of_a_cycle():
    order = order_of(mixture(), 0, 4)
    with BatchLoader(mixture(), order) as loader:
        for _ in range(103):
            next(loader)
        state = loader.state_dict()
        expected = [next(loader) for _ in range(5)]
    with BatchLoader(mixture(), order) as again:
        again.load_state_dict(state)
        assert [next(again).ids for _ in range(5)] == [batch.ids for batch in expected]
    assert {batch.pixels.shape[2] for batch in expected if batch.pixels is not None} == {1, 5}


def test_mixtures_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="at least one part"):
        Mixture([])
    with pytest.raises(InputError, match=r"has the share 0\.0"):
        Part(Grey("a", 1, 1), 0.0)
    with pytest.raises(
        InputError, match=r"part 2 of a mixture has the share 0\.001 of 1\.001: give it at least"
    ):
        order_of(mixture(1.0, 0.001), 0, 4)
    assert MixedOrder([ClipOrder(3, 0, 1)] * 3, [0.98, 0.01, 0.01]).turns.count(2) == 1
