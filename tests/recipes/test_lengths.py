"""Texts longer than the model takes."""

from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.base_models import base_model_path
from dpft.recipes.config.schema import Architecture, FamilyName
from dpft.recipes.infilling.encoding import WordedFields, encode_worded
from dpft.recipes.infilling.wording import checked_wording
from dpft.recipes.lengths import refuse_long_texts
from dpft.recipes.tasks import Split, Task, build_task, settings_classes

TEMPLATE = "{text} In one word, that was {mask}."
LONG = "my card was charged twice " * 10


def task_of(folder: Path, *, truncate: bool = False) -> Task:
    file = folder / "train.csv"
    file.write_text(f"text,label\nshort,no\n{LONG},yes\n")
    return build_task(settings_classes()["text_classification"](train=str(file), truncate=truncate))


def test_a_long_text_is_named_by_row_and_not_quoted(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    rows = task.load(Split.TRAIN)
    place = r"file=train\.csv row=2 column=text to have at most"
    with pytest.raises(ConfigurationError, match=place) as caught:
        refuse_long_texts(rows, task, "embedded", Architecture(max_length=16), Split.TRAIN)
    assert "card" not in str(caught.value)
    assert len(caught.value.messages) == 1


def test_texts_that_fit_pass_at_exactly_their_length(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    task = task_of(tmp_path)
    rows = task.load(Split.TRAIN)
    tokenizer = AutoTokenizer.from_pretrained(base_model_path("embedded"))
    longest = max(len(tokenizer(row["text"])["input_ids"]) for row in rows)
    refuse_long_texts(rows, task, "embedded", Architecture(max_length=longest), Split.TRAIN)
    with pytest.raises(ConfigurationError):
        refuse_long_texts(rows, task, "embedded", Architecture(max_length=longest - 1), Split.TRAIN)


def test_texts_are_cut_only_where_somebody_said_so(tmp_path: Path) -> None:
    task = task_of(tmp_path, truncate=True)
    rows = task.load(Split.TRAIN)
    refuse_long_texts(rows, task, "embedded", Architecture(max_length=16), Split.TRAIN)


def test_a_template_counts_so_that_no_text_beside_it_is_cut(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    task = task_of(tmp_path)
    rows = task.load(Split.TRAIN)
    words = ("bad", "good")
    wording = checked_wording(task, TEMPLATE, words, with_mask=True)
    tokenizer = AutoTokenizer.from_pretrained(base_model_path("embedded"))

    def encoded(most: int) -> list[int]:
        fields = WordedFields("text", None, "label", most)
        return [len(row["input_ids"]) for row in encode_worded(rows, tokenizer, wording, fields)]

    def refused(most: int) -> bool:
        asked = Architecture(
            family=FamilyName.INFILLING, template=TEMPLATE, label_words=words, max_length=most
        )
        try:
            refuse_long_texts(rows, task, "embedded", asked, Split.TRAIN)
        except ConfigurationError:
            return True
        return False

    whole = encoded(500)
    fits = [most for most in range(30, 120) if not refused(most)]
    assert fits == list(range(fits[0], 120))
    assert encoded(fits[0]) == whole
    assert encoded(fits[0] - 1) != whole or fits[0] <= max(whole) + 2  # a cut may cost a token
