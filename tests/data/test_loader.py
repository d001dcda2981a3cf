import json
import threading
import time

import pytest
import torch

from vdit.data.loader import BatchLoader
from vdit.data.order import ClipOrder, Position
from vdit.types import Clip, ClipBatch, InputError


class Numbers:
    """Clips that show their own number; notes who asked for them, and fails at `bad`."""

    def __init__(self, count: int, bad: int | None = None, odd: int | None = None):
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
        if index == self.bad:
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


def test_an_error_arrives_with_its_batch_and_stays_there():
    order = ClipOrder(8, 2, 2)
    bad = order.global_batch(order.position(2))[1]
    with BatchLoader(Numbers(8, bad=bad), order, prefetch=3) as loader:
        take(loader, 2)
        for _ in range(2):
            with pytest.raises(InputError, match=f"clip {bad} is bad"):
                next(loader)
            assert loader.position == order.position(2)
        loader.seek(order.after(loader.position))  # a caller may go on behind it
        assert len(next(loader)) == 2


def test_threads_end():
    assert clip_threads() == []
    with pytest.raises(InputError), BatchLoader(Numbers(6, bad=3), ClipOrder(6, 0, 6), workers=3) as loader:
        next(loader)
    for thread in clip_threads():  # after an error they are not waited for
        thread.join(10)
    assert clip_threads() == []
    with BatchLoader(Numbers(6), ClipOrder(6, 0, 6), workers=3) as loader:
        next(loader)
    assert clip_threads() == []
    loader = BatchLoader(Numbers(6), ClipOrder(6, 0, 2), workers=3)
    first = names(take(loader, 2))
    assert len(clip_threads()) == 3
    loader.close()
    loader.close()
    assert clip_threads() == []
    assert names(take(loader, 1)) not in (first[:1], first[1:])  # it goes on behind what was given
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
