import errno
import os
import stat
from pathlib import Path

import pytest
import torch

from vdit.types import InputError
from vdit.weights.files import DiskError, disk_refusal, read_tensors, save_tensors, write_whole


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o770, 0o660), (0o700, 0o600)])
def test_whoever_may_read_a_folder_may_read_the_weights_in_it(tmp_path: Path, folder: int, file: int):
    tmp_path.chmod(folder)
    save_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == file
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["a"], torch.ones(2))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, DiskError),
        (errno.ESTALE, DiskError),
        (errno.ENOENT, InputError),
        (errno.EROFS, InputError),
    ],
)
def test_what_may_pass_is_told_from_what_must_be_mended(tmp_path: Path, number: int, kind: type[Exception]):
    said = disk_refusal(OSError(number, os.strerror(number)), tmp_path, "Nothing was lost.")
    assert type(said) is kind
    words = f"[Errno {number}] {os.strerror(number)}"
    assert str(said) == f"{tmp_path} could not be written to: {words}. Nothing was lost."


def test_a_text_file_that_could_not_be_written_whole_stays_as_it_was(tmp_path: Path):
    def broken():
        yield "new\n"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "settings.json"
    write_whole(file, ["é\n"])
    with pytest.raises(OSError, match="No space"):
        write_whole(file, broken())
    assert file.read_bytes() == "é\n".encode()
