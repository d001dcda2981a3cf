"""UniPC, DPM-Solver++ and the tables of sigmas, as Wan's, HunyuanVideo's and diffusers' code run them."""

from pathlib import Path

import torch

from vdit.eval.import_case import ImportCase, compare
from vdit.flow.multistep import DPMSolverPP, UniPC
from vdit.flow.solver import Solver, schedule

CASE = ImportCase.open(Path(__file__).parents[1] / "oracle/schedulers")


def test_tables_and_ends_are_those_of_the_authors_code():
    expected, got = CASE.expected(), CASE.compute("-")
    assert len(expected) == 24
    assert got.keys() == expected.keys()
    found = compare("-", got, expected)
    assert found.passed, found
    assert found.relative < 2e-6


def test_solvers_of_the_same_order_end_at_other_places():
    """By a thousand times what the case forgives: it can tell them apart."""
    start = torch.linspace(-1, 1, 5)

    def end(solver: Solver) -> torch.Tensor:
        return solver.solve(lambda x, sigma: 0.7 * x - 0.4 * sigma, start, schedule(8, 5.0, first=0.999))

    assert (end(UniPC()) - end(DPMSolverPP())).abs().max() > 1e-3
