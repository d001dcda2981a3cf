from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdit.data.order import ClipOrder, Position, spread
from vdit.types import InputError

sizes = {"clips": st.integers(1, 60), "seed": st.integers(0, 2**40), "batch": st.integers(1, 70)}


def batches(order: ClipOrder, count: int, start: Position | None = None) -> list[tuple[int, ...]]:
    position, found = start or Position(), []
    for _ in range(count):
        found.append(order.global_batch(position))
        position = order.after(position)
    return found


@given(**sizes, epochs=st.integers(1, 3))
def test_every_epoch_holds_every_clip_once(clips, seed, batch, epochs):
    order = ClipOrder(clips, seed, batch)
    row = [clip for one in batches(order, -(-epochs * clips // batch)) for clip in one]
    for epoch in range(epochs):
        assert sorted(row[epoch * clips : (epoch + 1) * clips]) == list(range(clips))


@given(**sizes, steps=st.integers(0, 40))
def test_resuming_anywhere_equals_going_on(clips, seed, batch, steps):
    order = ClipOrder(clips, seed, batch)
    position = Position()
    for _ in range(steps):
        position = order.after(position)
    assert position == order.position(steps)
    again = ClipOrder(clips, seed, batch)
    assert (
        batches(again, 5, Position(position.epoch, position.batch_in_epoch))
        == batches(order, steps + 5)[steps:]
    )


@settings(max_examples=50)
@given(clips=st.integers(1, 50), seed=st.integers(0, 9), eighth=st.integers(1, 8), number=st.integers(0, 30))
def test_any_number_of_ranks_sees_the_same_global_batches(clips, seed, eighth, number):
    batch = 4 * eighth
    position = ClipOrder(clips, seed, batch).position(number)
    expected = ClipOrder(clips, seed, batch).global_batch(position)
    for world in (1, 2, 4):
        shares = [ClipOrder(clips, seed, batch, rank, world).local_batch(position) for rank in range(world)]
        assert {len(share) for share in shares} == {batch // world}
        assert tuple(clip for share in shares for clip in share) == expected


@given(clips=st.integers(1, 60), batch=st.integers(1, 70))
def test_positions_count_the_batches_that_begin_in_an_epoch(clips, batch):
    order = ClipOrder(clips, 0, batch)
    counts: Counter[int] = Counter()
    for number in range(30):
        epoch = number * batch // clips  # the epoch of the batch's first clip
        assert order.position(number) == Position(epoch, counts[epoch])
        counts[epoch] += 1


def test_epochs_and_seeds_differ():
    orders = {
        ClipOrder(50, seed, 50).global_batch(Position(epoch)) for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_every_place_is_equally_likely():
    counts = Counter(ClipOrder(6, seed, 1).global_batch(Position())[0] for seed in range(3000))
    assert set(counts) == set(range(6))
    assert all(abs(count - 500) < 110 for count in counts.values())  # 5 standard deviations


def test_the_order_never_changes():
    # A run resumed years later must see the same clips: these numbers are part of the format.
    assert ClipOrder(8, 0, 8).global_batch(Position()) == (4, 6, 3, 7, 1, 0, 2, 5)


def test_a_large_set_is_ordered_at_once():
    order = ClipOrder(2_000_000, 3, 256)
    assert len(set(order.global_batch(Position(1, 5)))) == 256


def test_refusals():
    with pytest.raises(InputError, match="no clips to order"):
        ClipOrder(0, 0, 1)
    with pytest.raises(InputError, match="at least 1 clip, got 0"):
        ClipOrder(4, 0, 0)
    with pytest.raises(InputError, match=r"rank 2 does not exist among 2 \(0 to 1\)"):
        ClipOrder(4, 0, 4, rank=2, world=2)
    with pytest.raises(InputError, match="10 clips cannot be shared evenly by 4 data ranks; use 8 or 12"):
        ClipOrder(4, 0, 10, world=4)


@given(clips=st.integers(1, 5000), count=st.integers(1, 80), seed=st.integers(0, 2**40))
def test_some_clips_stand_for_all(clips, count, seed):
    chosen = spread(clips, count, seed)
    assert len(chosen) == min(clips, count)
    assert list(chosen) == sorted(set(chosen))
    assert all(0 <= clip < clips for clip in chosen)
    assert chosen == spread(clips, count, seed)
    for start in range(
        0, clips, 97
    ):  # of every run of clips as many as its share, give or take one at each end
        within = sum(start <= clip < start + 97 for clip in chosen)
        assert abs(within - min(97, clips - start) * len(chosen) / clips) < 2


def test_a_small_set_stands_for_itself_and_seeds_choose():
    assert spread(64, 64, seed=3) == tuple(range(64))
    assert spread(5, 64, seed=3) == tuple(range(5))
    assert len({spread(1000, 4, seed) for seed in range(50)}) == 50
    assert len({spread(1000, 4, seed)[0] % 2 for seed in range(50)}) == 2  # no step that data could share
