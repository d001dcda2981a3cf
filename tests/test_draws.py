import pytest
import torch

from vdit.draws import Draws

KINDS = {
    "uniform": lambda draws, n: draws.uniform(n, 3),
    "strata": lambda draws, n: draws.strata(n),
    "normal": lambda draws, n: draws.normal((n, 2, 5), torch.zeros((), dtype=torch.float64)),
}


@pytest.mark.parametrize("world", [2, 4])
def test_a_clip_is_given_the_same_however_many_ranks_share_the_batch(world: int):
    for _ in range(2):  # what is drawn second too
        for draw in KINDS.values():
            together = draw(Draws(7), 8)
            apart = [draw(Draws(7, rank, world), 8 // world) for rank in range(world)]
            assert torch.equal(torch.cat(apart), together)


def test_all_clips_and_ranks_share_what_is_the_same_for_all():
    first, second = (Draws(3, rank, 2) for rank in range(2))
    for draws in (first, second):
        draws.uniform(4)
    assert torch.equal(first.same(5), second.same(5))
    assert torch.equal(first.order(5), second.order(5))
    assert sorted(first.order(5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_and_draws_differ(kind: str):
    draw, draws = KINDS[kind], Draws(0)
    found = [draw(draws, 2), draw(draws, 2), draw(Draws(1), 2)]
    assert torch.equal(found[0], draw(Draws(0), 2))
    assert not any(torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    if kind != "strata":
        assert not torch.equal(found[0][0], found[0][1])


def test_noise_is_a_unit_gaussian():
    noise = Draws(0).normal((64, 40, 40), torch.zeros(()))
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    rows = noise.flatten(1)
    assert torch.corrcoef(rows).triu(1).abs().max() < 0.12  # 64 rows of 1,600 that know nothing of each other


def test_strata_have_one_number_in_each_slice():
    numbers = torch.cat([Draws(5, rank, 4).strata(4) for rank in range(4)])
    assert (16 * numbers).floor().sort().values.tolist() == list(range(16))
