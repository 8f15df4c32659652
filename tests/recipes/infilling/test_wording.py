"""Templates and words of labels: those of the papers, and what is refused before a model loads."""

import json
import shutil
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.infilling.wording import WORDINGS, Wording, checked_wording, default_wording
from dpft.recipes.preparation import prepare
from dpft.recipes.tasks import Task, build_task

INFILLING = ["task=sst2", "architecture=infilling"]


def task(name: str) -> Task:
    return build_task(compose_settings([f"task={name}"]).task)


def test_sst2_is_worded_as_in_the_paper() -> None:
    wording = default_wording(task("sst2"))
    assert wording is not None
    text = wording.text_of({"text": "a fine film {pair}", "mask": "<mask>"})
    assert text == "a fine film {pair} It was <mask>."
    assert dict(zip(("negative", "positive"), wording.words, strict=True)) == {
        "negative": "terrible",
        "positive": "great",
    }


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_every_wording_fits_the_labels_of_its_task(name: str) -> None:
    found = task(name)
    wording = default_wording(found)
    assert wording is not None
    assert wording == checked_wording(found, None, None, with_mask=True)


@pytest.mark.parametrize(
    "template",
    ["{text} It was great.", "It was {mask}.", "{text} {mask} {mask}", "{text}{x}{mask}"],
)
def test_a_template_without_its_one_mask_and_text_is_refused(template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"architecture\.template="):
        checked_wording(task("sst2"), template, None, with_mask=True)


@pytest.mark.parametrize("words", [("good",), ("good", "good"), ("a", "b", "c")])
def test_words_that_do_not_name_each_label_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"label_words=.* to be 2 words"):
        checked_wording(task("sst2"), None, words, with_mask=True)


def test_a_task_without_wording_asks_for_one() -> None:
    with pytest.raises(ConfigurationError, match="never guessed"):
        checked_wording(task("embedded"), None, None, with_mask=True)


def test_a_ranked_wording_has_no_mask() -> None:
    wording = checked_wording(task("sst2"), None, None, with_mask=False)
    assert isinstance(wording, Wording)
    assert "mask" not in wording.template


def test_a_bad_template_is_found_before_the_model_is_looked_at() -> None:
    bad = [*INFILLING, "architecture.template='{text} was great'", "model=./nowhere"]
    with pytest.raises(ConfigurationError, match=r"architecture\.template=") as caught:
        prepare(compose_settings(bad))
    assert any("nowhere" in message for message in caught.value.messages)  # both at once


@pytest.fixture
def films(tmp_path: Path) -> list[str]:
    for split in ("train", "validation"):
        row = json.dumps({"sentence": "a fine film", "label": 1})
        (tmp_path / f"{split}.jsonl").write_text(8 * f"{row}\n", encoding="utf-8")
    own = ["privacy.evaluation=public", "privacy.dataset_id=films"]
    plan = ["privacy.expected_batch_size=2", "privacy.delta=0.01", *own]
    return [*INFILLING, *plan, f"task.path={tmp_path}", "architecture.max_length=64"]


@pytest.mark.parametrize("word", ["very bad", "unheard"])
def test_a_word_that_is_not_one_token_is_refused_before_the_model_is_loaded(
    word: str, tiny_masked: Path, films: list[str], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"  # a model without weights: loading it would fail otherwise
    shutil.copytree(tiny_masked, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    words = f"architecture.label_words=['{word}',great]"
    with pytest.raises(ConfigurationError, match=f"'{word}' is none to this tokenizer"):
        prepare(compose_settings([*films, f"model={bare}", words]))


def test_a_model_without_a_mask_is_refused(tiny_decoder: Path, films: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="has a mask token"):
        prepare(compose_settings([*films, f"model={tiny_decoder}"]))


def test_words_without_a_family_that_reads_them_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="to be unset with"):
        prepare(compose_settings(["architecture.label_words=[a,b]"]))
