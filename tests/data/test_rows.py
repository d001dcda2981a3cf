"""Lists: rows that are read as their writer meant them, or refused by line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vdit.data.cut import ClipCut
from vdit.data.listing import ListSource
from vdit.data.rows import read_rows
from vdit.types import InputError

STILL = ClipCut(1, 16, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images."""
    for i, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (16, 16), (i * 90, 10, 20)).save(tmp_path / name)
    return tmp_path


def source_of(folder: Path, text: str | bytes, name: str = "list.csv") -> ListSource:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    source = ListSource(folder / name, STILL)
    report = source.report
    assert report.of == "rows"
    assert report.seen == report.used + len(report.skipped) + len(report.not_understood)
    return source


def captions(source: ListSource) -> list[str]:
    return [source.caption(i) for i in range(len(source))]


@pytest.mark.parametrize(
    "text",
    [
        'video,caption\na.png,a cat\nb.png,"a dog, lying"\n',
        'Video , Caption\r\na.png, a cat\r\nb.png, "a dog, lying"\r\n',
        '\ufefffile_name,text\na.png,a cat\nb.png,"a dog, lying"',
        "path;prompt\na.png;a cat\nb.png;a dog, lying\n",
        "video_path\tcap\na.png\ta cat\nb.png\ta dog, lying\n",
        '\nvideo,caption,\na.png,a cat,\nb.png,"a dog, lying",,\n',
        'video,caption,text\na.png,a cat,a cat\nb.png,,"a dog, lying"\n',
    ],
)
def test_tables_of_all_kinds_are_read(folder: Path, text: str):
    source = source_of(folder, text)
    assert captions(source) == ["a cat", "a dog, lying"]
    assert (source.report.seen, source.report.used) == (2, 2)


@pytest.mark.parametrize(
    "names", [("video", "caption"), ("file_name", "text"), ("path", "Prompt"), ("media_path", "cap")]
)
def test_objects_with_the_names_of_other_tools_are_read(folder: Path, names: tuple[str, str]):
    source = source_of(folder, json.dumps({names[0]: "a.png", names[1]: " a cat"}), "list.jsonl")
    assert captions(source) == ["a cat"]


def test_a_caption_of_several_lines_is_one(folder: Path):
    source = source_of(folder, 'video,caption\na.png,"a cat,\nthen ""two"" more,\nthen none"\nb.png,a dog\n')
    assert captions(source) == ['a cat,\nthen "two" more,\nthen none', "a dog"]


def test_tabs_keep_their_quotes_and_tsv_is_an_ending(folder: Path):
    assert captions(source_of(folder, "video\tcaption\na.png\ta cat\n", "list.tsv")) == ["a cat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "video,caption\na.png,a cat\nb.png,a dog, lying\n",
            r"line 3: 3 cells, .*header has 2 \(' ?lying' is too.*quotes",
        ),
        ("video;caption\na.png;a cat; lying\n", "line 2: 3 cells.*a semicolon between double quotes"),
        ("video,caption\na.png,a cat\nb.png\n", "line 3: 1 cells, and the header has 2; write all cells"),
        ("video,caption\na.png,a cat\non a table\nb.png,x\n", "line 3: 1 cells"),
        (
            'video,caption\na.png,"a cat\nb.png,a dog\n',
            "line 2: a cell that begins here with a double quote does",
        ),
        ('video,caption\na.png,x\na.png,"a cat\nb.png,"a dog"\n', "line 3: a cell that begins here"),
        (
            'video,caption\na.png,"a cat\nb.png,a dog of 5"\n',
            r"line 2: a double quote opens here .*b\.png,a dog",
        ),
        ('caption,video\n"a cat,a.png\na dog",b.png\n', r"line 2: a double quote opens here .*a cat,a\.png"),
        ('video,caption\na.png,"a "big" cat"\n', "line 2: a cell .*write each double quote inside it twice"),
        (
            "video,caption,text\na.png,a cat,a dog\n",
            "line 2: 'caption' and 'text' could both be the caption, and differ",
        ),
        ("video,path,caption\na.png,b.png,a cat\n", "line 2: 'video' and 'path' could both be the video"),
        ("video,caption,caption\na.png,a cat,a dog\n", "line 2: 'caption' and 'caption' could both"),
        ("a.png,a cat\nb.png,a dog\n", "line 1: no 'video' column .*'a.png,a cat'; begin with a header"),
        (b"video,caption\na.png,caf\xe9\n", "line 2 is not UTF-8; save it as UTF-8"),
        ("video,caption\n,a cat\n", "line 2: no 'video' column with the path of a video; it has caption"),
        ("video,caption,start\na.png,a cat,00:01\n", "line 2: 'start' must be seconds"),
    ],
)
def test_tables_that_would_lose_words_are_refused_by_line(folder: Path, text: str | bytes, message: str):
    with pytest.raises(InputError, match=message):
        source_of(folder, text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"video": "a.png", "caption": "x", "text": "y"}', "line 1: 'caption' and 'text' could both"),
        ('{"video": "a.png", "caption": "x", "caption": "y"}', "line 1: 'caption' and 'caption' could both"),
        ('{"video": "a.png", "caption": ["x", "y"]}', "line 1: 'caption' must be text"),
        (r'{"video": "a.png", "caption": "\ud83d"}', "line 1: 'caption' holds half a character"),
        ('{"video": "a.png", "start": true}', "line 1: 'start' must be seconds"),
        ('[{"video": "a.png"}]', "line 1: not a JSON object"),
        ('[\n{"video": "a.png"},', "line 1: not a JSON object .*no brackets around them all"),
        ('{"video": "a.png", "x": ' + "[" * 200_000 + "]" * 200_000 + "}", "line 1: not a JSON object"),
        ('{"video": {"path": "a.png"}}', "line 1: 'video' must be the path of a video"),
        ('{"video": "a.png"} {"video": "b.png"}', "line 1: not a JSON object"),
    ],
)
def test_objects_that_would_lose_words_are_refused_by_line(folder: Path, row: str, message: str):
    with pytest.raises(InputError, match=message):
        source_of(folder, row, "list.jsonl")


