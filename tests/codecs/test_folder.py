import errno
import hashlib
import json
import resource
from pathlib import Path

import pytest
import torch

from vdit.codecs.folder import StoredCodec, copy_codec, load_codec, require_same_codec, save_codec
from vdit.types import InputError

FACTS = {"trained": {"steps": 3}, "held_out": {"psnr": 21.5}}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("settings", [{}, {"kernel": (1, 3, 3), "strides": ((1, 2), (2, 1)), "patch": 1}])
def test_a_codec_comes_back_as_it_was(tiny_codec, tmp_path: Path, settings):
    codec = tiny_codec(**settings)
    save_codec(codec, tmp_path / "codec", FACTS)
    again = load_codec(tmp_path / "codec")
    assert type(again) is type(codec)
    assert again.settings == codec.settings
    assert (again.latent_channels, again.stride_t, again.stride_s) == (4, codec.stride_t, codec.stride_s)
    pixels = torch.rand(1, 3, 1 + codec.stride_t, 8, 8)
    assert torch.equal(again.encode(pixels), codec.encode(pixels))
    assert torch.equal(again.decode(again.encode(pixels)), codec.decode(codec.encode(pixels)))
    assert not any(p.requires_grad for p in again.parameters())
    assert not again.training
    assert sorted(contents(tmp_path / "codec")) == ["codec.json", "weights.safetensors"]
    assert json.loads((tmp_path / "codec/codec.json").read_text())["held_out"] == {"psnr": 21.5}


def test_the_fingerprint_changes_with_one_weight_a_statistic_or_a_setting_and_not_with_a_fact(
    tiny_codec, tmp_path: Path
):
    codec = tiny_codec()
    save_codec(codec, tmp_path / "a", FACTS)
    save_codec(codec, tmp_path / "b", {})
    assert StoredCodec(tmp_path / "a").fingerprint == StoredCodec(tmp_path / "b").fingerprint
    seen = {StoredCodec(tmp_path / "a").fingerprint}
    codec.encoder[-1].conv.conv.bias[0] += 1e-6
    save_codec(codec, tmp_path / "c", FACTS)
    codec.latent_std[1] += 1e-6
    save_codec(codec, tmp_path / "d", FACTS)
    save_codec(tiny_codec(kernel=(1, 3, 3)), tmp_path / "e", FACTS)
    seen |= {StoredCodec(tmp_path / name).fingerprint for name in "cde"}
    assert len(seen) == 4


def test_the_weights_are_hashed_once_where_the_fingerprint_is_asked_for_often(
    tiny_codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_codec(tiny_codec(), tmp_path / "a", FACTS)
    save_codec(tiny_codec(), tmp_path / "b", {})
    (tmp_path / "link").symlink_to(tmp_path / "a")
    hashed, digest = [], hashlib.file_digest

    def watched(file, kind):
        hashed.append(Path(file.name).parent.name)
        return digest(file, kind)

    monkeypatch.setattr("vdit.codecs.folder.hashlib.file_digest", watched)
    stored = StoredCodec(tmp_path / "a")
    require_same_codec(stored, tmp_path / "absent")
    require_same_codec(stored, tmp_path / "link")
    assert hashed == []
    require_same_codec(stored, tmp_path / "b")
    assert stored.fingerprint == stored.fingerprint
    assert hashed == ["a", "b"]


def test_folders_without_a_codec_or_without_weights_are_refused(tiny_codec, tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no codec: it has no codec\.json; train one"):
        load_codec(tmp_path / "absent")
    save_codec(tiny_codec(), tmp_path, FACTS)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors does not exist"):
        load_codec(tmp_path)


def test_damaged_weights_are_refused(tiny_codec, tmp_path: Path):
    save_codec(tiny_codec(), tmp_path, FACTS)
    file = tmp_path / "weights.safetensors"
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\xff" * len(whole)):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"weights\.safetensors cannot be read as safetensors"):
            load_codec(tmp_path)


def test_weights_of_another_codec_are_refused(tiny_codec, tmp_path: Path):
    save_codec(tiny_codec(), tmp_path / "a", FACTS)
    save_codec(tiny_codec(widths=(6, 8, 10)), tmp_path / "b", FACTS)
    (tmp_path / "b/weights.safetensors").replace(tmp_path / "a/weights.safetensors")
    with pytest.raises(InputError, match=r"does not fit the model: .*of another shape \['"):
        load_codec(tmp_path / "a")


@pytest.mark.parametrize(
    "description",
    [
        "",
        '{"class_path": "vdit.codecs.nat',
        "[1, 2]",
        '{"class_path": "vdit.codecs.native.codec.Absent", "init_args": {}}',
        '{"class_path": "vdit.no_such_module.Codec", "init_args": {}}',
        '{"class_path": "vdit.types.Clip", "init_args": {}}',
        '{"class_path": "vdit.codecs.native.codec.NativeCodec"}',
    ],
)
def test_damaged_descriptions_are_refused(tiny_codec, tmp_path: Path, description: str):
    save_codec(tiny_codec(), tmp_path, FACTS)
    (tmp_path / "codec.json").write_text(description)
    with pytest.raises(InputError, match=r"codec\.json"):
        load_codec(tmp_path)


@pytest.mark.parametrize("at", ["save_tensors", "write_text", "sync"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tiny_codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, replaces: bool
):
    folder = tmp_path / "codec"
    folder.mkdir()
    if replaces:
        save_codec(tiny_codec(seed=1), folder, FACTS)
    before = contents(folder)

    def full(*arguments, **_):
        for path in (a for a in arguments if isinstance(a, Path)):
            path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if at == "write_text":
            patched.setattr(Path, at, lambda self, text: full(self))
        else:
            patched.setattr(f"vdit.codecs.folder.{at}", full)
        with pytest.raises(InputError, match=r"the disk is full: \d+ MiB left.*The codec was not saved"):
            save_codec(tiny_codec(), folder, FACTS)
    assert contents(folder) == before
    save_codec(tiny_codec(), folder, FACTS)
    assert load_codec(folder) is not None


def test_a_file_the_system_cuts_short_is_a_sentence(tiny_codec, tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(InputError, match="could not be written to"):
            save_codec(tiny_codec(), tmp_path / "codec", FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path / "codec") == {}


def test_a_place_that_is_no_folder_is_a_sentence(tiny_codec, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"could not be written to.*The codec was not saved"):
        save_codec(tiny_codec(), tmp_path / "file" / "codec", FACTS)


def test_a_full_disk_before_the_folder_exists_is_a_sentence(
    tiny_codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match="the disk is full"):
        save_codec(tiny_codec(), tmp_path / "a" / "b", FACTS)


def test_a_copy_is_made_once_and_never_replaced_by_another_codec(tiny_codec, tmp_path: Path):
    save_codec(tiny_codec(), tmp_path / "a", FACTS)
    copy_codec(tmp_path / "a", tmp_path / "run/codec")
    assert contents(tmp_path / "run/codec") == contents(tmp_path / "a")
    made = (tmp_path / "run/codec/weights.safetensors").stat().st_mtime_ns
    copy_codec(tmp_path / "a", tmp_path / "run/codec")
    assert (tmp_path / "run/codec/weights.safetensors").stat().st_mtime_ns == made
    save_codec(tiny_codec(seed=1), tmp_path / "b", FACTS)
    with pytest.raises(InputError, match="another codec"):
        require_same_codec(StoredCodec(tmp_path / "b"), tmp_path / "run/codec")
    copy_codec(tmp_path / "b", tmp_path / "run/codec")
    assert contents(tmp_path / "run/codec") == contents(tmp_path / "a")
