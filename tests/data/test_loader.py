import json
import threading
import time
from collections.abc import Sequence

import pytest
import torch

from vdit.data.loader import BatchLoader
from vdit.data.order import ClipOrder, MixedOrder, Position
from vdit.data.unreadable import Unreadable
from vdit.types import Clip, ClipBatch, InputError
from vdit.weights.files import DiskError


class Numbers:
    """Clips that show their own number; notes who asked for them, and fails at those that are `bad`."""

    def __init__(self, count: int, bad: Sequence[int] = (), odd: int | None = None):
        self.count, self.bad, self.odd = count, bad, odd
        self.asked: list[int] = []
        self.cores: set[int] = set()
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        self.asked.append(index)
        torch.ones(300_000).sum()  # makes the thread read the default number of cores, if it has not
        self.cores.add(torch.get_num_threads())
        self.threads.add(threading.current_thread().name)
        time.sleep(0.002 * (index % 3))
        if index in self.bad:
            raise InputError(f"clip {index} is bad")
        return Clip(
            str(index), torch.full((3, 2, 4, 4 + (index == self.odd)), float(index)), 8.0, f"number {index}"
        )


def take(loader: BatchLoader, count: int) -> list[ClipBatch]:
    return [next(loader) for _ in range(count)]


def names(batches: list[ClipBatch]) -> list[tuple[str, ...]]:
    return [batch.ids for batch in batches]


def clip_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("clips")]


def test_batches_follow_the_order():
    order = ClipOrder(7, 1, 3)
    with BatchLoader(Numbers(7), order, workers=3) as loader:
        batches = take(loader, 10)
    assert names(batches) == [tuple(map(str, order.global_batch(order.position(k)))) for k in range(10)]
    batch = batches[4]
    assert batch.pixels is not None
    assert batch.pixels.shape == (3, 3, 2, 4, 4)
    assert batch.pixels[:, 0, 0, 0, 0].tolist() == [float(id) for id in batch.ids]
    assert batch.captions == tuple(f"number {id}" for id in batch.ids)
    assert batch.fps.tolist() == [8, 8, 8]
    assert batch.latents is None


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 8])
def test_resume_gives_the_rest(stop):
    order = ClipOrder(7, 1, 3)
    with BatchLoader(Numbers(7), order) as loader:
        whole = names(take(loader, 12))
    with BatchLoader(Numbers(7), order, prefetch=4) as loader:
        assert names(take(loader, stop)) == whole[:stop]
        state = json.loads(json.dumps(loader.state_dict()))
    with BatchLoader(Numbers(7), order, workers=1, prefetch=1) as loader:
        loader.load_state_dict(state)
        assert loader.position == order.position(stop)
        assert names(take(loader, 12 - stop)) == whole[stop:]


def test_resume_at_another_number_of_ranks():
    whole = [set(map(str, ClipOrder(9, 5, 4).global_batch(ClipOrder(9, 5, 4).position(k)))) for k in range(6)]
    with BatchLoader(Numbers(9), ClipOrder(9, 5, 4, rank=1, world=2)) as loader:
        take(loader, 2)
        state = loader.state_dict()
    resumed = []
    for rank in range(4):
        with BatchLoader(Numbers(9), ClipOrder(9, 5, 4, rank, 4)) as loader:
            loader.load_state_dict(state)
            resumed.append(names(take(loader, 4)))
    assert [{id for rank in range(4) for id in resumed[rank][k]} for k in range(4)] == whole[2:]


def test_seek_drops_what_was_prepared():
    order = ClipOrder(7, 1, 3)
    with BatchLoader(Numbers(7), order, prefetch=3) as loader:
        whole = names(take(loader, 5))
        loader.seek(Position())
        assert names(take(loader, 5)) == whole


def test_prefetch_is_bounded():
    source = Numbers(100)
    with BatchLoader(source, ClipOrder(100, 0, 4), workers=2, prefetch=3) as loader:
        assert source.asked == []
        take(loader, 1)
        time.sleep(0.2)
        assert len(source.asked) == 4 * 4  # the batch given, and three ahead


def test_a_clip_that_cannot_be_read_is_replaced_by_the_rule():
    """By the clip that the epoch has a batch later, from then on, and told once with its batch."""
    order = ClipOrder(8, 2, 2)
    bad = order.global_batch(order.position(2))[1]
    stands = next(order.instead(order.position(2), 1))
    assert stands == order.global_batch(order.position(3))[1]
    source = Numbers(8, bad=[bad])
    with BatchLoader(source, order, prefetch=3, name_of="number {}".format) as loader:
        take(loader, 2)
        assert loader.met() == []
        batch = next(loader)
        assert batch.ids[1] == str(stands)
        [met] = loader.met()
        assert met == Unreadable(bad, f"number {bad}", f"clip {bad} is bad", order.position(2))
        assert loader.position == order.position(3)
        rest = names(take(loader, 20))
        assert loader.met() == []
    assert str(bad) not in {name for batch in rest for name in batch}
    assert source.asked.count(bad) <= 2  # once more by a thread that was ahead


