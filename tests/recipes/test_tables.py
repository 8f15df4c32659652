import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from dpft.errors import ConfigurationError
from dpft.recipes.tasks.tables import labelled_rows, read_rows, table_in

ROWS: list[dict[str, Any]] = [
    {"text": "a line,\nwith a break and “quotes”", "label": "no"},
    {"text": "second", "label": "yes"},
]
SECRET = "patient Ada Lovelace"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"train{ending}", [{**row, "more": "1"} for row in ROWS])
    assert read_rows(path, ("text", "label")) == ROWS


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_missing_column_is_named(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"train{ending}", ROWS)
    with pytest.raises(ConfigurationError, match="sentence"):
        read_rows(path, ("sentence",))


def malformed(folder: Path) -> list[tuple[Path, str]]:
    broken = folder / "broken.jsonl"
    broken.write_text(f'{{"text": "fine", "label": "no"}}\n{{"text": "{SECRET}\n')
    listed = folder / "listed.jsonl"
    listed.write_text(f'["{SECRET}"]\n')
    null = folder / "null.jsonl"
    null.write_text(f'{{"text": "{SECRET}", "label": null}}\n')
    short = folder / "short.csv"
    short.write_text(f"text,label\nfine,no\n{SECRET}\n")
    latin = folder / "latin.csv"
    latin.write_bytes(f"text,label\n{SECRET} \xe9,no\n".encode("latin-1"))
    not_parquet = folder / "text.parquet"
    not_parquet.write_text(SECRET)
    return [
        (broken, "row=2"),
        (listed, "row=1"),
        (null, "row=1 column=label"),
        (short, "row=2 column=label"),
        (latin, "line=2"),
        (not_parquet, "text.parquet"),
    ]


def test_messages_never_quote_the_file(tmp_path: Path) -> None:
    for path, place in malformed(tmp_path):
        with pytest.raises(ConfigurationError, match=place) as caught:
            read_rows(path, ("text", "label"))
        assert path.name in str(caught.value)
        assert "Lovelace" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_unknown_endings_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"to end in one of \.parquet, \.jsonl, \.csv"):
        read_rows(tmp_path / "train.xlsx", ("text",))
    with pytest.raises(ConfigurationError, match="to exist"):
        read_rows(tmp_path / "train.csv", ("text",))


def test_labels_become_indices_and_strangers_are_named_by_row_only() -> None:
    rows = [*ROWS, {"text": "third", "label": SECRET}, {"text": "  ", "label": "no"}]
    index = {"no": 0, "yes": 1}.get
    checked = labelled_rows(Path("t.csv"), rows[:2], text="text", label="label", index_of=index)
    assert [row["label"] for row in checked] == [0, 1]
    with pytest.raises(ConfigurationError, match="row=3 column=label") as caught:
        labelled_rows(Path("t.csv"), rows, text="text", label="label", index_of=index)
    assert "row=4 column=text" in str(caught.value)
    assert "Lovelace" not in str(caught.value)


def test_only_the_first_malformed_rows_are_listed() -> None:
    rows = [{"text": "", "label": "no"}] * 100
    with pytest.raises(ConfigurationError) as caught:
        labelled_rows(Path("t.csv"), rows, text="text", label="label", index_of=lambda _: 0)
    assert len(caught.value.messages) == 6


def test_a_split_is_found_in_any_format(tmp_path: Path) -> None:
    path = write(tmp_path / "validation.jsonl", ROWS)
    assert table_in(tmp_path, "validation") == path
    with pytest.raises(ConfigurationError, match=r"to hold train\.parquet or train\.jsonl"):
        table_in(tmp_path, "train")


def unreadable(folder: Path) -> list[tuple[Path, str]]:
    """Return files that would be read as something else, and what is to be said of them."""
    written = {
        "shifted.csv": f"text,label\nfine,no\n{SECRET}, yes,no\n",
        "headless.csv": f"{SECRET},yes\nfine,no\n",
        "twice.csv": f"text,label,text\n{SECRET},no,{SECRET}\n",
        "twice.jsonl": f'{{"text": "{SECRET}", "text": "fine", "label": "no"}}\n',
        "deep.jsonl": f'{{"text": "{SECRET}", "label": {"[" * 100_000}\n',
        "wide.csv": f"text,label\n{SECRET * 10_000},no\n",
    }
    for name, content in written.items():
        (folder / name).write_text(content)
    latin = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xe9"))
    table = pa.table({"text": latin, "label": ["no"]})
    parquet.write_table(table, folder / "latin.parquet")
    parquet.write_table(
        pa.Table.from_arrays([pa.array([SECRET])] * 3, names=["text", "label", "text"]),
        folder / "twice.parquet",
    )
    (folder / "cut.parquet").write_bytes((folder / "twice.parquet").read_bytes()[:-20])
    return [
        (folder / "shifted.csv", "row=2 column=any to hold as many fields as the header"),
        (folder / "headless.csv", "the first line names columns"),
        (folder / "twice.csv", "the column text once"),
        (folder / "twice.jsonl", "row=1 column=any to be one JSON object"),
        (folder / "deep.jsonl", "row=1 column=any to be one JSON object"),
        (folder / "wide.csv", "in fields of at most 131072 characters"),
        (folder / "latin.parquet", "no UTF-8"),
        (folder / "twice.parquet", "the column text once"),
        (folder / "cut.parquet", "to be a Parquet file"),
    ]


def test_files_that_would_be_read_as_something_else_are_refused(tmp_path: Path) -> None:
    for path, says in unreadable(tmp_path):
        with pytest.raises(ConfigurationError, match=says) as caught:
            read_rows(path, ("text", "label"))
        assert path.name in str(caught.value)
        assert "Lovelace" not in str(caught.value)


def test_marks_of_byte_order_blank_lines_and_line_ends_are_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext,label\r\n\r\n"a ""b""\r\nc",no\r\n')
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x\xe2\x80\xa8y", "label": 1}\r\n\n')
    assert read_rows(tmp_path / "a.csv", ("text", "label")) == [
        {"text": 'a "b"\r\nc', "label": "no"}
    ]
    assert read_rows(tmp_path / "a.jsonl", ("text", "label")) == [{"text": "x\u2028y", "label": 1}]
