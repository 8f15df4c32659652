"""A folder in the format of a benchmark: published records are public, others are somebody's."""

import json
from pathlib import Path

import pytest

from dpft.errors import ConfigurationError
from dpft.privacy import EvaluationStatus
from dpft.recipes.config.composition import compose_settings
from dpft.recipes.preparation import prepare_evaluation
from dpft.recipes.tasks import Split, build_task
from dpft.recipes.tasks.published import PUBLISHED, digest_of_rows

PRIVATE = {
    "dart": {"tripleset": [["Ada", "has", "flu"]], "annotations": [{"text": "Ada has flu."}]},
    "e2e": {"meaning_representation": "name[Ada]", "human_reference": "Ada has flu."},
    "rte": {"sentence1": "Ada has flu.", "sentence2": "Ada is ill.", "label": 0},
    "sst2": {"sentence": "Ada has flu.", "label": 0},
    "webnlg": {"tripleset": [["Ada", "has", "flu"]], "annotations": [{"text": "Ada has flu."}]},
}
MODEL = "model=embedded"


def folder_of(task: str, folder: Path) -> str:
    for split in ("train", "validation", "test"):
        rows = [json.dumps(PRIVATE[task])] * 2
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return f"task.path={folder}"


def corpus_in(folder: Path) -> list[str]:
    place = folder / "textcls" / "trec"
    place.mkdir(parents=True)
    for split in ("train", "test"):
        row = json.dumps({"text": "Ada has flu.", "label": 0})
        (place / f"{split}.jsonl").write_text(row, encoding="utf-8")
    return ["task=corpus", "task.corpus=trec", f"task.path={folder}"]


def refusal(overrides: list[str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        prepare_evaluation(compose_settings([*overrides, MODEL]))
    return tuple(caught.value.messages)


@pytest.mark.parametrize("task", [*PRIVATE, "corpus"])
def test_records_of_others_in_the_format_of_a_benchmark_are_not_public(
    task: str, tmp_path: Path
) -> None:
    is_corpus = task == "corpus"
    given = corpus_in(tmp_path) if is_corpus else [f"task={task}", folder_of(task, tmp_path)]
    assert build_task(compose_settings(given).task).evaluation is None
    evaluation, name = refusal(given)
    assert f"Expected privacy.evaluation to be given with task.path={tmp_path}" in evaluation
    assert f"privacy.dataset_id={'trec' if task == 'corpus' else task} not to be" in name
    assert "Ada" not in evaluation + name


def test_what_was_said_of_them_holds(tmp_path: Path) -> None:
    given = ["task=sst2", folder_of("sst2", tmp_path), MODEL, "privacy.dataset_id=clinic"]
    none = prepare_evaluation(compose_settings([*given, "privacy.evaluation=none"]))
    assert none.held_out == []
    public = prepare_evaluation(compose_settings([*given, "privacy.evaluation=public"]))
    assert len(public.held_out) == 2
    assert public.privacy.evaluation is EvaluationStatus.PUBLIC


def test_a_declaration_does_not_lend_the_name_of_the_benchmark(tmp_path: Path) -> None:
    given = ["task=sst2", folder_of("sst2", tmp_path), "privacy.evaluation=public"]
    (only,) = refusal(given)
    assert "privacy.dataset_id=sst2 not to be that of the benchmark" in only


def test_published_records_are_public_in_any_order_and_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("sentence", "label")
    rows = [{"sentence": "a, b", "label": 0}, {"sentence": "c", "label": 1}]
    monkeypatch.setitem(PUBLISHED, "glue/sst2/other", digest_of_rows(rows, columns))
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text('label,sentence\n1,c\n0,"a, b"\n', encoding="utf-8")
    given = ["task=sst2", f"task.path={tmp_path}", MODEL]
    assert len(prepare_evaluation(compose_settings(given)).held_out) == 2
    (tmp_path / "validation.csv").write_text("label,sentence\n1,c\n", encoding="utf-8")
    assert len(refusal(given)) == 2


def test_kept_back_rows_are_told_by_the_file_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = corpus_in(tmp_path)
    (tmp_path / "textcls" / "trec" / "test.jsonl").write_text(
        json.dumps({"text": "What ?", "label": 1}), encoding="utf-8"
    )
    known = digest_of_rows([{"text": "What ?", "label": 1}], ("text", "label"))
    monkeypatch.setitem(PUBLISHED, "textcls/trec/other", known)
    status = {
        judged: build_task(compose_settings([*given, f"task.judged_by={judged}"]).task).evaluation
        for judged in ("test", "kept_back")
    }
    assert status == {"test": EvaluationStatus.PUBLIC, "kept_back": None}


def test_without_a_path_a_benchmark_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPFT_ASSETS", raising=False)
    for task in ("corpus", "dart", "e2e", "rte", "sst2"):
        found = build_task(compose_settings([f"task={task}"]).task)
        assert found.evaluation is EvaluationStatus.PUBLIC


def test_the_split_of_development_files_keeps_their_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNLI and QNLI without an official training file are judged on a part of a published one."""
    rows = [{"question": f"Who {n} ?", "sentence": "S.", "label": n % 2} for n in range(40)]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "validation.jsonl").write_text(text, encoding="utf-8")
    known = digest_of_rows(rows, ("question", "sentence", "label"))
    monkeypatch.setitem(PUBLISHED, "glue/qnli/other", known)
    task = build_task(compose_settings(["task=qnli", f"task.path={tmp_path}"]).task)
    assert task.evaluation is EvaluationStatus.PUBLIC
    assert 0 < len(task.load(Split.VALIDATION)) < len(rows)


@pytest.mark.parametrize(
    ("task", "folder"), [("e2e", "nlg/e2e"), ("sst2", "glue/sst2"), ("wnli", "glue/wnli")]
)
def test_the_published_files_are_known(task: str, folder: str, assets: Path) -> None:
    given = [f"task={task}", f"task.path={assets / 'data' / folder}"]
    assert build_task(compose_settings(given).task).evaluation is EvaluationStatus.PUBLIC
