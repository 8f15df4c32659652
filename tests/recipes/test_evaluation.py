from typing import Any

import pytest
import torch

from dpft.losses import Pooling
from dpft.performance import Performance
from dpft.privacy import EvaluationStatus, Privacy
from dpft.recipes.config.schema import Architecture
from dpft.recipes.metrics import accuracy as accuracy_module
from dpft.recipes.metrics.evaluation import evaluate, predict_logits
from dpft.recipes.models import Encoded, load
from dpft.recipes.tasks import Split
from dpft.recipes.tasks.embedded import Embedded, EmbeddedSettings


@pytest.fixture(scope="module")
def classifier() -> tuple[torch.nn.Module, Encoded]:
    task = Embedded(EmbeddedSettings())
    loaded = load("embedded", Architecture(), task.labels, 0)
    return loaded.model, loaded.encode(task.load(Split.VALIDATION)[:40], task)


def privacy(**fields: object) -> Privacy:
    given = {"delta": 1e-5, "noise_multiplier": 1.0, "steps": 1} | fields
    return Privacy(**given)  # type: ignore[arg-type]


def test_logits_come_back_in_the_order_of_the_records_however_they_are_batched(
    classifier: tuple[torch.nn.Module, Encoded],
) -> None:
    model, encoded = classifier
    alone = Performance(max_physical_batch=1)
    together = predict_logits(model, encoded, Pooling.MEAN)
    one_by_one = predict_logits(model, encoded, Pooling.MEAN, alone)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=0)


def test_accuracy_counts_what_is_right(classifier: tuple[torch.nn.Module, Encoded]) -> None:
    model, encoded = classifier
    predicted = predict_logits(model, encoded, Pooling.MEAN).argmax(-1).tolist()
    rows = [row | {"labels": label} for row, label in zip(encoded.records, predicted, strict=True)]
    rows[0]["labels"] = (predicted[0] + 1) % 5
    relabelled = Encoded(rows, encoded.pad_token_id)
    found = evaluate(model, relabelled, Pooling.MEAN, privacy(evaluation=EvaluationStatus.PUBLIC))
    assert found.values == {"accuracy": 39 / 40}


@pytest.mark.parametrize("status", [None, EvaluationStatus.NONE])
def test_records_nobody_declared_public_are_not_even_predicted(
    status: EvaluationStatus | None,
) -> None:
    untouchable = torch.nn.Module()
    assert (
        evaluate(untouchable, Encoded([], 0), Pooling.MEAN, privacy(evaluation=status)).values == {}
    )


@pytest.mark.parametrize("stated", [40, None])
def test_one_held_out_record_moves_the_count_by_at_most_one(
    stated: int | None,
    classifier: tuple[torch.nn.Module, Encoded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accuracy_module, "discrete_laplace", lambda _: 0)
    model, encoded = classifier
    noisy = privacy(
        evaluation=EvaluationStatus.NOISY, evaluation_epsilon=1.0, evaluation_records=stated
    )

    def count(rows: list[dict[str, Any]]) -> float:
        found = evaluate(model, Encoded(rows, encoded.pad_token_id), Pooling.MEAN, noisy)
        return found.values["accuracy"] * (stated or len(rows))

    rows = encoded.records
    for neighbour in (rows[1:], [rows[0] | {"labels": -1}, *rows[1:]]):
        assert abs(count(rows) - count(neighbour)) <= 1 + 1e-9
    found = evaluate(model, Encoded(rows[1:], encoded.pad_token_id), Pooling.MEAN, noisy)
    share = found.values["accuracy"] * (stated or len(rows) - 1)
    assert share == pytest.approx(round(share), abs=1e-9)  # the divisor is the stated number
