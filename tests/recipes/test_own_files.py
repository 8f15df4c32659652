"""Files of your own: every kind of task, and what is refused by file, row and column."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from dpft.errors import ConfigurationError
from dpft.recipes.tasks import Split, Task, build_task, settings_classes
from dpft.recipes.tasks.traits import TaskKind, traits_of

SECRET = "patient Ada Lovelace"
ROWS = [
    {"text": "one", "text2": "uno", "label": "yes", "target": 0.5, "who": "a", "id": 1},
    {"text": "two", "text2": "due", "label": "no", "target": 2, "who": "b", "id": 2},
    {"text": "three", "text2": "tre", "label": "no", "target": -1.5, "who": "a", "id": 3},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        lines = [rows[0], *({name: row[name] for name in rows[0]} for row in rows)]
        path.write_text(
            "\n".join([",".join(lines[0]), *(",".join(map(str, row.values())) for row in rows)])
        )
    return path


def task_of(name: str, **fields: Any) -> Task:
    return build_task(settings_classes()[name](**fields))


def malformed(folder: Path, change: dict[str, Any], name: str = "text_pair", **more: Any) -> str:
    """Return what is said of a file whose second row has a mistake."""
    rows = [ROWS[0], {**ROWS[1], "text2": SECRET, **change}, ROWS[2]]
    columns = {"first_column": "text"} if name == "text_pair" else {}
    file = write(folder / "train.jsonl", rows)
    with pytest.raises(ConfigurationError) as caught:
        task_of(name, train=str(file), **columns, **more).load(Split.TRAIN)
    assert "Lovelace" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_labelled_pairs(ending: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"train{ending}", ROWS)
    task = task_of("text_pair", train=str(file), first_column="text")
    assert task.load(Split.TRAIN) == [
        {"text": "one", "pair": "uno", "label": 1},
        {"text": "two", "pair": "due", "label": 0},
        {"text": "three", "pair": "tre", "label": 0},
    ]
    assert task.labels == ("no", "yes")
    assert traits_of(task).pair_field == "pair"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_numbers_are_read_as_numbers(ending: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"train{ending}", ROWS)
    task = task_of("regression", train=str(file))
    assert [row["label"] for row in task.load(Split.TRAIN)] == [0.5, 2.0, -1.5]
    assert traits_of(task).kind is TaskKind.REGRESSION
    assert len(task.labels) == 1


def test_labels_read_off_the_file_are_declared_public(tmp_path: Path) -> None:
    file = str(write(tmp_path / "train.csv", ROWS))
    (sentence,) = traits_of(task_of("text_classification", train=file)).declared_public
    assert "declared public" in sentence
    declared = task_of("text_classification", train=file, labels=("no", "yes"))
    assert traits_of(declared).declared_public == ()


@pytest.mark.parametrize("value", ["", "x", None, float("nan"), float("inf"), True, [1]])
def test_a_target_that_is_no_number_is_named(value: object, tmp_path: Path) -> None:
    said = malformed(tmp_path, {"target": value}, "regression")
    assert "file=train.jsonl row=2 column=target" in said


def test_a_label_outside_the_declared_set_is_named(tmp_path: Path) -> None:
    said = malformed(tmp_path, {"label": SECRET}, labels=("no", "yes"))
    assert "file=train.jsonl row=2 column=label to be one of the declared labels" in said


def test_an_empty_second_text_is_named(tmp_path: Path) -> None:
    assert "row=2 column=text2" in malformed(tmp_path, {"text2": "  "})


def test_repeated_ids_are_named_with_both_rows(tmp_path: Path) -> None:
    said = malformed(tmp_path, {"id": 1}, id_column="id")
    assert "row=2 column=id to differ from that of row 1" in said


@pytest.mark.parametrize("owner", [None, "", "  ", 1.5])
def test_a_missing_owner_is_named(owner: object, tmp_path: Path) -> None:
    said = malformed(tmp_path, {"who": owner}, group_by="who")
    assert "file=train.jsonl row=2 column=who" in said


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "train.csv", ROWS)
    with pytest.raises(ConfigurationError, match=r"file=train\.csv to have the column patient"):
        task_of("text_classification", train=str(file), group_by="patient").load(Split.TRAIN)


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_an_empty_file_is_refused(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"train{ending}"
    file.write_text("text,label\n" if ending == ".csv" else "")
    for labels in (None, ("no", "yes")):
        task = task_of("text_classification", train=str(file), labels=labels)
        with pytest.raises(ConfigurationError, match="at least one record"):
            task.load(Split.TRAIN)


def test_one_label_is_nothing_to_learn(tmp_path: Path) -> None:
    file = write(tmp_path / "train.csv", ROWS[1:])
    with pytest.raises(ConfigurationError, match="two labels or more"):
        _ = task_of("text_classification", train=str(file)).labels


def test_another_encoding_is_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes("text,label\ncaf\u00e9,yes\n".encode("latin-1"))
    task = task_of("text_classification", train=str(file), labels=("no", "yes"))
    with pytest.raises(ConfigurationError, match="line=2 to be UTF-8"):
        task.load(Split.TRAIN)


def test_owners_are_kept_for_training_alone_and_under_one_field(tmp_path: Path) -> None:
    file = str(write(tmp_path / "train.csv", [*ROWS, ROWS[1]]))
    task = task_of("text_classification", train=file, validation=file, group_by="who")
    assert [row["user"] for row in task.load(Split.TRAIN)] == ["a", "b", "a", "b"]
    assert all("user" not in row for row in task.load(Split.VALIDATION))
    traits = traits_of(task)
    assert (traits.owner_field, traits.records_per_user) == ("user", None)


@pytest.mark.parametrize(
    "fields",
    [
        {"group_by": "who", "max_records_per_user": 2},
        {"group_by": "who", "user_column": "who"},
        {"user_column": "who"},
        {"max_records_per_user": 2},
    ],
)
def test_one_of_the_two_ways_to_cover_users_is_chosen(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="max_records_per_user"):
        task_of("regression", train="train.csv", **fields)


@pytest.mark.parametrize("value", ["", "  ", float("nan"), ["x"], {"a": 1}])
@pytest.mark.parametrize("labels", [None, ("no", "yes")])
def test_what_is_no_label_is_named_and_never_becomes_a_class(
    value: object, labels: tuple[str, ...] | None, tmp_path: Path
) -> None:
    said = malformed(tmp_path, {"label": value}, labels=labels)
    assert "file=train.jsonl row=2 column=label" in said


def test_an_integer_and_its_text_are_one_label(tmp_path: Path) -> None:
    rows = [{**row, "label": label} for row, label in zip(ROWS, (1, "0", "1"), strict=True)]
    task = task_of("text_classification", train=str(write(tmp_path / "train.jsonl", rows)))
    assert task.labels == ("0", "1")
    assert [row["label"] for row in task.load(Split.TRAIN)] == [1, 0, 1]


@pytest.mark.parametrize(("records", "labels"), [(3, 3), (12, 7), (1000, 101)])
def test_free_text_is_not_published_as_labels(records: int, labels: int, tmp_path: Path) -> None:
    rows = [{"text": "x", "label": f"{SECRET} {i % labels}"} for i in range(records)]
    file = str(write(tmp_path / "train.jsonl", rows))
    with pytest.raises(ConfigurationError, match="at most 100 labels") as caught:
        _ = task_of("text_classification", train=file).labels
    assert "Lovelace" not in str(caught.value)
    declared = tuple(f"{SECRET} {i}" for i in range(labels))
    assert task_of("text_classification", train=file, labels=declared).labels == declared


@pytest.mark.parametrize("name", ["text_pair", "instruction"])
def test_half_a_sign_is_no_text(name: str, tmp_path: Path) -> None:
    columns = (
        {"second_column": "text"}
        if name == "text_pair"
        else {"instruction_column": "text2", "response_column": "text"}
    )
    rows = [{**ROWS[0], "text1": "x"}, {**ROWS[1], "text1": "x", "text": "Lovelace \ud800"}]
    file = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(ConfigurationError, match="row=2 column=text to hold text") as caught:
        task_of(name, train=str(file), **columns).load(Split.TRAIN)
    assert "Lovelace" not in str(caught.value)


def test_rows_of_one_table_belong_together_also_where_it_is_a_list(tmp_path: Path) -> None:
    table, other = [["name", "Blue  Spice"]], [["name", "Aromi"]]
    rows = [{"table": each, "text": "x"} for each in (table, other, table)]
    file = str(write(tmp_path / "train.jsonl", rows))
    task = task_of("table_to_text", train=file, references="one_record")
    owners = [row["user"] for row in task.load(Split.TRAIN)]
    assert owners[0] == owners[2] != owners[1]
