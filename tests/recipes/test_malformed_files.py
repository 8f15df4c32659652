"""Whatever stands in a file, it is read, or refused by file, row and column by our own error."""

import csv
import io
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import Split, Task, TaskSettings, build_task

MARK = "SECRETLY"  # in every text that may be quoted
TRIPLE = [[MARK, "has", "flu"]]
TEXTS = [{"text": f"{MARK} ill."}]
COLUMNS = {
    "dart": ("tripleset", "annotations"),
    "e2e": ("meaning_representation", "human_reference"),
    "instruction": ("instruction", "response"),
    "regression": ("text", "target"),
    "rte": ("sentence1", "sentence2", "label"),
    "sst2": ("sentence", "label"),
    "stsb": ("sentence1", "sentence2", "label"),
    "table_to_text": ("table", "text"),
    "text_classification": ("text", "label"),
    "text_pair": ("text1", "text2", "label"),
    "webnlg": ("tripleset", "annotations"),
}
SOUND: dict[str, dict[str, Any]] = {
    "dart": {"tripleset": TRIPLE, "annotations": TEXTS},
    "e2e": {"meaning_representation": "name[x]", "human_reference": "X."},
    "table_to_text": {"table": [["a", "b"]], "text": "A b."},
    "webnlg": {"tripleset": TRIPLE, "annotations": TEXTS},
}
OWN = {"instruction", "regression", "table_to_text", "text_classification", "text_pair"}
ODD = (None, True, 3, -0.5, float("nan"), float("inf"), 10**400, "", " ", MARK, "\ud800", "name[x]")
LEAVES = st.sampled_from(ODD) | st.text(max_size=4)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", MARK, ""]), inner, max_size=2)
    ),
    max_leaves=8,
)
VALUES = (
    TREES
    | st.lists(st.lists(LEAVES, min_size=2, max_size=4), max_size=3)
    | st.lists(st.dictionaries(st.sampled_from(["text", "source"]), LEAVES, max_size=2), max_size=3)
    | st.sampled_from([TRIPLE, TEXTS, "name[x], area[y]", "0", 1])
)
SETTINGS: dict[str, TaskSettings] = {}


def task_in(name: str, folder: Path, ending: str) -> Task:
    """Build a task on files in a folder; what is composed once is only moved."""
    if name not in SETTINGS:
        place = ["task.train=?"] if name in OWN else ["task.path=?"]
        owned = ["task.references=one_record"] if name == "table_to_text" else []
        given = [f"task={name}", *place, *owned]
        SETTINGS[name] = compose_settings(given).task
    changed = {"train": f"{folder}/train{ending}"} if name in OWN else {"path": str(folder)}
    return build_task(type(SETTINGS[name])(**vars(SETTINGS[name]) | changed))


def is_read_or_refused(name: str, content: bytes, ending: str) -> str:
    """Read a file by a task; return the refusal, if any, which quotes nothing."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for stem in ("train", "validation", "test"):
            (folder / f"{stem}{ending}").write_bytes(content)
        task = task_in(name, folder, ending)
        said = ""
        for split in (Split.TRAIN,) if name in OWN else Split:
            try:
                rows = task.load(split)
                assert all(isinstance(row["text"], str) for row in rows)
                task.evaluation  # noqa: B018 - it reads the held-out records of a benchmark
            except ConfigurationError as error:
                said += str(error)
        assert MARK not in said
        return said


def sound(name: str, column: str) -> st.SearchStrategy[Any]:
    """Return a value that is read."""
    return st.just(SOUND.get(name, {}).get(column, "0" if column in {"label", "target"} else MARK))


def lines_of(rows: list[Mapping[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.parametrize("name", sorted(COLUMNS))
@settings(max_examples=40)
@given(data=st.data())
def test_malformed_files_give_our_own_errors_and_never_quote(
    name: str, data: st.DataObject
) -> None:
    one_wrong = [
        st.fixed_dictionaries(
            {each: VALUES if each == column else sound(name, each) for each in all_}
        )
        for all_ in [COLUMNS[name]]
        for column in all_
    ]
    anything = st.fixed_dictionaries(dict.fromkeys(COLUMNS[name], VALUES))
    rows = data.draw(st.lists(st.one_of(*one_wrong, anything), min_size=1, max_size=3))
    is_read_or_refused(name, lines_of(rows), ".jsonl")


@pytest.mark.parametrize("name", ["dart", "e2e", "table_to_text", "text_classification"])
@settings(max_examples=40)
@given(content=st.binary(max_size=80), text=st.text(max_size=60), header=st.booleans())
def test_files_of_anything_give_our_own_errors(
    name: str, content: bytes, text: str, header: bool
) -> None:
    names = ",".join(COLUMNS[name]).encode() + b"\n" if header else b""
    for ending in (".csv", ".jsonl", ".parquet"):
        is_read_or_refused(name, names + content, ending)
        is_read_or_refused(name, names + text.encode("utf-8", "surrogatepass"), ending)


@settings(max_examples=40)
@given(cells=st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=4))
def test_any_cells_of_csv_are_read_or_refused(cells: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["table", "text"], *cells])
    is_read_or_refused("table_to_text", buffer.getvalue().encode("utf-8", "replace"), ".csv")


BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "no list": ("dart", {"tripleset": 7}, "tripleset"),
    "text for a list": ("dart", {"tripleset": MARK}, "tripleset"),
    "two cells": ("webnlg", {"tripleset": [[MARK, "b"]]}, "tripleset"),
    "a number for a cell": ("dart", {"tripleset": [[MARK, "b", 3]]}, "tripleset"),
    "an object for a triple": ("dart", {"tripleset": [{"a": MARK, "b": 1, "c": 2}]}, "tripleset"),
    "annotations of texts": ("webnlg", {"annotations": [MARK]}, "annotations"),
    "annotation without text": ("dart", {"annotations": [{"source": MARK}]}, "annotations"),
    "no annotation": ("dart", {"annotations": []}, "annotations"),
    "slots without brackets": ("e2e", {"meaning_representation": MARK}, "meaning_representation"),
    "a list of slots": ("e2e", {"meaning_representation": [MARK]}, "meaning_representation"),
    "a reference that is a number": ("e2e", {"human_reference": 3}, "human_reference"),
    "half a surrogate": ("e2e", {"human_reference": f"{MARK}\ud800"}, "human_reference"),
    "a table of objects": ("table_to_text", {"table": [{"a": MARK}]}, "table"),
    "a table with an empty row": ("table_to_text", {"table": [[MARK], []]}, "table"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_table_is_named_by_file_row_and_column(case: str) -> None:
    name, wrong, column = BROKEN[case]
    said = is_read_or_refused(name, lines_of([SOUND[name], SOUND[name] | wrong]), ".jsonl")
    assert re.search(rf"Expected file=train\.jsonl row=2 column={column} to ", said)
