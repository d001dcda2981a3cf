import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from vdit.text.cache import CachedText
from vdit.text.causal_lm import CausalLM
from vdit.text.encoder import TextEncoder, pad, unpad
from vdit.types import InputError, Tokens

PROMPTS = ["a red circle", "", "a large blue star moving left", "a red circle"]


class Counting(TextEncoder):
    """Draws an embedding from the prompt's hash, one token a word and one more, and counts the prompts."""

    def __init__(self, fingerprint: str = "counting") -> None:
        self._fingerprint = fingerprint
        self.asked: list[str] = []

    @property
    def width(self) -> int:
        return 8

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode(self, prompts: Sequence[str]) -> Tokens:
        self.asked += prompts
        return pad([self.embedding(prompt) for prompt in prompts])

    def embedding(self, prompt: str) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256((self._fingerprint + prompt).encode()).digest()[:6])
        return torch.randn(len(prompt.split()) + 1, 8, generator=torch.Generator().manual_seed(seed))


def assert_right(tokens: Tokens, prompts: Sequence[str], encoder: Counting) -> None:
    for found, prompt in zip(unpad(tokens), prompts, strict=True):
        torch.testing.assert_close(found, encoder.embedding(prompt))


@pytest.mark.parametrize("kept", [True, False])
def test_each_prompt_is_embedded_once(tmp_path: Path, kept: bool):
    encoder = Counting()
    cached = CachedText(encoder, tmp_path if kept else None)
    for _ in range(2):
        assert_right(cached.encode(PROMPTS), PROMPTS, encoder)
    assert sorted(encoder.asked) == sorted(set(PROMPTS))
    cached.encode(["new", *PROMPTS])
    assert encoder.asked[-1] == "new"
    assert len(encoder.asked) == 4


def test_another_instance_reads_what_the_first_wrote(tmp_path: Path):
    CachedText(Counting(), tmp_path).encode(PROMPTS)
    encoder = Counting()
    cached = CachedText(encoder, tmp_path)
    assert_right(cached.encode(PROMPTS), PROMPTS, encoder)
    assert cached.prepare(PROMPTS) == 0
    assert encoder.asked == []
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_chunks_are_readable_to_whom_the_folder_is(tmp_path: Path):
    cached = CachedText(Counting(), tmp_path)
    cached.encode(["a"])
    [chunk] = tmp_path.rglob("*.safetensors")
    assert chunk.stat().st_mode & 0o666 == chunk.parent.stat().st_mode & 0o666


def test_weights_are_not_loaded_where_all_prompts_are_kept(llama: Path, tmp_path: Path):
    first = CausalLM(str(llama))
    expected = CachedText(first, tmp_path).encode(PROMPTS)
    second = CausalLM(str(llama))
    tokens = CachedText(second, tmp_path).encode(PROMPTS)
    assert first.is_loaded
    assert not second.is_loaded
    torch.testing.assert_close(tokens.values, expected.values, atol=0, rtol=0)
    assert torch.equal(tokens.mask, expected.mask)
    CachedText(second, tmp_path).encode(["blue"])
    assert second.is_loaded


def test_weights_are_let_go_of_and_read_again(llama: Path, tmp_path: Path):
    encoder = CausalLM(str(llama))
    cached = CachedText(encoder, tmp_path)
    before = cached.encode(PROMPTS)
    cached.release()
    assert not encoder.is_loaded
    assert torch.equal(cached.encode(PROMPTS).values, before.values)
    assert not encoder.is_loaded
    cached.encode(["blue"])
    assert encoder.is_loaded


def test_another_encoder_never_reads_these_embeddings(tmp_path: Path):
    CachedText(Counting("one"), tmp_path).encode(PROMPTS)
    other = Counting("two")
    assert_right(CachedText(other, tmp_path).encode(PROMPTS), PROMPTS, other)
    assert len(other.asked) == 3


def test_instance_sees_chunks_written_after_it_opened(tmp_path: Path):
    early, late = Counting(), Counting()
    reader = CachedText(early, tmp_path)
    reader.encode(["a"])
    CachedText(late, tmp_path).encode(["b"])
    reader.encode(["b"])
    assert early.asked == ["a"]


def test_prepare_embeds_what_is_missing_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.text.cache._CHUNK_PROMPTS", 4)
    encoder = Counting()
    cached = CachedText(encoder, tmp_path)
    cached.encode(["word 3"])
    reports: list[tuple[int, int]] = []
    assert cached.prepare((f"word {i % 10}" for i in range(30)), lambda *done: reports.append(done)) == 9
    assert reports == [(4, 9), (8, 9), (9, 9)]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    assert len(encoder.asked) == 10
    assert_right(cached.encode(["word 7"]), ["word 7"], encoder)


