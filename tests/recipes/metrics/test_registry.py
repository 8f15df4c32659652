"""What every metric owes, and how metrics are found by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpft.errors import ConfigurationError
from dpft.recipes.metrics import glue_metric, glue_tasks, metric, metrics, register
from dpft.recipes.metrics.scorer import Kind

_RECORDS: dict[Kind, tuple[list[Any], list[Any]]] = {
    Kind.TEXTS: (
        ["the cat sat on the mat", "a dog ran home today", "birds sing"],
        [["the cat is on a mat", "cats sit"], ["a dog ran home today"], ["some birds sing"]],
    ),
    Kind.LABELS: ([1, 0, 1, 1, 0], [1, 0, 0, 1, 1]),
    Kind.NUMBERS: ([1.0, 2.5, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0]),
    Kind.LOSSES: ([3.0, 8.0, 1.0], [2, 4, 1]),
}
# The figures of Wang et al. 2018, table 1, and of the leaderboard's diagnostics.
_GLUE = {
    "ax": ["matthews_correlation"],
    "cola": ["matthews_correlation"],
    "mnli": ["accuracy"],
    "mnli_matched": ["accuracy"],
    "mnli_mismatched": ["accuracy"],
    "mrpc": ["accuracy", "f1"],
    "qnli": ["accuracy"],
    "qqp": ["accuracy", "f1"],
    "rte": ["accuracy"],
    "sst2": ["accuracy"],
    "stsb": ["pearson", "spearmanr"],
    "wnli": ["accuracy"],
}


@pytest.mark.parametrize("name", metrics())
def test_figures_are_those_announced_finite_and_blind_to_order(name: str) -> None:
    found = metric(name)
    predictions, references = _RECORDS[found.scorer.kind]
    values = found.compute(predictions=predictions, references=references)
    assert values is not None
    assert tuple(values) == found.scorer.figures
    assert all(isinstance(v, float) and np.isfinite(v) for v in values.values())
    turned = found.compute(predictions=predictions[::-1], references=references[::-1])
    assert turned == pytest.approx(values)


@pytest.mark.parametrize("name", metrics())
def test_rows_are_one_per_record_and_as_wide_as_announced(name: str) -> None:
    scorer = metric(name).scorer
    predictions, references = _RECORDS[scorer.kind]
    rows = scorer.statistics(predictions, references)
    assert rows.shape == (len(predictions), scorer.columns)
    before = rows.copy()
    assert scorer.score(np.concatenate([rows, rows])) == pytest.approx(scorer.score(rows))
    assert (rows == before).all()


@pytest.mark.parametrize("name", metrics())
def test_every_signature_names_its_metric(name: str) -> None:
    found = metric(name)
    signature = found.signature(_RECORDS[found.scorer.kind][1])
    assert len(signature.split(" ; ")) == (1 if name == "rouge" else len(found.scorer.figures))


@pytest.mark.parametrize("task", glue_tasks())
def test_a_glue_task_has_exactly_its_official_figures(task: str) -> None:
    found = glue_metric(task)
    values = found.compute(
        predictions=_RECORDS[found.scorer.kind][0], references=_RECORDS[found.scorer.kind][1]
    )
    assert values is not None
    assert list(values) == _GLUE[task]
    assert values == {k: metric(k).compute(**_arguments(found.scorer.kind))[k] for k in values}  # type: ignore[index]


def _arguments(kind: Kind) -> dict[str, list[Any]]:
    return {"predictions": _RECORDS[kind][0], "references": _RECORDS[kind][1]}


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean bleu"):
        metric("blue")
    with pytest.raises(ConfigurationError, match="Did you mean mnli_matched"):
        glue_metric("mnli-matched")
    with pytest.raises(ConfigurationError, match="Choose one of accuracy, "):
        metric("zzz")


@pytest.mark.parametrize("name", ["meteor", "bertscore", "bleurt", "moverscore"])
def test_a_metric_that_needs_a_network_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"metric={name} to work offline.*choose"):
        metric(name)


@pytest.mark.parametrize("name", ["bleu", "meteor"])
def test_a_name_is_registered_once(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"metric={name} to be new"):
        register(name, "somewhere:else")


@pytest.mark.parametrize("name", metrics())
def test_every_metric_has_its_row_in_the_document(name: str, repository: Path) -> None:
    document = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"\n| `{name}` |" in document
