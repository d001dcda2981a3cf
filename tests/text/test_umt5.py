"""UMT5's encoder: numbers and names, against its authors' code."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from vdit.eval.import_case import ImportCase, compare
from vdit.text.umt5 import LAYOUTS, import_umt5, umt5_keys, umt5_of_config
from vdit.types import InputError
from vdit.weights.source import open_weights

ORACLE = Path(__file__).parents[1] / "oracle"
CASE = ORACLE / "umt5"
CONFIG = json.loads((CASE / "config.json").read_text())["diffusers"]
XXL = {**CONFIG, "vocab_size": 256_384, "d_model": 4096, "d_ff": 10_240, "d_kv": 64}
XXL |= {"num_heads": 64, "num_layers": 24, "num_decoder_layers": 24}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_encoder_computes_what_its_authors_code_does(layout: str):
    case = ImportCase.open(CASE)
    assert case.layouts == list(LAYOUTS)
    found = compare(layout, case.compute(layout), case.expected())
    assert found.passed, found


def test_the_case_sees_a_change_of_any_weight(monkeypatch: pytest.MonkeyPatch):
    case = ImportCase.open(CASE)
    right = case.compute("diffusers")
    for name in umt5_keys(2, "diffusers").ours:

        def spoilt(model, source, layout, spoil: str = name) -> None:
            import_umt5(model, source, layout)
            model.get_parameter(spoil).data.mul_(1.1)

        monkeypatch.setattr("vdit.eval.import_case.import_umt5", spoilt)
        assert not compare("diffusers", case.compute("diffusers"), right).passed, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_full_size_has_the_names_of_the_published_files(layout: str):
    with torch.device("meta"):
        model = umt5_of_config(XXL, "XXL")
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}  # the tied embedding once
    manifest = json.loads(
        gzip.decompress((ORACLE / f"manifests/umt5_xxl_encoder.{layout}.json.gz").read_bytes())
    )
    table = umt5_keys(24, layout)
    assert table.ours == own.keys()
    assert sum(p.numel() for p in model.parameters()) == 5_680_910_336
    table.check({name: tuple(shape) for name, shape in manifest["keys"]}, own, "XXL")


def test_what_is_no_umt5_is_refused():
    with pytest.raises(InputError, match="a file describes a t5, not an umt5"):
        umt5_of_config({"model_type": "t5"}, "a file")
    model = umt5_of_config(CONFIG, "a file")
    with pytest.raises(InputError, match=r"does not fit the (original|diffusers) layout"):
        import_umt5(model, open_weights(ORACLE / "wan21_t2v/original"))
