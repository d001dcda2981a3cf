import numpy as np
import pytest

from vdit.eval.interval import median_ratio_interval, wilson
from vdit.types import InputError

Z = 1.959963984540054


def test_wilson_gives_published_numbers():
    # Newcombe 1998, table I, the score method without continuity correction.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize("of", [1, 7, 64, 1000])
def test_wilson_in_closed_form_at_the_ends(of: int):
    assert wilson(0, of) == pytest.approx((0.0, Z**2 / (of + Z**2)))
    assert wilson(of, of) == pytest.approx((of / (of + Z**2), 1.0))


@pytest.mark.parametrize("right", range(0, 31, 3))
def test_wilson_solves_the_score_equation_and_mirrors(right: int):
    low, high = wilson(right, 30)
    for p in (low, high):
        assert (right / 30 - p) ** 2 == pytest.approx(Z**2 * p * (1 - p) / 30, abs=1e-12)
    assert wilson(30 - right, 30) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("right", "of"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_what_is_no_share(right: int, of: int):
    with pytest.raises(InputError, match=f"{right} of {of}"):
        wilson(right, of)


def test_the_ratio_of_paired_times_ignores_what_slows_both():
    slow = np.random.default_rng(0).uniform(1, 9, size=40)
    assert median_ratio_interval(list(1.5 * slow), list(slow)) == pytest.approx((1.5, 1.5))


def test_a_machine_whose_speed_drifts_widens_no_interval():
    rng = np.random.default_rng(2)
    slow, noise = np.linspace(1, 3, 40), rng.normal(1, 0.01, size=(2, 40))
    low, high = median_ratio_interval(list(1.05 * slow * noise[0]), list(slow * noise[1]))
    assert 1.04 < low < 1.05 < high < 1.06


def test_the_interval_of_a_noisy_ratio_holds_it_and_narrows():
    rng = np.random.default_rng(1)

    def interval(pairs: int) -> tuple[float, float]:
        above, below = rng.normal(1.2, 0.1, size=(pairs,)), rng.normal(1, 0.1, size=(pairs,))
        return median_ratio_interval(list(above), list(below))

    (low, high), (nearer_low, nearer_high) = interval(20), interval(2000)
    assert low < 1.2 < high
    assert 1.18 < nearer_low < 1.2 < nearer_high < 1.22
    assert nearer_high - nearer_low < (high - low) / 3
