"""`dpft train` and `dpft evaluate` on every task of GLUE, with a tiny random encoder."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpft.recipes import cli
from dpft.recipes.tasks.glue_tasks import GLUE

SHORT = [
    "privacy.epochs=null",
    "privacy.steps=2",
    "privacy.expected_batch_size=8",
    "privacy.delta=1e-5",
    "privacy.evaluation=public",
    "privacy.dataset_id=words",
    "optim.learning_rate=0.1",
    "architecture.max_length=32",
]
FIGURES = {
    "cola": {"accuracy", "matthews_correlation"},
    "mnli": {"accuracy"},
    "mrpc": {"accuracy", "f1"},
    "qnli": {"accuracy"},
    "qqp": {"accuracy", "f1"},
    "rte": {"accuracy"},
    "sst2": {"accuracy"},
    "stsb": {"pearson", "spearmanr"},
    "wnli": {"accuracy"},
}
WORDS = ("good", "bad", "great", "terrible")


def rows_of(name: str, number: int) -> list[dict[str, Any]]:
    """Records whose texts and labels differ; those of another number differ from these."""
    texts = ("sentence",) if name == "sst2" else GLUE[name].texts
    classes = 2 if name == "sst2" else len(GLUE[name].labels)
    return [
        {text: f"a {WORDS[(row + place + number) % 4]} film" for place, text in enumerate(texts)}
        | {"label": row % 5 if name == "stsb" else (row + number) % classes}
        for row in range(20)
    ]


def folder_of(name: str, folder: Path) -> Path:
    held_out = ("validation",) if name == "sst2" else GLUE[name].development
    for number, stem in enumerate(("train", *held_out)):
        lines = "\n".join(map(json.dumps, rows_of(name, number)))
        (folder / f"{stem}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def trained_and_evaluated(
    name: str, folder: Path, model: Path, capsys: pytest.CaptureFixture[str], *overrides: str
) -> dict[str, float]:
    """Return the metrics of a run, after they were found again by the adapter in its folder."""
    run = folder / "run"
    given = [f"task={name}", f"task.path={folder}", f"model={model}", *SHORT]
    assert cli.main(["train", *given, *overrides, f"hydra.run.dir={run}"]) == 0
    written = (run / "metrics.json").read_text()
    found = json.loads(written)
    assert all(status["status"] == "public" for status in found["metric_status"].values())
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--write"]) == 0
    again = json.loads((run / "metrics.json").read_text())
    assert again["metrics"] == pytest.approx(found["metrics"], abs=1e-6)
    shown = capsys.readouterr().out
    assert all(figure in shown for figure in found["metrics"])
    metrics: dict[str, float] = found["metrics"]
    return metrics


def test_similarity_is_learnt_as_a_number_and_judged_by_correlations(
    tiny_masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of("stsb", tmp_path)
    metrics = trained_and_evaluated("stsb", tmp_path, tiny_masked, capsys)
    assert set(metrics) == FIGURES["stsb"]
    assert all(-1 <= value <= 1 for value in metrics.values())


def test_mnli_is_judged_by_the_part_that_was_asked_for(
    tiny_masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_of("mnli", tmp_path) / "validation_matched.jsonl").write_text("no record")
    metrics = trained_and_evaluated("mnli", tmp_path, tiny_masked, capsys, "task.part=mismatched")
    assert set(metrics) == FIGURES["mnli"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_task_has_the_figures_of_the_leaderboard(
    name: str, tiny_masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(name, tmp_path)
    assert set(trained_and_evaluated(name, tmp_path, tiny_masked, capsys)) == FIGURES[name]
