from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_release import model_of


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny(variant)`: a model as `vdit import` writes it."""
    made: dict[str, Path] = {}

    def make(variant: str) -> Path:
        if variant not in made:
            made[variant] = model_of(variant, tmp_path_factory.mktemp(variant) / "model")
        return made[variant]

    return make