def test_prepared_without_a_folder_is_kept_in_memory():
    encoder = Counting()
    cached = CachedText(encoder)
    assert cached.prepare(PROMPTS) == 3
    assert cached.prepare(PROMPTS) == 0
    assert_right(cached.encode(PROMPTS), PROMPTS, encoder)
    assert len(encoder.asked) == 3


def test_prepare_goes_from_short_to_long(tmp_path: Path):
    encoder = Counting()
    CachedText(encoder, tmp_path).prepare(["a b c d", "a", "a b c", "a b"])
    assert encoder.asked == ["a", "a b", "a b c", "a b c d"]


@pytest.mark.parametrize("when", ["before it is opened", "after it is opened"])
def test_damaged_chunk_is_named_and_embedded_again(tmp_path: Path, when: str):
    CachedText(Counting(), tmp_path).encode(PROMPTS)
    [chunk] = tmp_path.rglob("*.safetensors")
    encoder = Counting()
    cached = CachedText(encoder, tmp_path)
    if when == "after it is opened":
        assert cached.prepare(PROMPTS) == 0
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=f"{chunk.name} cannot be read"):
        assert_right(cached.encode(PROMPTS), PROMPTS, encoder)
    assert len(encoder.asked) == 3
    fresh = Counting()
    CachedText(fresh, tmp_path).encode(PROMPTS)
    assert fresh.asked == []


def test_deleted_chunk_is_embedded_again(tmp_path: Path):
    encoder = Counting()
    CachedText(encoder, tmp_path).encode(["a"])
    cached = CachedText(encoder, tmp_path)
    assert cached.prepare(["a"]) == 0
    next(tmp_path.rglob("*.safetensors")).unlink()
    with pytest.warns(UserWarning, match="it is gone"):
        assert_right(cached.encode(["a"]), ["a"], encoder)


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cached = CachedText(Counting(), tmp_path)
    cached.encode(["a"])
    before = sorted(tmp_path.rglob("*"))

    def full(tensors: object, file: Path, *_: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vdit.text.cache.save_tensors", full)
    with pytest.raises(InputError, match="the disk is full"):
        cached.encode(["b"])
    assert sorted(tmp_path.rglob("*")) == before


def test_half_precision_gives_the_same_first_and_later_and_halves_the_file(tmp_path: Path):
    long = "word " * 500
    sizes = []
    for dtype in ("float32", "float16"):
        encoder = Counting()
        first = CachedText(encoder, tmp_path / dtype, dtype=dtype).encode([long])
        later = CachedText(encoder, tmp_path / dtype, dtype=dtype).encode([long])
        assert torch.equal(first.values, later.values)
        assert first.values.dtype == torch.float32
        torch.testing.assert_close(first.values[0], encoder.embedding(long), atol=0, rtol=2**-11)
        sizes.append(sum(f.stat().st_size for f in (tmp_path / dtype).rglob("*.safetensors")))
    assert 0.45 < sizes[1] / sizes[0] < 0.55
    assert CachedText(Counting(), dtype="float16").fingerprint != CachedText(Counting()).fingerprint


def test_memory_is_bounded_when_there_is_a_folder(tmp_path: Path):
    encoder = Counting()
    prompts = [f"word {i}" for i in range(20)]
    cached = CachedText(encoder, tmp_path, memory_bytes=3 * 8 * 4 * 5)  # five embeddings
    assert_right(cached.encode(prompts), prompts, encoder)
    assert len(cached._memory) == 5
    assert_right(cached.encode(prompts), prompts, encoder)
    assert len(encoder.asked) == 20


def test_width_is_read_from_kept_embeddings_or_asked_of_the_encoder(tmp_path: Path):
    class Unwilling(Counting):
        @property
        def width(self) -> int:
            raise AssertionError("asked")

    assert CachedText(Counting(), tmp_path).width == 8
    CachedText(Counting(), tmp_path).encode(["a"])
    assert CachedText(Unwilling(), tmp_path).width == 8


def test_refuses_no_prompts():
    with pytest.raises(InputError, match="0 prompts"):
        CachedText(Counting()).encode([])


def write_and_read(folder: str, own: str) -> None:
    encoder = Counting()
    cached = CachedText(encoder, folder)
    for i in range(30):
        prompts = [f"{own} {i}", f"shared {i}"]
        assert_right(cached.encode(prompts), prompts, encoder)


def test_processes_share_a_folder(tmp_path: Path):
    work = "import runpy, sys; runpy.run_path(sys.argv[1])['write_and_read'](*sys.argv[2:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    workers = [
        subprocess.Popen([sys.executable, "-c", work, __file__, str(tmp_path), own], env=environment)
        for own in ("left", "right")
    ]
    assert [worker.wait() for worker in workers] == [0, 0]
    encoder = Counting()
    prompts = [f"{who} {i}" for who in ("left", "right", "shared") for i in range(30)]
    assert_right(CachedText(encoder, tmp_path).encode(prompts), prompts, encoder)
    assert encoder.asked == []
    assert not list(tmp_path.rglob("*.partial"))
