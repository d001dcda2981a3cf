"""YAML that cannot be read is refused in one sentence, with the line to look at."""

from pathlib import Path

import pytest

from vdit.types import InputError
from vdit.yaml_file import read_yaml


def test_tables_lists_and_merged_tables_are_read(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 3}\nc: {x: 1}\n1: ü\n", encoding="utf-8")
    one = {"x": 1, "y": [1, 2]}
    assert read_yaml(file, "table") == {"a": one, "b": {**one, "x": 3}, "c": {"x": 1}, 1: "ü"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "table a.yaml is not YAML: line 5: 'c' is said twice"),
        (b"# a\n```\nb", "table a.yaml is not YAML: line 2: found character '`' that cannot start any token"),
        (b"a: [1", "table a.yaml is not YAML: line 1: expected ',' or ']', but got '<stream end>'"),
        (b"a: !!python/none 1", "table a.yaml is not YAML: line 1: could not determine a constructor for"),
        (b"{a: 1}: 2", "table a.yaml is not YAML: line 1: found unhashable key"),
        (b"\xff\xfe\xff", "table a.yaml is not YAML: it is no text"),
        (b"a: \x07", "table a.yaml is not YAML: unacceptable character #x0007"),
        (None, "table a.yaml cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, told: str
):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("a.yaml").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_yaml(Path("a.yaml"), "table")
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)