@pytest.mark.parametrize("bad", [[3], [1, 4, 6]])
@pytest.mark.parametrize("start", [0, 3, 5])
def test_what_replaces_a_clip_is_the_same_for_any_ranks_and_after_a_resume(bad: list[int], start: int):
    def seen(rank: int, world: int, first: int = 0, known: Sequence[Unreadable] = ()) -> list:
        order = ClipOrder(9, 4, 4, rank, world)
        with BatchLoader(Numbers(9, bad=bad), order, prefetch=2) as loader:
            loader.do_without(known)
            loader.seek(order.position(first))
            return [(next(loader).ids, *loader.met()) for _ in range(8 - first)]

    whole = seen(0, 1)
    assert len({met.clip for _, *each in whole for met in each}) == len(bad)
    apart = [seen(rank, 2) for rank in range(2)]
    assert [a[0] + b[0] for a, b in zip(*apart, strict=True)] == [ids for ids, *_ in whole]
    known = [met for _, *each in whole for met in each]
    assert [ids for ids, *_ in seen(0, 1, start)] == [ids for ids, *_ in whole[start:]]
    assert seen(0, 1, start, known) == [(ids,) for ids, *_ in whole[start:]]


def test_a_clip_that_was_mended_stays_out_from_where_it_was_met_and_counts_before():
    order = ClipOrder(6, 0, 2)
    met = Unreadable(order.global_batch(order.position(1))[0], "", "", order.position(4))
    with BatchLoader(Numbers(6), order) as loader:
        loader.do_without([met])
        ids = names(take(loader, 12))
    assert str(met.clip) in ids[1]
    assert not any(str(met.clip) in batch for batch in ids[4:])


def test_clips_of_a_mixture_are_replaced_by_their_like():
    order = MixedOrder([ClipOrder(4, 0, 2), ClipOrder(5, 0, 2)], [1, 1])
    with BatchLoader(Numbers(9, bad=[0, 5]), order) as loader:
        for batch in take(loader, 30):
            assert len({int(name) < 4 for name in batch.ids}) == 1
            assert not {"0", "5"} & {*batch.ids}


def test_where_nothing_can_be_read_the_batch_is_refused_and_stays_there():
    order = ClipOrder(50, 2, 2)
    last = order.global_batch(order.position(1))
    good = order.global_batch(order.position(0))
    source = Numbers(50, bad=[number for number in range(50) if number not in good])
    with BatchLoader(source, order, workers=1, prefetch=1) as loader:
        next(loader)
        for _ in range(2):
            with pytest.raises(InputError, match=f"in the place of clip {last[0]}, .* clip {last[0]} is bad"):
                next(loader)
            assert loader.position == order.position(1)
    assert len(set(source.asked)) < 50  # a disk that is gone is not asked for all of its clips


def test_a_clip_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch):
    order, answers = ClipOrder(6, 0, 1), threading.Event()
    late = order.global_batch(order.position(1))[0]

    class Silent(Numbers):
        def __getitem__(self, index: int) -> Clip:
            if index == late:
                answers.wait()
            return super().__getitem__(index)

    loader = BatchLoader(Silent(6), order, workers=1, patience=0.3)
    next(loader)
    with pytest.raises(DiskError, match=rf"clip {late} could not be read within 0.3 s"):
        next(loader)
    answers.set()
    loader.close()


def test_an_error_does_not_wait_for_a_disk_that_does_not_answer():
    order, answers = ClipOrder(6, 0, 1), threading.Event()
    late = order.global_batch(order.position(2))[0]

    class Silent(Numbers):
        def __getitem__(self, index: int) -> Clip:
            if index == late:
                answers.wait()
            return super().__getitem__(index)

    def work() -> None:
        with BatchLoader(Silent(6), order, prefetch=3, workers=1) as loader:
            next(loader)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    [reading] = clip_threads()
    answers.set()
    reading.join()


def test_workers_use_one_core_each_and_leave_the_caller_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        source = Numbers(20)
        with BatchLoader(source, ClipOrder(20, 0, 4), workers=3) as loader:
            take(loader, 8)
            assert torch.get_num_threads() == 2
        assert source.cores == {1}
        assert len(source.threads) > 1
    finally:
        torch.set_num_threads(before)


def test_clips_of_different_shapes_are_refused_by_name():
    with (
        BatchLoader(Numbers(4, odd=2), ClipOrder(4, 0, 4)) as loader,
        pytest.raises(InputError, match=r"one shape, but \d is \(3, 2, 4, \d\) and \d is \(3, 2, 4, \d\)"),
    ):
        next(loader)


def test_refusals():
    with pytest.raises(InputError, match="order is for 5 clips, but the source has 4"):
        BatchLoader(Numbers(4), ClipOrder(5, 0, 1))
    with pytest.raises(InputError, match="at least 1, got 0 and 2"):
        BatchLoader(Numbers(4), ClipOrder(4, 0, 1), workers=0)
    state = BatchLoader(Numbers(4), ClipOrder(4, 0, 2)).state_dict()
    for changed, message in [
        (ClipOrder(4, 1, 2), "stored with seed 0, but it is 1 now"),
        (ClipOrder(4, 0, 4), "stored with batch 2, but it is 4 now"),
    ]:
        with pytest.raises(InputError, match=message):
            BatchLoader(Numbers(4), changed).load_state_dict(state)
    with pytest.raises(InputError, match="stored with clips 4, but it is 6 now"):
        BatchLoader(Numbers(6), ClipOrder(6, 0, 2)).load_state_dict(state)
