"""Prompts from files: lines of a text, columns of a list."""

from pathlib import Path

import pytest

from vdit.sample.prompts import Prompt, PromptFile, read_prompts
from vdit.types import InputError


@pytest.mark.parametrize(
    ("name", "text", "prompts", "unread"),
    [
        ("p.txt", "a red cube, left\n\n  b \n", [Prompt("a red cube, left"), Prompt("b")], ()),
        ("p.TXT", "﻿é\r\n蓝\r\n", [Prompt("é"), Prompt("蓝")], ()),
        ("prompts", "a\n", [Prompt("a")], ()),
        ("p.csv", 'prompt\n"a, b"\nc\n', [Prompt("a, b"), Prompt("c")], ()),
        ("p.CSV", "id;Text;seed\n1;a;7\n2;b;\n", [Prompt("a", 7), Prompt("b")], ("id",)),
        ("p.csv", "video,caption\na.mp4,a red cube\n", [Prompt("a red cube")], ("video",)),
        ("p.tsv", "caption\tseed\na, b\t0\n", [Prompt("a, b", 0)], ()),
        ("p.jsonl", '{"prompt": "a", "seed": 3}\n\n{"caption": "b"}\n', [Prompt("a", 3), Prompt("b")], ()),
        ("p.jsonl", '{"text": "a", "mood": 1}\n', [Prompt("a")], ("mood",)),
    ],
)
def test_what_files_say(tmp_path: Path, name: str, text: str, prompts: list[Prompt], unread: tuple[str, ...]):
    (tmp_path / name).write_text(text)
    assert read_prompts(tmp_path / name) == PromptFile(tuple(prompts), unread)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.json", "[]", "ends in '.json'; the accepted endings are .txt .jsonl .csv .tsv"),
        ("p.yaml", "a", "ends in '.yaml'"),
        ("p.csv", "video,words\na.mp4,b\n", "line 1: no 'caption' column with what to show"),
        ("p.csv", "prompt,seed\n,4\n", "line 2: no 'prompt' column with what to show; it has seed"),
        ("p.csv", "prompt,seed\na,-1\n", "line 2: seed -1 must be a whole number, 0 or more"),
        ("p.csv", f"prompt,seed\na,{2**63}\n", "and below 2^63"),
        ("p.csv", "prompt\n", "is empty: write one prompt a line"),
        ("p.csv", "prompt,seed\na, b,4\n", "line 2: 3 cells, and the header has 2"),
        ("p.jsonl", '{"prompt": 7}\n', "line 1: no 'prompt' column"),
        ("p.jsonl", '{"prompt": "a", "seed": true}\n', "seed True must be a whole number"),
        ("p.jsonl", "a red cube\n", "line 1: not a JSON object"),
        ("p.jsonl", '{"prompt": "a", "text": "b"}\n', "could both be the caption, and differ"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, says: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        read_prompts(tmp_path / name)
    assert says in str(refused.value)
