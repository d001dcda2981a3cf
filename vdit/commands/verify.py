"""Check that imported weights compute what their authors' code does.

    python -m vdit verify import CASE ... [--save DIR]

A case is a folder with weights, inputs and expected outputs (`vdit/eval/import_case.py` says how). One line a
layout: greatest absolute and relative difference, ok or FAIL. The status is 1 when anything failed.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdit.types import InputError

if TYPE_CHECKING:
    from vdit.eval.import_case import Comparison, ImportCase

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Verify; 0 when every case passes in every layout, 1 otherwise."""
    options = _parser().parse_args(arguments)

    from vdit.eval.import_case import ImportCase

    cases = [ImportCase.open(Path(folder)) for folder in options.cases]
    save = Path(options.save) if options.save else None
    passed = True
    for case in cases:
        for layout in case.layouts:
            found = _checked(case, layout, save)
            verdict = "ok" if found.passed else f"FAIL  {found.reason}".rstrip()
            numbers = f"absolute {found.absolute:.1e}  relative {found.relative:.1e}"
            print(f"{case.folder.name:20} {layout:10} {numbers}  {verdict}", flush=True)
            passed &= found.passed
        if not case.layouts:
            print(f"{case.folder.name:20} FAIL  no weights: it has neither original/ nor diffusers/")
            passed = False
    return 0 if passed else 1


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="vdit verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("import",), help="import: weights against their authors' code")
    parser.add_argument("cases", nargs="+", metavar="CASE", help="folder of a case")
    parser.add_argument("--save", help="folder for what was computed, one safetensors a case and layout")
    return parser


def _checked(case: "ImportCase", layout: str, save: Path | None) -> "Comparison":
    from vdit.eval.import_case import Comparison, compare
    from vdit.weights.files import save_tensors

    try:
        got = case.compute(layout)
    except InputError as error:
        return Comparison(layout, 0.0, 0.0, str(error))
    if save is not None:
        folder = save / case.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(got, folder / f"{layout}.safetensors")
    return compare(layout, got, case.expected())
