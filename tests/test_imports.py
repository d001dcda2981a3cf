"""Imports run one way, heavy packages have one home each, and files and functions stay short."""

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each package may import itself and what stands on lines above its own, never a neighbour on its line.
LEVELS = (
    ("types",),
    ("progress", "devices", "digests", "first_few", "opencv", "draws", "yaml_file"),
    ("nn", "weights", "camera"),
    ("flow", "codecs", "text", "models", "data", "adapters", "world"),
    ("conditions",),
    ("denoiser", "releases"),
    ("parallel",),
    ("sample",),
    ("eval",),
    ("train",),
    ("config",),
    ("plan", "doctor"),
    ("commands",),
    ("scripts",),
)
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}

# Who may import what, by the start of the path.
HOMES = {
    "torch.distributed": ("vdit/parallel/",),
    "deepspeed": ("vdit/parallel/",),
    "lightning": ("vdit/parallel/",),
    "transformers": ("vdit/text/",),
    "peft": ("vdit/adapters/",),
    "av": ("vdit/data/", "vdit/sample/video_file.py"),
    "decord": ("vdit/data/",),
    "webdataset": ("vdit/data/",),
    "flash_attn": ("vdit/nn/attention.py",),
    "jsonargparse": ("vdit/config.py",),
    "torchvision": (),
}
HEAVY = ("lightning", "transformers", "av", "cv2", "matplotlib", "decord", "deepspeed", "tensorboard")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def sources() -> list[Path]:
    files = [*(ROOT / "vdit").rglob("*.py"), *(ROOT / "data_tools").rglob("*.py"), *ROOT.glob("*.py")]
    return sorted(file.relative_to(ROOT) for file in files)


def package_of(path: Path) -> str:
    """The name of a file in the table of levels; "" is the bare package, which holds a version only."""
    if path.parts[0] != "vdit" or path.name == "__main__.py":
        return "scripts"
    return "" if path == Path("vdit/__init__.py") else path.parts[1].removesuffix(".py")


def imports(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed":
            yield node.lineno, "torch.distributed"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def broken_rules(path: Path, source: str) -> list[str]:
    """A sentence for every import that may not stand in this file."""
    package, broken = package_of(path), []
    for line, name in imports(path, source):
        for heavy, homes in HOMES.items():
            inside = name == heavy or name.startswith(f"{heavy}.")
            if inside and not any(path.as_posix().startswith(home) for home in homes):
                broken.append(f"{path}:{line} imports {name}, which belongs to {homes or 'nobody'}")
        first, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if first in ("data_tools", "train", "sample") and path.parts[0] == "vdit":
            broken.append(f"{path}:{line} imports the script {name}")
        elif first == "vdit" and target and target != "__version__" and target != package:
            if target not in LEVEL:
                broken.append(f"{path}:{line} imports vdit.{target}, which the table of levels does not know")
            elif package and LEVEL[target] >= LEVEL[package]:
                broken.append(f"{path}:{line}: {package} may not import {target}")
            elif not package:
                broken.append(f"{path}:{line}: the bare package imports {target}")
    return broken


def test_every_package_has_a_level():
    packages = {package_of(path) for path in sources()} - {""}
    assert len(packages) > 10
    assert packages <= LEVEL.keys()


def test_imports_run_one_way():
    broken = [sentence for p in sources() for sentence in broken_rules(p, (ROOT / p).read_text())]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        ("vdit/nn/rope.py", "from vdit.flow.noise import Uniform", "nn may not import flow"),
        ("vdit/flow/noise.py", "def f():\n    import vdit.models.backbone", "flow may not import models"),
        ("vdit/flow/noise.py", "from vdit import codecs", "flow may not import codecs"),
        ("vdit/flow/noise.py", "from ..train import loop", "flow may not import train"),
        ("vdit/types.py", "import vdit.nn.rope", "types may not import nn"),
        ("vdit/denoiser.py", "import vdit.parallel.engine", "denoiser may not import parallel"),
        ("vdit/sample/sampler.py", "from vdit.eval.psnr import psnr", "sample may not import eval"),
        ("vdit/train/loop.py", "from vdit.config import Run", "train may not import config"),
        ("vdit/__init__.py", "from vdit.types import Clip", "the bare package imports types"),
        ("vdit/train/loop.py", "import vdit.helpers", "does not know"),
        ("vdit/train/loop.py", "import data_tools.cut", "imports the script"),
        ("vdit/train/loop.py", "import torch.distributed as dist", "imports torch.distributed"),
        ("vdit/train/loop.py", "from torch import distributed", "imports torch.distributed"),
        ("vdit/train/loop.py", "import torch\ntorch.distributed.barrier()", "imports torch.distributed"),
        ("vdit/train/loop.py", "from lightning.fabric import Fabric", "imports lightning"),
        ("vdit/data/decode.py", "import transformers", "imports transformers"),
        ("vdit/text/t5.py", "import av", "imports av"),
        ("vdit/sample/sampler.py", "import av", "imports av"),
        ("vdit/nn/mlp.py", "import flash_attn", "imports flash_attn"),
        ("vdit/train/run.py", "from jsonargparse import CLI", "imports jsonargparse"),
        ("vdit/data/transforms.py", "import torchvision.io", "nobody"),
        ("vdit/data/x.py", "from importlib import import_module\nimport_module('transformers')", "transform"),
    ],
)
def test_planted_violations_are_found(path: str, source: str, says: str):
    [sentence] = set(broken_rules(Path(path), source))
    assert says in sentence


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("vdit/nn/attention.py", "from vdit.types import InputError\nfrom flash_attn import flash_attn_func"),
        ("vdit/conditions/caption.py", "from vdit.text.encoder import TextEncoder"),
        ("vdit/sample/video_file.py", "import av\nimport avro"),
        ("vdit/train/loop.py", "from vdit.train.state import TrainState\nfrom vdit import __version__"),
        ("train.py", "from vdit.commands.train import main"),
    ],
)
def test_allowed_imports_are_let_through(path: str, source: str):
    assert broken_rules(Path(path), source) == []


def test_files_and_functions_fit_a_screen():
    long = []
    for path in sources():
        text = (ROOT / path).read_text()
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            long.append(f"{path} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path}:{node.lineno} {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    tail = "\nimport sys; print('\\nLOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_importing_the_package_costs_nothing():
    loaded = loaded_after("import vdit; assert vdit.__version__")
    assert "vdit" in loaded
    assert not loaded & {"torch", "numpy", "einops", "jaxtyping", *HEAVY}


def test_help_of_train_loads_nothing_heavy():
    started = time.perf_counter()
    loaded = loaded_after(
        "import runpy, sys\nsys.argv = ['train.py', '--help']\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as leaving:\n    assert not leaving.code, leaving.code"
    )
    print(f"train.py --help: {time.perf_counter() - started:.1f} s")
    assert {"torch", "jsonargparse"} <= loaded
    assert not loaded & set(HEAVY)


def test_importing_every_module_loads_nothing_heavy():
    modules = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in sources()
        if path.parts[0] == "vdit"
    ]
    loaded = loaded_after("\n".join(f"import {module}" for module in modules))
    assert not loaded & set(HEAVY)
