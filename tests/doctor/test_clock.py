"""Clocks of processes, of which one has died since it was called."""

from concurrent.futures import ThreadPoolExecutor

import torch.distributed as dist

from vdit.doctor.clock import check_clock
from vdit.doctor.hosts import Roll, own_card
from vdit.parallel.peers import Peers


def test_those_behind_one_that_has_gone_are_asked_all_the_same():
    store, roll = dist.HashStore(), Roll((own_card(0, "gloo"),) * 3)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(check_clock, Peers(2, 3, store), roll, 5.0)
        [found] = check_clock(Peers(0, 3, store), roll, 0.5)
        assert third.result(timeout=5) == []
    assert found.sentence.startswith("rank 1 on ")
    assert found.sentence.endswith(" does not say what time it is")