def test_what_a_list_leaves_out_is_told(folder: Path):
    rows = "video,captoin,id\na.png,a cat,1\n\n,,\nabsent.png,x,2\na.png,a cat,3\n\n"
    report = source_of(folder, rows).report
    assert (report.seen, report.used) == (6, 2)
    assert report.skipped == (
        *((f"line {n}", "an empty row") for n in (3, 4, 7)),
        ("absent.png", "there is no such file"),
    )
    assert [name for name, _ in report.remarks] == ["column 'captoin'", "column 'id'", "a.png"]
    assert "it is not read" in str(report)
    assert report.uncaptioned == ("a.png", "a.png")
    lines = '{"video": "a.png", "caption": null}\n\n{"video": "b.png", "captions": "?"}\n'
    report = source_of(folder, lines, "list.jsonl").report
    assert (report.seen, report.used, report.skipped) == (3, 2, (("line 2", "an empty row"),))
    assert [name for name, _ in report.remarks] == ["column 'captions'"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(str.strip), min_size=1, max_size=6))
def test_what_a_table_writer_writes_is_read(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    import csv

    file = tmp_path_factory.mktemp("t") / "list.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows(
            [("video", "caption"), *(("a.png", t) for t in texts)]
        )
    assert [dict(row.cells).get("caption", "") for row in read_rows(file)] == texts


def test_parquet_is_a_list_too(folder: Path):
    columns = {
        "Video Path": ["a.png", "a.png"],
        "text": ["a cat", None],
        "end": [None, 0.5],
        "motion": [1, 2],
    }
    pq.write_table(pa.table(columns), folder / "list.parquet")
    source = ListSource(folder / "list.parquet", STILL)
    assert [source.caption(i) for i in range(len(source))] == ["a cat", ""]
    assert [name for name, _ in source.report.remarks] == ["column 'motion'"]
    assert len(ListSource(folder / "list.parquet", STILL, where="motion > 1")) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"PAR1 and no more", "cannot be read as Parquet"), (b"", "cannot be read as Parquet")],
)
def test_damaged_parquet_is_refused(content: bytes, why: str, folder: Path):
    (folder / "list.parquet").write_bytes(content)
    with pytest.raises(InputError, match=why):
        ListSource(folder / "list.parquet", STILL)


def test_parquet_without_videos_is_refused(folder: Path):
    pq.write_table(pa.table({"id": [1]}), folder / "list.parquet")
    with pytest.raises(InputError, match=r"no 'video' column with the path of a video; it has 'id'"):
        ListSource(folder / "list.parquet", STILL)
