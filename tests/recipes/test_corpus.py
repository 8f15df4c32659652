"""Public corpora: rows kept back, texts of the test file left out, labels that are described."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.corpora import CORPORA, CorpusName
from dpft.recipes.tasks.corpus import CorpusSettings, CorpusTask, JudgedBy


def written(folder: Path, stem: str, rows: list[dict[str, Any]]) -> None:
    path = folder / f"{stem}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"text": f"question {n} ?", "label": n % 6} for n in range(30)]
    written(tmp_path, "textcls/trec/train", rows)
    tests = [{"text": "Question 7", "label": 1}, {"text": "question 70 ?", "label": 2}]
    written(tmp_path, "textcls/trec/test", tests)
    return tmp_path


def task(folder: Path, corpus: CorpusName = CorpusName.TREC, **settings: Any) -> CorpusTask:
    return CorpusTask(CorpusSettings(corpus=corpus, path=str(folder), **settings))


def texts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["text"] for row in rows}


def test_rows_kept_back_are_never_trained_on(folder: Path) -> None:
    kept_back = task(folder, judged_by=JudgedBy.KEPT_BACK).load(Split.VALIDATION)
    trained = task(folder).load(Split.TRAIN)
    assert texts(kept_back) == {"question 0 ?", "question 10 ?", "question 20 ?"}
    assert not texts(kept_back) & texts(trained)
    assert trained == task(folder, judged_by=JudgedBy.KEPT_BACK).load(Split.TRAIN)


def test_texts_of_the_test_file_are_left_out_however_they_are_written(folder: Path) -> None:
    trained = task(folder).load(Split.TRAIN)
    assert len(trained) == 26
    assert "question 7 ?" not in texts(trained)


def test_held_out_records_are_spread_over_their_file(folder: Path) -> None:
    found = task(folder, judged_by=JudgedBy.KEPT_BACK, judged=2).load(Split.VALIDATION)
    assert texts(found) == {"question 0 ?", "question 20 ?"}


def test_a_domain_takes_its_own_records_alone(tmp_path: Path) -> None:
    for stem in ("train", "test"):
        rows = [
            {"text": f"{stem} a {domain} {number}", "label": 1, "domain": domain}
            for number in range(9)
            for domain in ("dvd", "MR")
        ]
        written(tmp_path, f"textcls/fdu_mtl/{stem}", rows)
    found = task(tmp_path, CorpusName.MEDIA).load(Split.TRAIN)
    assert found
    assert all("a dvd" in row["text"] for row in found)


def test_rows_without_a_word_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": text, "domain": "dvd"} for text in ("kept back", " ", "a text", "...")]
    written(tmp_path, "text/fdu_mtl_unlabelled", rows)
    written(tmp_path, "textcls/fdu_mtl/test", [{"text": "other", "domain": "dvd", "label": 0}])
    found = task(tmp_path, CorpusName.MEDIA_TEXTS).load(Split.TRAIN)
    assert found == [{"text": "a text", "label": 0}]


def test_a_row_without_a_word_moves_no_other_row(folder: Path) -> None:
    before = texts(task(folder).load(Split.TRAIN))
    rows = [{"text": f"question {n} ?" if n != 4 else " ", "label": n % 6} for n in range(30)]
    written(folder, "textcls/trec/train", rows)
    assert texts(task(folder).load(Split.TRAIN)) == before - {"question 4 ?"}
    kept_back = task(folder, judged_by=JudgedBy.KEPT_BACK).load(Split.VALIDATION)
    assert texts(kept_back) == {"question 0 ?", "question 10 ?", "question 20 ?"}


def test_a_label_beyond_those_declared_is_refused(folder: Path) -> None:
    written(folder, "textcls/trec/train", [{"text": "a", "label": 6}])
    with pytest.raises(ConfigurationError, match="row=1 column=label"):
        task(folder).load(Split.TRAIN)


def test_missing_files_are_a_problem_before_anything_is_read(tmp_path: Path) -> None:
    [problem] = task(tmp_path).problems()
    assert "train.parquet" in problem


def test_without_a_place_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    [problem] = CorpusTask(CorpusSettings()).problems()
    assert "task.path" in problem


@pytest.mark.parametrize("name", CorpusName)
def test_every_label_is_described_or_there_are_none(name: CorpusName) -> None:
    corpus = CORPORA[name]
    assert len(corpus.descriptions) == (len(corpus.labels) if corpus.is_labelled else 0)
    assert all(corpus.descriptions)


def test_the_command_line_knows_corpora() -> None:
    settings = compose_settings(["task=corpus", "task.corpus=emotion"])
    assert settings.privacy.dataset_id == "emotion"
    assert settings.architecture.train_head is False


def test_the_real_files_are_found(assets: Path) -> None:
    for name in CorpusName:
        assert task(assets / "data", name).problems() == []
