"""Documentation names code: every file that a page names exists, and every `file:symbol` is defined in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.md"))
    if page.name != "CHANGELOG.md"  # it may name what is gone
)
SYMBOL = re.compile(r"`((?:vdit|tests|docs)/[\w/]+\.py):([\w.]+)`")
FILE = re.compile(r"`((?:vdit|tests|docs|configs|data_tools)/[\w/.-]+\.(?:py|yaml|md))[:`]")
CLASS_PATH = re.compile(r"\b(vdit(?:\.[a-z_]\w*)+)\.([A-Z]\w*)")


def defined(file: Path) -> set[str]:
    """Names of classes, functions and constants of a file, and `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{method.name}" for method in inner if isinstance(method, ast.FunctionDef)}
    return names


def absent(text: str) -> list[str]:
    """What a page names and the code does not have."""
    named = [file for file in FILE.findall(text) if "NAME" not in file]  # NAME stands for a reader's own
    missing = [file for file in named if not (ROOT / file).is_file()]
    for file, symbol in SYMBOL.findall(text):
        if (ROOT / file).is_file() and symbol not in defined(ROOT / file):
            missing.append(f"{file}:{symbol}")
    for module, name in CLASS_PATH.findall(text):
        file = ROOT / (module.replace(".", "/") + ".py")
        if not file.is_file() or name not in defined(file):
            missing.append(f"{module}.{name}")
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_everything_a_page_names_exists(page: Path):
    assert absent(page.read_text()) == []


def test_every_equation_has_its_code():
    text = (ROOT / "docs/theory/equations.md").read_text()
    equations = len(re.findall(r"^\$\$", text, flags=re.MULTILINE))
    assert equations >= 20
    assert len(SYMBOL.findall(text)) >= equations


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`vdit/flow/solver.py:Heun.step`, `vdit/flow/noise.py`, `vdit.flow.noise.Uniform`", []),
        ("`vdit/flow/solver.py:Heun.leap`", ["vdit/flow/solver.py:Heun.leap"]),
        ("`vdit/flow/solver.py:RungeKutta`", ["vdit/flow/solver.py:RungeKutta"]),
        ("`vdit/flow/chaos.py:Heun`", ["vdit/flow/chaos.py"]),
        ("`configs/train/none.yaml`", ["configs/train/none.yaml"]),
        ("class_path: vdit.flow.noise.Beta", ["vdit.flow.noise.Beta"]),
        ("`vdit/models/NAME/dit.py`: yours", []),
    ],
)
def test_planted_mistakes_are_found(text: str, missing: list[str]):
    assert absent(text) == missing
