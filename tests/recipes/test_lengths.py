"""Texts longer than the model takes."""

from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.lengths import refuse_long_texts
from dpft.recipes.tasks import Split, Task, build_task, settings_classes

LONG = "my card was charged twice " * 10


def task_of(folder: Path, *, truncate: bool = False) -> Task:
    file = folder / "train.csv"
    file.write_text(f"text,label\nshort,no\n{LONG},yes\n")
    return build_task(settings_classes()["text_classification"](train=str(file), truncate=truncate))


def test_a_long_text_is_named_by_row_and_not_quoted(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    rows = task.load(Split.TRAIN)
    with pytest.raises(ConfigurationError, match=r"task\.train row=2 to have at most") as caught:
        refuse_long_texts(rows, task, "embedded", 16, "task.train")
    assert "card" not in str(caught.value)
    assert len(caught.value.messages) == 1


def test_texts_that_fit_pass_at_exactly_their_length(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from dpft.recipes.base_models import base_model_path

    task = task_of(tmp_path)
    rows = task.load(Split.TRAIN)
    tokenizer = AutoTokenizer.from_pretrained(base_model_path("embedded"))
    longest = max(len(tokenizer(row["text"])["input_ids"]) for row in rows)
    refuse_long_texts(rows, task, "embedded", longest, "task.train")
    with pytest.raises(ConfigurationError):
        refuse_long_texts(rows, task, "embedded", longest - 1, "task.train")


def test_texts_are_cut_only_where_somebody_said_so(tmp_path: Path) -> None:
    task = task_of(tmp_path, truncate=True)
    refuse_long_texts(task.load(Split.TRAIN), task, "embedded", 16, "task.train")
